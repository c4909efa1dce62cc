//! What can be done to an account's mail, and what comes of it.

use std::sync::Arc;

use bytes::Bytes;
use mail_message::Summary;
use mail_types::{Flags, MailboxId, Uid, UidSet};

use crate::{MailboxName, MessageState, SpecialUse};

/// What makes a delivery one and the same, however often it is sent: the recipient of a message of
/// the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryKey {
    /// The message's queue id.
    pub queue_id: u64,
    /// The recipient's place in the message.
    pub index: u32,
}

/// A mailbox by name or id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// By id.
    Id(MailboxId),
    /// By name.
    Name(MailboxName),
}

/// Flags as a client names them: a keyword may be new to the mailbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlagNames {
    /// The system flags.
    pub system: Flags,
    /// The keywords.
    pub keywords: Vec<String>,
}

/// A message for a mailbox.
#[derive(Debug, Clone)]
pub struct Deliver {
    /// Set for mail of the queue: a second delivery with the same key stores nothing.
    pub key: Option<DeliveryKey>,
    /// Where to.
    pub mailbox: Target,
    /// The UID that it should have, as an import wants it. One that is below UIDNEXT is not given
    /// again: the message then gets UIDNEXT.
    pub uid: Option<Uid>,
    /// Its flags.
    pub flags: FlagNames,
    /// Unix time in seconds (RFC 3501 §2.3.3).
    pub internal_date: i64,
    /// The zone that the date is shown in, minutes east.
    pub internal_offset: i32,
    /// The message in pieces that stand behind each other.
    pub content: Vec<Bytes>,
    /// What was found in the whole of it.
    pub summary: Arc<Summary>,
    /// Octets the account may have; 0 is no limit.
    pub quota: u64,
}

/// How STORE changes flags (RFC 3501 §6.4.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagMode {
    /// `+FLAGS`
    Add,
    /// `-FLAGS`
    Remove,
    /// `FLAGS`
    Replace,
}

/// STORE.
#[derive(Debug, Clone)]
pub struct FlagChange {
    /// Where.
    pub mailbox: MailboxId,
    /// Which.
    pub uids: UidSet,
    /// How.
    pub mode: FlagMode,
    /// What.
    pub flags: FlagNames,
    /// Messages with a higher MODSEQ are left alone (RFC 7162 §3.1.3).
    pub unchanged_since: Option<u64>,
}

/// COPY and MOVE.
#[derive(Debug, Clone)]
pub struct CopyMail {
    /// From where.
    pub mailbox: MailboxId,
    /// Which.
    pub uids: UidSet,
    /// Where to.
    pub target: MailboxName,
    /// Remove from the source in the same transaction (RFC 6851).
    pub remove: bool,
    /// Octets the account may have; 0 is no limit.
    pub quota: u64,
}

/// EXPUNGE.
#[derive(Debug, Clone)]
pub struct Expunge {
    /// Where.
    pub mailbox: MailboxId,
    /// Only these; `None` is all.
    pub uids: Option<UidSet>,
    /// Only those with `\Deleted`.
    pub only_deleted: bool,
}

/// What an import knows of a mailbox that was elsewhere before. An empty mailbox that never had a
/// message takes over the UIDVALIDITY; UIDNEXT and MODSEQ only grow.
#[derive(Debug, Clone)]
pub struct Adopt {
    /// The mailbox, which is there.
    pub mailbox: MailboxName,
    /// UIDVALIDITY; 0 is not known.
    pub uid_validity: u32,
    /// UIDNEXT; 0 is not known.
    pub uid_next: u32,
}

/// A change of an account.
#[derive(Debug, Clone)]
pub enum Operation {
    /// An import begins with a mailbox.
    Adopt(Adopt),
    /// CREATE.
    Create(MailboxName, SpecialUse),
    /// COPY or MOVE.
    Copy(CopyMail),
    /// DELETE of a mailbox.
    Delete(MailboxName),
    /// A delivery or APPEND.
    Deliver(Box<Deliver>),
    /// EXPUNGE.
    Expunge(Expunge),
    /// STORE.
    Flags(FlagChange),
    /// RENAME.
    Rename(MailboxName, MailboxName),
    /// SUBSCRIBE and UNSUBSCRIBE.
    Subscribe(MailboxName, bool),
}

impl Deliver {
    /// Octets of the message.
    pub(crate) fn size(&self) -> u64 {
        self.content.iter().map(|piece| piece.len() as u64).sum()
    }
}

/// What an operation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// What the mailbox has after an import has begun.
    Adopted {
        /// Which.
        mailbox: MailboxId,
        /// UIDVALIDITY.
        uid_validity: u32,
        /// UIDNEXT.
        uid_next: u32,
    },
    /// COPY or MOVE.
    Copied {
        /// The target.
        mailbox: MailboxId,
        /// The target's.
        uid_validity: u32,
        /// What was copied.
        source: UidSet,
        /// What it became, in the same order.
        target: UidSet,
        /// The target's MODSEQ.
        modseq: u64,
    },
    /// CREATE.
    Created(MailboxId),
    /// A delivery or APPEND.
    Delivered {
        /// Where it is.
        mailbox: MailboxId,
        /// The mailbox's.
        uid_validity: u32,
        /// The message's.
        uid: Uid,
        /// Of the mailbox after it.
        modseq: u64,
    },
    /// The key is known: the message was stored before.
    DeliveredBefore,
    /// Nothing to tell.
    Done,
    /// EXPUNGE.
    Expunged {
        /// What is gone.
        uids: UidSet,
        /// Of the mailbox after it.
        modseq: u64,
    },
    /// STORE.
    FlagsChanged {
        /// Of all messages changed; `None` if none was.
        modseq: Option<u64>,
        /// The state behind the change of all that were named, are there and met the condition.
        messages: Vec<MessageState>,
        /// Those that did not meet the condition.
        modified: UidSet,
        /// The mailbox's keywords.
        keywords: Vec<String>,
    },
}

/// Why an operation is refused; the account is as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// A mailbox of that name is there.
    #[error("the mailbox exists already")]
    AlreadyExists,
    /// INBOX, where INBOX cannot be.
    #[error("that cannot be done to INBOX")]
    Inbox,
    /// More mailboxes than an account may have.
    #[error("the account has as many mailboxes as it may have")]
    Limit,
    /// No such mailbox.
    #[error("there is no such mailbox")]
    NoSuchMailbox,
    /// No room within the quota.
    #[error("the account's quota is used up")]
    OverQuota,
    /// All keywords of the mailbox are taken.
    #[error("the mailbox has as many keywords as it may have")]
    TooManyKeywords,
    /// All UIDs are used.
    #[error("the mailbox has no UIDs left")]
    UidsUsedUp,
}
