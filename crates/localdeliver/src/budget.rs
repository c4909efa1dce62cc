//! Memory for messages that are on their way into the store.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A number of octets that all incoming messages share. Counted in KiB, which fits a semaphore.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    places: Arc<Semaphore>,
    all: u32,
}

impl Budget {
    pub(crate) fn new(bytes: u64) -> Self {
        let all = u32::try_from(bytes / 1024).unwrap_or(u32::MAX).max(1);
        Self {
            places: Arc::new(Semaphore::new(all as usize)),
            all,
        }
    }

    /// Waits for room. A message larger than the whole budget waits for all of it.
    pub(crate) async fn take(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let wanted = self.wanted(bytes);
        // The semaphore is never closed.
        self.places.clone().acquire_many_owned(wanted).await.ok()
    }

    /// Takes room that nobody holds or waits for.
    pub(crate) fn try_take(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let wanted = self.wanted(bytes);
        self.places.clone().try_acquire_many_owned(wanted).ok()
    }

    fn wanted(&self, bytes: u64) -> u32 {
        let wanted = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX);
        wanted.min(self.all)
    }
}
