//! Rigs for tests: suites on free ports, clients, peers and name servers.
//!
//! Everything is synchronous: a test is a script that waits for other processes. Waiting is for
//! conditions, with time-outs that a loaded machine does not reach; nothing sleeps to be in time.

mod dialogue;
mod dns;
mod interrupt;
mod netns;
mod ports;
mod postfix;
mod process;
mod suite;
mod tool;
pub mod transcript;
mod wait;

pub use dialogue::Dialogue;
pub use dns::{DnsServer, Zone, reverse_records};
pub use interrupt::{check_interrupt, interrupted, unwind_on_signals};
pub use netns::{Host, Network};
pub use ports::Ports;
pub use postfix::{POSTFIX_SERVICES, Postfix};
pub use process::Process;
pub use suite::{Daemon, Suite, SuiteBuilder, correo};
pub use tool::{Output, Tool, has_root, have};
pub use wait::{PATIENCE, wait_until};
