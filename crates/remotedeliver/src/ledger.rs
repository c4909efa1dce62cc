//! Who is being served and who was served: so that a message that queued hands out again, since it
//! died before it had noted the result, is not delivered again.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use mail_types::{Action, QueueId};
use tokio::sync::Notify;

use crate::deliver::Attempt;

/// A recipient of a message: queued's idempotency key, and when the message was accepted, since a
/// queue that is made anew may begin its ids anew.
type Key = (QueueId, u64, u32);

#[derive(Debug)]
pub(crate) struct Ledger {
    inner: Mutex<Inner>,
    released: Notify,
}

#[derive(Debug)]
struct Inner {
    busy: HashSet<Key>,
    /// Relayed recipients alone: others may be tried again.
    relayed: LruCache<Key, Attempt>,
}

/// Recipients that nobody else serves meanwhile.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    ledger: &'a Ledger,
    keys: Vec<Key>,
}

impl Ledger {
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = NonZeroUsize::new(capacity).unwrap_or(NonZeroUsize::MIN);
        Self {
            inner: Mutex::new(Inner {
                busy: HashSet::new(),
                relayed: LruCache::new(capacity),
            }),
            released: Notify::new(),
        }
    }

    /// Waits until nobody else serves any of them.
    pub(crate) async fn claim(
        &self,
        message: QueueId,
        accepted_at: u64,
        indices: &[u32],
    ) -> Claim<'_> {
        let keys: Vec<Key> = indices
            .iter()
            .map(|index| (message, accepted_at, *index))
            .collect();
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            // Before looking, so that no release is missed.
            released.as_mut().enable();
            if self.try_claim(&keys) {
                return Claim { ledger: self, keys };
            }
            released.await;
        }
    }

    fn try_claim(&self, keys: &[Key]) -> bool {
        let mut inner = self.lock();
        let free = keys.iter().all(|key| !inner.busy.contains(key));
        if free {
            inner.busy.extend(keys);
        }
        free
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Whole between any two statements.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim<'_> {
    /// The outcomes that are known already, in the order of the indices.
    pub(crate) fn known(&self) -> Vec<Option<Attempt>> {
        let mut inner = self.ledger.lock();
        self.keys
            .iter()
            .map(|key| inner.relayed.get(key).cloned())
            .collect()
    }

    /// Notes the results, in the order of the indices.
    pub(crate) fn note(&self, attempts: &[Attempt]) {
        let mut inner = self.ledger.lock();
        for (key, attempt) in self.keys.iter().zip(attempts) {
            if attempt.outcome.action == Action::Relayed {
                inner.relayed.put(*key, attempt.clone());
            }
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut inner = self.ledger.lock();
        for key in &self.keys {
            inner.busy.remove(key);
        }
        drop(inner);
        self.ledger.released.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_types::{EnhancedCode, Outcome};

    fn relayed() -> Attempt {
        let outcome = Outcome {
            action: Action::Relayed,
            ..Outcome::local(EnhancedCode::OK, "250 ok")
        };
        Attempt::new(outcome, true)
    }

    #[tokio::test]
    async fn a_recipient_is_served_by_one_and_once() {
        let ledger = Ledger::new(10);
        let message = QueueId::from(7);
        let first = ledger.claim(message, 5, &[0, 1]).await;
        // Another recipient is another matter.
        drop(ledger.claim(message, 5, &[2]).await);
        assert_eq!(first.known(), [None, None]);
        {
            let second = ledger.claim(message, 5, &[1]);
            tokio::pin!(second);
            assert!(futures_util::poll!(&mut second).is_pending());
            let failed = Outcome::local(EnhancedCode::NO_ANSWER, "no");
            first.note(&[Attempt::from(failed), relayed()]);
            drop(first);
            assert_eq!(second.await.known(), [Some(relayed())]);
        }
        // Another message of the same number.
        assert_eq!(ledger.claim(message, 6, &[1]).await.known(), [None]);
        // What failed may be tried again.
        assert_eq!(ledger.claim(message, 5, &[0]).await.known(), [None]);
    }
}
