//! The store on disk: a log, and sled 0.34 as its index.
//!
//! Every change and every content is appended to the log, and a batch is durable with one sync of
//! it. Most messages are gone again before anything else happens to them. From time to time a
//! checkpoint brings sled up to the log: it has the records of all messages that stay, and where
//! in the log their contents are. What a start has to read is sled, and the log behind the last
//! checkpoint. ADR 5 says why it is so, `docs/queue-states.md` what a crash leaves.
//!
//! sled writes its own log with `sync_file_range`, which neither waits for the disk's own cache nor
//! for the file's new length. So each of its flushes is followed by an `fdatasync` on that log.

mod change;
mod check;
mod frame;
mod ids;
mod keys;
mod log;
mod moving;
mod open;
mod overlay;
mod read;
mod replay;
mod settle;
mod state;
mod store;
mod unfinished;
mod usage;

use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use mail_types::QueueId;
use tracing::error;

use crate::fsck::FsckReport;
use crate::message::Message;
use crate::store::{Op, QueueStore, Scanned, StoreError};
use store::Store;

pub use open::SledOptions;

/// Reads what may be a batch of changes.
#[cfg(fuzzing)]
pub(crate) fn read_batch(octets: &[u8]) {
    let _ = change::read_batch(octets);
}

/// The store on disk.
#[derive(Debug)]
pub struct SledStore {
    store: Arc<Store>,
    settler: Option<JoinHandle<()>>,
}

impl SledStore {
    /// Brings sled up to the log now, and gives room back. It happens by itself too.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        self.store.settle()?;
        self.store.move_sparse()
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        self.store.bell.end();
        if let Some(settler) = self.settler.take()
            && settler.join().is_err()
        {
            return error!("the settler panicked");
        }
        // The next start has less to read.
        if let Err(failure) = self.store.settle() {
            error!(%failure, "the queue's index stays behind its log");
            if failure.is_fatal() {
                // It would flush once more as it goes, and panic where that fails again. The process
                // ends.
                std::mem::forget(self.store.db.clone());
            }
        }
    }
}

impl QueueStore for SledStore {
    fn new_id(&self) -> Result<QueueId, StoreError> {
        self.store.new_id()
    }

    fn put_chunk(&self, id: QueueId, chunk: u32, data: &[u8]) -> Result<(), StoreError> {
        self.store.check_room(data.len() as u64)?;
        self.store.put_chunk(id, chunk, data)
    }

    fn discard(&self, id: QueueId) {
        self.store.discard(id);
    }

    fn append(&self, ops: &[Op]) -> Result<(), StoreError> {
        self.store.append(ops)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.store.sync()
    }

    fn load(&self, id: QueueId) -> Result<Option<Message>, StoreError> {
        self.store.load(id)
    }

    fn read_chunk(&self, id: QueueId, chunk: u32) -> Result<Option<Bytes>, StoreError> {
        self.store.load_chunk(id, chunk)
    }

    fn scan(&self, after: Option<QueueId>, limit: usize) -> Result<Vec<Scanned>, StoreError> {
        self.store.scan_from(after, limit)
    }

    fn recover(&self, each: &mut dyn FnMut(Vec<Scanned>) -> bool) -> Result<(), StoreError> {
        self.store.recover(each)
    }

    fn check_room(&self, octets: u64) -> Result<(), StoreError> {
        self.store.check_room(octets)
    }

    fn disk_size(&self) -> Result<u64, StoreError> {
        self.store.disk_size()
    }

    fn fsck(&self, repair: bool) -> Result<FsckReport, StoreError> {
        check::fsck(&self.store, repair)
    }
}
