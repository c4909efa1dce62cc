//! SMTP as sans-IO state machines, server and client (RFC 5321).

pub mod client;
mod reply;
pub mod server;

pub use reply::{AuthFailure, Refusal, Reply, ReplyCode, ReplyCodeError};
