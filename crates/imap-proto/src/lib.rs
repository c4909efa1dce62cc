//! IMAP types, parser, encoder and session as a sans-IO state machine (RFC 3501).
//!
//! [`Session`] turns what a client sends into [`Event`]s and keeps the rules of the conversation:
//! which command is possible when, how large lines and literals may be, how long a client may be
//! silent. What the events ask for is done by its user, who writes responses with [`encode`].

pub mod command;
mod date;
pub mod encode;
mod fetch_item;
mod limits;
mod mailbox_name;
mod parse;
mod response;
mod search_key;
mod sequence_set;
mod session;
mod tag;

pub use command::{
    Append, AppendNext, Command, FlagList, ListReturn, ListSelect, StatusItem, StoreMode,
};
pub use date::{Date, DateTime};
pub use fetch_item::{BodySection, FetchItem, Section, SectionText};
pub use limits::Limits;
pub use mailbox_name::{MailboxName, MailboxNameError};
pub use parse::{ParseError, parse_command};
pub use response::{Code, Condition};
pub use search_key::{SearchKey, SearchReturn};
pub use sequence_set::{Bound, SequenceSet};
pub use session::{CloseReason, Event, Session, State};
pub use tag::Tag;
