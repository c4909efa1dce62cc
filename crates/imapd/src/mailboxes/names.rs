//! What mailboxes are called: one name for each, so that they grow with the mailboxes alone.

use std::collections::HashMap;
use std::sync::Arc;

use super::Key;

/// Where a mailbox of a name was seen last. It may be elsewhere by now: the store is asked.
#[derive(Debug, Default)]
pub(super) struct Names {
    ids: HashMap<(u64, Arc<str>), u64>,
    names: HashMap<Key, Arc<str>>,
}

impl Names {
    pub(super) fn id(&self, account: u64, name: &str) -> Option<u64> {
        self.ids.get(&(account, Arc::from(name))).copied()
    }

    /// The mailbox has this name, and no other one any more; no other mailbox has it.
    pub(super) fn insert(&mut self, key: Key, name: &str) {
        let name: Arc<str> = Arc::from(name);
        if let Some(former) = self.names.insert(key, name.clone()) {
            self.ids.remove(&(key.0, former));
        }
        let other = self.ids.insert((key.0, name), key.1);
        if let Some(other) = other.filter(|other| *other != key.1) {
            self.names.remove(&(key.0, other));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// Forgets the names of all others.
    pub(super) fn retain(&mut self, is_kept: impl Fn(Key) -> bool) {
        self.names.retain(|key, _| is_kept(*key));
        self.ids.retain(|(account, _), id| is_kept((*account, *id)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mailbox_has_one_name() {
        let mut names = Names::default();
        for n in 0..100 {
            names.insert((7, 1), &format!("name {n}"));
        }
        assert_eq!((names.len(), names.ids.len()), (1, 1));
        assert_eq!(
            (names.id(7, "name 99"), names.id(7, "name 98")),
            (Some(1), None)
        );
        names.insert((7, 1), "name 99");
        names.insert((8, 1), "name 99");
        assert_eq!((names.len(), names.ids.len()), (2, 2));
        // Renamed and made anew: the name is another mailbox's.
        names.insert((7, 2), "name 99");
        assert_eq!(
            (names.id(7, "name 99"), names.id(8, "name 99")),
            (Some(2), Some(1))
        );
        assert_eq!((names.len(), names.ids.len()), (2, 2));
        names.insert((7, 1), "other");
        assert_eq!(
            (names.id(7, "name 99"), names.id(7, "other")),
            (Some(2), Some(1))
        );
        names.retain(|key| key == (7, 1));
        assert_eq!((names.len(), names.ids.len()), (1, 1));
        assert_eq!(names.id(7, "other"), Some(1));
    }
}
