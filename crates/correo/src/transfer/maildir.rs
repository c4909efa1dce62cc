//! Maildir++, with Dovecot's files for UIDs and keywords.

mod read;
mod write;

pub(crate) use read::read;
pub(crate) use write::Writer;

use super::flag;

/// Dovecot's file of UIDs.
const UIDLIST: &str = "dovecot-uidlist";
/// Dovecot's file of keywords: a letter's number, and the name.
const KEYWORDS: &str = "dovecot-keywords";
/// Names of subscribed mailboxes.
const SUBSCRIPTIONS: &str = "subscriptions";
/// Letters for keywords: `a` to `z`.
const LETTERS: usize = 26;

/// The letters of system flags, in their order.
const FLAGS: [(u8, u64); 5] = [
    (b'D', flag::DRAFT),
    (b'F', flag::FLAGGED),
    (b'R', flag::ANSWERED),
    (b'S', flag::SEEN),
    (b'T', flag::DELETED),
];
