//! Mail of an account in files that others read: Maildir++ and mbox.

pub(crate) mod date;
pub(crate) mod lines;
pub(crate) mod maildir;
pub(crate) mod mbox;
pub(crate) mod names;

#[cfg(test)]
mod tests;

use mail_rpc::pb::mailbox::v1 as pb;
use sha2::{Digest, Sha256};

use crate::failure::Failure;

/// A message with all that files tell of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mail {
    /// 0 is none.
    pub(crate) uid: u32,
    /// The system flags' bits.
    pub(crate) system: u64,
    pub(crate) keywords: Vec<String>,
    /// Unix time in seconds.
    pub(crate) date: i64,
    /// The zone's offset in minutes.
    pub(crate) offset: i32,
    pub(crate) content: Vec<u8>,
    /// What tells it from all others of its source.
    pub(crate) key: Vec<u8>,
    /// For people.
    pub(crate) name: String,
}

/// The system flags' bits, as the contract has them.
pub(crate) mod flag {
    pub(crate) const SEEN: u64 = 1;
    pub(crate) const ANSWERED: u64 = 1 << 1;
    pub(crate) const FLAGGED: u64 = 1 << 2;
    pub(crate) const DELETED: u64 = 1 << 3;
    pub(crate) const DRAFT: u64 = 1 << 4;
}

/// Where exported mail goes: calls come in the order of the account's mailboxes.
pub(crate) trait Sink {
    /// A mailbox; what follows is in it.
    fn mailbox(&mut self, facts: &pb::MailboxFacts) -> Result<(), Failure>;
    /// A whole message.
    fn mail(&mut self, mail: &Mail) -> Result<(), Failure>;
    /// All is there. Answers what the form cannot say.
    fn finish(&mut self) -> Result<Vec<String>, Failure>;
}

/// Mailboxes that are subscribed to and have no file of their own.
fn subscribe(names: Vec<String>, target: &mut dyn Target) -> Result<(), Failure> {
    for name in names {
        target.mailbox(pb::MailboxFacts {
            name,
            subscribed: true,
            ..pb::MailboxFacts::default()
        })?;
    }
    Ok(())
}

/// Where imported mail goes.
pub(crate) trait Target {
    /// A mailbox; what follows is in it. UIDNEXT is said at its end.
    fn mailbox(&mut self, facts: pb::MailboxFacts) -> Result<(), Failure>;
    fn mail(&mut self, mail: Mail) -> Result<(), Failure>;
    /// Something that was left out.
    fn skipped(&mut self, what: String);
    /// Octets that were read.
    fn progress(&mut self, octets: u64);
}

/// A key of an import.
pub(crate) fn key(parts: &[&[u8]]) -> Vec<u8> {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().to_vec()
}
