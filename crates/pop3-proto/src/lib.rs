//! POP3 as a sans-IO state machine (RFC 1939, 2449, 2595, 5034).
//!
//! [`Session`] is the server's side of one conversation. It takes what the client sends, asks its
//! shell by [`Event`]s, and gives what is to be sent back; it does no I/O and reads no clock.

mod command;
mod content;
mod reply;
mod session;

pub use content::ContentWriter;
pub use reply::{AuthFailure, BUSY, MaildropFailure};
pub use session::{AuthAnswer, Event, Limits, Message, Session, Settings};
