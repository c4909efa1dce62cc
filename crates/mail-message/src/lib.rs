//! RFC 5322 messages: walking, summaries for IMAP, header edits and delivery status notifications.
//!
//! Everything here takes any octets a peer may send: nothing panics, all passes are linear in the
//! size of the message, and depth and number of parts are bounded. A message is never changed but
//! by fields put in front of it.

#![expect(
    clippy::format_push_string,
    reason = "headers are rendered rarely, and `write!` has a result that cannot fail"
)]

mod address;
mod body_structure;
mod date;
pub mod dsn;
mod encoded_words;
mod envelope;
mod fields;
mod header;
mod imap_text;
mod lexer;
mod params;
mod part_index;
pub mod search;
mod structure;
pub mod submission;
mod summary;
pub mod trace;
mod transfer;

pub use date::MailDate;
pub use fields::{COMMON_FIELDS, all_common, filter_fields};
pub use header::{HeaderField, HeaderFields, header_len};
pub use part_index::{PartIndex, PartIndexError, Section};
pub use summary::{Summary, ThreadIds, summarize};
