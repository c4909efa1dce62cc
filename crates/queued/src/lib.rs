//! The durable queue: accepts mail, finds each recipient's way, gives tasks to delivery agents,
//! retries, and tells senders what became of their mail.
//!
//! The parts: [`scheduler`] decides, without I/O; [`queue`] runs it and does what it wants;
//! `submission`, `agents` and `admin` are the three gRPC services; [`router`] asks the directory;
//! `report` writes delivery status notifications. What is where when the process dies is in
//! `docs/queue-states.md`.

mod admin;
mod agents;
mod configure;
mod convert;
mod driver;
mod read;
mod report;
mod submission;

pub mod clock;
pub mod queue;
pub mod router;
pub mod routes;
pub mod scheduler;
/// How the queue behaves.
pub mod settings;

pub use configure::{ConfigureError, settings};
