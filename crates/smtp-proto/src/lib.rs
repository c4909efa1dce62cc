//! SMTP as sans-IO state machines, server and client (RFC 5321).

pub mod client;
pub mod server;
