use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use mail_types::QueueId;

use crate::fsck::FsckReport;
use crate::message::Message;
use crate::store::{Op, QueueStore, Scanned, StoreError};

/// A store that forgets everything with the process: for tests, and to measure what the disk
/// costs.
#[derive(Debug, Default)]
pub struct MemStore(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    last_id: u64,
    messages: BTreeMap<QueueId, Message>,
    chunks: BTreeMap<(QueueId, u32), Bytes>,
    full: bool,
}

impl MemStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the store say that it has no room, or some again.
    pub fn set_full(&self, full: bool) {
        self.lock().full = full;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QueueStore for MemStore {
    fn new_id(&self) -> Result<QueueId, StoreError> {
        let mut inner = self.lock();
        inner.last_id += 1;
        Ok(inner.last_id.into())
    }

    fn put_chunk(&self, id: QueueId, chunk: u32, data: &[u8]) -> Result<(), StoreError> {
        self.check_room(data.len() as u64)?;
        let data = Bytes::copy_from_slice(data);
        self.lock().chunks.insert((id, chunk), data);
        Ok(())
    }

    fn discard(&self, id: QueueId) {
        self.lock().remove_chunks(id);
    }

    fn append(&self, ops: &[Op]) -> Result<(), StoreError> {
        let mut inner = self.lock();
        for op in ops {
            match op {
                Op::Insert {
                    message,
                    put_chunks,
                    tail,
                } => {
                    for (chunk, data) in (*put_chunks..).zip(tail) {
                        inner.chunks.insert((message.id, chunk), data.clone());
                    }
                    inner.messages.insert(message.id, Message::clone(message));
                }
                Op::Update { message, .. } => {
                    inner.messages.insert(message.id, Message::clone(message));
                }
                Op::Remove(message) => {
                    inner.messages.remove(&message.id);
                    inner.remove_chunks(message.id);
                }
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn load(&self, id: QueueId) -> Result<Option<Message>, StoreError> {
        Ok(self.lock().messages.get(&id).cloned())
    }

    fn read_chunk(&self, id: QueueId, chunk: u32) -> Result<Option<Bytes>, StoreError> {
        Ok(self.lock().chunks.get(&(id, chunk)).cloned())
    }

    fn scan(&self, after: Option<QueueId>, limit: usize) -> Result<Vec<Scanned>, StoreError> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let inner = self.lock();
        let found = inner.messages.range((start, Bound::Unbounded)).take(limit);
        Ok(found
            .map(|(_, message)| Scanned::Message(Box::new(message.clone())))
            .collect())
    }

    fn recover(&self, each: &mut dyn FnMut(Vec<Scanned>) -> bool) -> Result<(), StoreError> {
        each(self.scan(None, usize::MAX)?);
        Ok(())
    }

    fn check_room(&self, _octets: u64) -> Result<(), StoreError> {
        if self.lock().full {
            Err(StoreError::Full { free: 0 })
        } else {
            Ok(())
        }
    }

    fn disk_size(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    fn fsck(&self, _repair: bool) -> Result<FsckReport, StoreError> {
        let inner = self.lock();
        Ok(FsckReport {
            messages: inner.messages.len() as u64,
            octets: inner.messages.values().map(|m| m.size).sum(),
            problems: Vec::new(),
        })
    }
}

impl Inner {
    fn remove_chunks(&mut self, id: QueueId) {
        let keys = self.chunks.range((id, 0)..=(id, u32::MAX));
        let keys: Vec<_> = keys.map(|(key, _)| *key).collect();
        for key in keys {
            self.chunks.remove(&key);
        }
    }
}
