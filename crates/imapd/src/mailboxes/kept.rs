//! Mailboxes at which nobody looks just now, as they were left.

use std::collections::{BTreeMap, HashMap};

use super::Key;
use super::feed::Known;

/// What a mailbox takes beside its messages: its places in maps, its keywords' list.
const EACH: usize = 256;

/// The cache: those that were left longest ago go first.
#[derive(Debug)]
pub(super) struct Kept {
    budget: usize,
    octets: usize,
    next: u64,
    mailboxes: HashMap<Key, One>,
    order: BTreeMap<u64, Key>,
}

#[derive(Debug)]
struct One {
    known: Known,
    octets: usize,
    number: u64,
}

impl Kept {
    /// At most so many octets.
    pub(super) fn new(budget: usize) -> Self {
        Self {
            budget,
            octets: 0,
            next: 0,
            mailboxes: HashMap::new(),
            order: BTreeMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.mailboxes.len()
    }

    pub(super) fn has(&self, key: Key) -> bool {
        self.mailboxes.contains_key(&key)
    }

    pub(super) fn get(&mut self, key: Key) -> Option<Known> {
        self.mailboxes.get(&key).map(|one| one.known.clone())
    }

    pub(super) fn put(&mut self, key: Key, known: Known) {
        self.remove(key);
        let octets = EACH + known.version.octets() + known.unclaimed.octets();
        if octets > self.budget {
            return;
        }
        self.next += 1;
        self.octets += octets;
        self.order.insert(self.next, key);
        let number = self.next;
        self.mailboxes.insert(
            key,
            One {
                known,
                octets,
                number,
            },
        );
        while self.octets > self.budget {
            let Some((_, oldest)) = self.order.first_key_value() else {
                return;
            };
            self.remove(*oldest);
        }
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Known> {
        let one = self.mailboxes.remove(&key)?;
        self.octets -= one.octets;
        self.order.remove(&one.number);
        Some(one.known)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::mailboxes::{Recent, Version};

    fn known(mailbox_id: u64) -> Known {
        Known {
            mailbox_id,
            epoch: 1,
            version: Arc::new(Version::default()),
            unclaimed: Recent::default(),
        }
    }

    #[test]
    fn the_oldest_goes_first() {
        let each = EACH + Version::default().octets();
        let mut kept = Kept::new(3 * each);
        for id in [1, 2, 3, 1, 4] {
            kept.put((7, id), known(id));
        }
        let there = |kept: &mut Kept, id| kept.get((7, id)).map(|known| known.mailbox_id);
        let ids = [1, 2, 3, 4, 5].map(|id| there(&mut kept, id));
        assert_eq!(ids, [Some(1), None, Some(3), Some(4), None]);
        assert_eq!(
            (kept.len(), kept.octets, kept.order.len()),
            (3, 3 * each, 3)
        );
        kept.remove((7, 1));
        assert_eq!(
            (kept.len(), kept.octets, kept.has((7, 1))),
            (2, 2 * each, false)
        );
        let mut none = Kept::new(0);
        none.put((7, 1), known(1));
        assert_eq!((none.len(), none.octets), (0, 0));
    }
}
