//! Mail that is durable in the journal and waits in memory for the account's own files.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use crate::journal::Mark;
use crate::write::Mail;
use crate::{DeliveryKey, MessageState};

/// Octets that a message costs here beside its record: its summary and rows.
const OVERHEAD: usize = 2048;

/// Keys with this bit in their queue id are not the queue's, and do not rise.
pub(super) const NOT_OF_THE_QUEUE: u64 = 1 << 63;
/// Keys of late that are known without the index: the queue's ids rise, but for those that are tried
/// again or come by another way.
const LATE: usize = 256;
/// How many of them an index is asked for when it is opened: less than a page has.
pub(super) const LATE_AT_OPENING: usize = 64;

/// The highest keys of the queue that were delivered.
#[derive(Debug, Default)]
struct Late {
    /// In their order.
    keys: VecDeque<DeliveryKey>,
    /// All above it are here.
    floor: Option<DeliveryKey>,
}

impl Late {
    fn note(&mut self, key: DeliveryKey) {
        if key.queue_id & NOT_OF_THE_QUEUE != 0 || Some(key) <= self.floor {
            return;
        }
        if let Err(at) = self.keys.binary_search(&key) {
            self.keys.insert(at, key);
        }
        if self.keys.len() > LATE {
            self.floor = self.keys.pop_front();
        }
    }

    /// `None` if only the index knows.
    fn has(&self, key: DeliveryKey) -> Option<bool> {
        let is_known = key.queue_id & NOT_OF_THE_QUEUE == 0 && Some(key) > self.floor;
        is_known.then(|| self.keys.binary_search(&key).is_ok())
    }
}

/// What came of late. An index has all that is not here.
#[derive(Debug)]
pub(super) struct Recent {
    mails: Vec<Arc<Mail>>,
    keys: HashSet<DeliveryKey>,
    octets: usize,
    late: Late,
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
    /// `late` are the highest keys of the queue that the index has, the highest first: all of them
    /// if they are fewer than [`LATE_AT_OPENING`].
    pub(super) fn new(late: &[DeliveryKey]) -> Self {
        let has_all = late.len() < LATE_AT_OPENING;
        let late = Late {
            keys: late.iter().rev().copied().collect(),
            floor: late.last().copied().filter(|_| !has_all),
        };
        Self {
            mails: Vec::new(),
            keys: HashSet::new(),
            octets: 0,
            late,
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
        self.late.note(key);
    }

    /// Was it delivered? `None` if only the index knows.
    pub(super) fn is_delivered(&self, key: DeliveryKey) -> Option<bool> {
        if self.keys.contains(&key) {
            return Some(true);
        }
        self.late.has(key)
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(queue_id: u64) -> DeliveryKey {
        DeliveryKey { queue_id, index: 1 }
    }

    proptest! {
        #[test]
        fn what_is_known_of_keys_is_right(
            old in prop::collection::btree_set(0..2000_u64, 0..200),
            new in prop::collection::vec(0..2000_u64, 0..600),
            asked in prop::collection::vec(0..2000_u64, 50),
        ) {
            let opening: Vec<_> = old.iter().rev().take(LATE_AT_OPENING).copied().map(key).collect();
            let mut recent = Recent::new(&opening);
            let mut delivered = old;
            for queue_id in new {
                recent.note_key(key(queue_id));
                recent.note_key(key(queue_id | NOT_OF_THE_QUEUE));
                delivered.insert(queue_id);
            }
            let highest = delivered.last().copied();
            for queue_id in asked {
                let is_delivered = delivered.contains(&queue_id);
                let known = recent.is_delivered(key(queue_id));
                prop_assert!(known.is_none_or(|known| known == is_delivered));
                // Only old ones have to be looked up.
                prop_assert!(known.is_some() || Some(queue_id) <= highest);
                let other = recent.is_delivered(key(queue_id | NOT_OF_THE_QUEUE));
                prop_assert_eq!(other, None);
            }
        }
    }

    #[test]
    fn ids_that_nearly_rise_are_known() {
        let mut recent = Recent::new(&[]);
        for queue_id in 0..10_000 {
            recent.note_key(key(queue_id ^ 63));
            assert_eq!(recent.is_delivered(key(queue_id ^ 63)), Some(true));
            assert_eq!(recent.is_delivered(key((queue_id + 64) ^ 63)), Some(false));
        }
    }
}
