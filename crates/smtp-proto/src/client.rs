//! Client side of one SMTP conversation (RFC 5321 §4).
//!
//! [`Session`] reads bytes and writes bytes: greeting, EHLO, STARTTLS, AUTH, then any number of
//! transactions. What needs a socket, a clock or a secret, its owner does when an [`Event`] asks.

mod envelope;
mod event;
mod extensions;
mod failure;
mod reply_parser;
mod session;
mod settings;
mod stuffing;

pub use envelope::{Envelope, Recipient};
pub use event::{AuthPrompt, AuthStep, Event};
pub use extensions::Extensions;
pub use failure::{Cause, Failure, Stage};
pub use reply_parser::{ReplyError, ReplyParser};
pub use session::Session;
pub use settings::{Limits, Opening, Settings, Timeouts, TlsPolicy};
pub use stuffing::DotStuffer;
