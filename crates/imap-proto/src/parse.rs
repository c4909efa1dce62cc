//! The formal syntax of RFC 3501 §9 and of the extensions.

mod append;
mod command;
mod cursor;
mod fetch;
mod list;
mod search;
mod store;

pub(crate) use append::{AppendHead, parse_append, parse_next};
pub use command::parse_command;
pub(crate) use cursor::Cursor;

/// Why octets are no command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// A date that is none.
    #[error("not a date")]
    BadDate,
    /// Not modified UTF-7.
    #[error("the mailbox name is not modified UTF-7")]
    BadMailboxName,
    /// A number that is none or too large.
    #[error("not a number, or too large")]
    BadNumber,
    /// Not a set of sequence numbers or UIDs.
    #[error("not a set of messages")]
    BadSequenceSet,
    /// A literal's octets are not here yet.
    #[error("a literal is not complete")]
    Incomplete,
    /// Something else stands there than the syntax wants.
    #[error("expected {0}")]
    Expected(&'static str),
    /// More levels of parentheses, NOT and OR than any client writes.
    #[error("nested too deep")]
    TooDeep,
    /// There is no such command.
    #[error("unknown command")]
    UnknownCommand,
    /// There is no such item or option.
    #[error("unknown {0}")]
    Unknown(&'static str),
}
