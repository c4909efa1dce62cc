//! mbox files, one a mailbox, quoted as mboxrd: `>` goes in front of each `From ` at the beginning of
//! a line, however many are there.
//!
//! UIDs and flags stand in fields at the head of each message: X-UID, Status, X-Status, X-Keywords,
//! and X-IMAPbase in the first one, as Dovecot, mutt and c-client read them. A message's own fields
//! of such a name are kept under another one.

mod read;
mod write;

pub(crate) use read::read;
pub(crate) use write::Writer;

use super::flag;

/// Fields that are ours in an mbox, in lower case.
const OURS: [&str; 7] = [
    "x-uid",
    "status",
    "x-status",
    "x-keywords",
    "x-imapbase",
    "x-imap",
    "content-length",
];
/// What goes in front of a message's own field with such a name.
const KEPT: &str = "X-Kept-";
/// What a folder's children are in, as Thunderbird has it.
const CHILDREN: &str = ".sbd";
/// Names of subscribed mailboxes, as Dovecot writes them.
const SUBSCRIPTIONS: &str = ".subscriptions";

/// Letters of `Status` and `X-Status`.
const STATUS: [(u8, u64); 5] = [
    (b'R', flag::SEEN),
    (b'A', flag::ANSWERED),
    (b'F', flag::FLAGGED),
    (b'T', flag::DRAFT),
    (b'D', flag::DELETED),
];

/// The field's name in a line, in lower case.
fn field(line: &[u8]) -> Option<String> {
    let end = line.iter().position(|octet| *octet == b':')?;
    let name = std::str::from_utf8(line.get(..end)?).ok()?;
    let is_name = !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_graphic());
    is_name.then(|| name.to_ascii_lowercase())
}

/// `From ` behind any number of `>`.
fn is_from(line: &[u8]) -> bool {
    let quotes = line.iter().take_while(|octet| **octet == b'>').count();
    line.get(quotes..)
        .is_some_and(|rest| rest.starts_with(b"From "))
}
