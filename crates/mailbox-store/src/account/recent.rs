//! Mail that is durable in the journal and waits in memory for the account's own files.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use crate::journal::Mark;
use crate::write::Mail;
use crate::{DeliveryKey, MessageState};

/// Octets that a message costs here beside its record: its summary and rows.
const OVERHEAD: usize = 2048;

/// What came of late. An index has all that is not here.
#[derive(Debug)]
pub(super) struct Recent {
    mails: Vec<Arc<Mail>>,
    keys: HashSet<DeliveryKey>,
    octets: usize,
    /// No key above it was ever delivered: queue ids rise, so that few keys are to be looked up.
    newest: Option<DeliveryKey>,
    /// Octets that only the journal has made durable, and how far it has them.
    lazy: u64,
    journaled: Mark,
    /// Mailboxes whose rows are newer in the state.
    unsaved: BTreeSet<u64>,
}

/// What of it goes into the index, with the state that the index has then.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) mails: Vec<Arc<Mail>>,
    pub(super) unsaved: BTreeSet<u64>,
    pub(super) lazy: u64,
    pub(super) journaled: Mark,
}

impl Part {
    pub(super) fn is_empty(&self) -> bool {
        self.mails.is_empty() && self.unsaved.is_empty()
    }
}

impl Recent {
    pub(super) fn new(newest: Option<DeliveryKey>) -> Self {
        Self {
            mails: Vec::new(),
            keys: HashSet::new(),
            octets: 0,
            newest,
            lazy: 0,
            journaled: Mark::default(),
            unsaved: BTreeSet::new(),
        }
    }

    /// Memory that it takes.
    pub(super) fn octets(&self) -> usize {
        self.octets
    }

    pub(super) fn lazy(&self) -> u64 {
        self.lazy
    }

    pub(super) fn is_empty(&self) -> bool {
        self.mails.is_empty()
    }

    /// The account's own files have all of it, durably.
    pub(super) fn is_settled(&self) -> bool {
        self.lazy == 0 && self.is_empty() && self.unsaved.is_empty()
    }

    pub(super) fn note_unsaved(&mut self, mailbox: u64) {
        self.unsaved.insert(mailbox);
    }

    pub(super) fn note_key(&mut self, key: DeliveryKey) {
        self.newest = self.newest.max(Some(key));
    }

    /// Was it delivered? `None` if only the index knows.
    pub(super) fn is_delivered(&self, key: DeliveryKey) -> Option<bool> {
        if Some(key) > self.newest {
            return Some(false);
        }
        self.keys.contains(&key).then_some(true)
    }

    /// Returns the octets of memory that it takes more.
    pub(super) fn push(&mut self, mails: Vec<Mail>, mark: Mark) -> usize {
        let before = self.octets;
        for mail in mails {
            self.octets += mail.record.len() + OVERHEAD;
            self.lazy += mail.record.len() as u64;
            if let Some(key) = mail.key {
                self.keys.insert(key);
                self.note_key(key);
            }
            self.mails.push(Arc::new(mail));
        }
        self.journaled = self.journaled.max(mark);
        self.octets - before
    }

    pub(super) fn part(&self) -> Part {
        Part {
            mails: self.mails.clone(),
            unsaved: self.unsaved.clone(),
            lazy: self.lazy,
            journaled: self.journaled,
        }
    }

    /// The index has that part. Returns the octets of memory that it took.
    pub(super) fn drain(&mut self, part: &Part) -> usize {
        let before = self.octets;
        for mail in self.mails.drain(..part.mails.len()) {
            self.octets -= mail.record.len() + OVERHEAD;
            if let Some(key) = mail.key {
                self.keys.remove(&key);
            }
        }
        for id in &part.unsaved {
            self.unsaved.remove(id);
        }
        before - self.octets
    }

    /// The index has operations that only the journal has made durable, up to `mark`.
    pub(super) fn lag(&mut self, mark: Mark, octets: u64) {
        self.lazy += octets;
        self.journaled = self.journaled.max(mark);
    }

    /// And the index is durable.
    pub(super) fn settle(&mut self, part: &Part) {
        self.lazy -= part.lazy.min(self.lazy);
    }

    /// The messages in a mailbox that the index lacks.
    pub(super) fn messages(&self, mailbox: u64) -> impl Iterator<Item = MessageState> {
        let mails = self
            .mails
            .iter()
            .filter(move |mail| mail.mailbox == mailbox);
        mails.map(|mail| MessageState {
            uid: mail.uid,
            flags: mail.row.flags,
            modseq: mail.row.modseq,
            size: mail.row.size,
        })
    }
}
