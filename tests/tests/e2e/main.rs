//! The whole suite as its users and its peers see it: real daemons, real clients, one scenario a
//! file. `cargo build --workspace --bins` comes first; `cargo xtask test` does all of it.

mod support;

mod aliases;
mod authentication;
mod bad_input;
mod clients;
mod configuration;
mod delivery_reports;
mod dovecot;
mod durability;
mod foreign_mta;
mod imap;
mod imap_idle;
mod intact;
mod large_mail;
mod load;
mod pop3;
mod queue_control;
mod refusals;
mod same_domain;
mod secrets;
mod shutdown;
mod store;
mod telnet;
mod transfer;
mod two_domains;
mod up;
