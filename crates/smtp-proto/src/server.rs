//! Server side of one SMTP conversation (RFC 5321 §4).
//!
//! [`Session`] reads bytes and writes bytes; all that it cannot know itself it asks by an
//! [`Event`]: is the sender allowed, the recipient known, the message safe in the queue?

mod command;
mod content;
mod event;
mod line;
mod params;
mod path;
mod session;
mod settings;

pub use event::{AuthAnswer, AuthStep, CloseReason, Event};
pub use params::{BodyType, DsnReturn, MailFrom, Notify, RcptTo};
pub use session::{BUSY, Session};
pub use settings::{BareNewlines, Limits, Offer, Settings};
