//! Ids that never repeat: a counter, and a mark on disk that it never passes.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};

use mail_types::QueueId;

use crate::store::StoreError;

/// Ids that are reserved at once: a restart skips at most so many, and at 100,000 messages a
/// second the mark moves every half second, with a flush that is under way anyway.
const BLOCK: u64 = 1 << 16;

/// A new store starts at its time of birth, so that a queue that was lost and made anew does not
/// repeat ids that the delivery agents remember. A million ids a millisecond: the counter does not
/// overtake the clock.
pub(super) fn first_mark(born_at: u64) -> u64 {
    born_at << 20
}

#[derive(Debug)]
pub(super) struct IdSource {
    next: AtomicU64,
    /// On disk: every id below may have been given out.
    mark: AtomicU64,
    /// On its way there.
    appended: AtomicU64,
    /// Held while a new mark is on its way to the disk and ids wait for it.
    extending: Mutex<()>,
}

impl IdSource {
    /// Goes on from a mark on disk.
    pub(super) fn new(mark: u64) -> Self {
        Self {
            next: AtomicU64::new(mark + 1),
            mark: AtomicU64::new(mark + 1),
            appended: AtomicU64::new(mark + 1),
            extending: Mutex::new(()),
        }
    }

    /// The next id. `persist` puts a new mark on disk; it is called only when the block ran out.
    pub(super) fn next(
        &self,
        persist: impl Fn(u64) -> Result<(), StoreError>,
    ) -> Result<QueueId, StoreError> {
        let id = self.next.fetch_add(1, SeqCst);
        if id >= self.mark.load(SeqCst) {
            let _alone = self
                .extending
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if id >= self.mark.load(SeqCst) {
                let mark = id + BLOCK;
                persist(mark)?;
                self.durable(mark);
            }
        }
        Ok(id.into())
    }

    /// A mark for the batch that is about to be written, if the block is half used.
    pub(super) fn early_mark(&self) -> Option<u64> {
        let next = self.next.load(SeqCst);
        let is_half_used = next + BLOCK / 2 >= self.appended.load(SeqCst);
        is_half_used.then_some(next + BLOCK)
    }

    /// A batch with this mark was written.
    pub(super) fn appended(&self, mark: u64) {
        self.appended.fetch_max(mark, SeqCst);
    }

    /// The highest mark that was written.
    pub(super) fn appended_mark(&self) -> u64 {
        self.appended.load(SeqCst)
    }

    /// The mark is on disk.
    pub(super) fn durable(&self, mark: u64) {
        self.appended(mark);
        self.mark.fetch_max(mark, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn no_id_passes_the_mark_on_disk() {
        let disk = Cell::new(first_mark(1));
        let mut last = 0;
        for _ in 0..5 {
            let ids = IdSource::new(disk.get());
            for n in 0..(BLOCK + 7) {
                let id = ids.next(|mark| {
                    assert!(mark > disk.get());
                    disk.set(mark);
                    Ok(())
                });
                let id = id.unwrap().get();
                assert!(id > last && id < disk.get());
                last = id;
                if n % 1000 == 0
                    && let Some(early) = ids.early_mark()
                {
                    assert!(early >= disk.get());
                    ids.appended(early);
                    disk.set(early);
                    ids.durable(ids.appended_mark());
                }
            }
        }
    }
}
