//! The store on sled 0.34.
//!
//! sled writes its log with `sync_file_range`, which neither waits for the disk's own cache nor
//! for the file's new length. So each flush is followed by an `fdatasync` on the log file: only
//! that makes a reply of 250 true after a power failure.

mod check;
mod ids;
mod keys;
mod open;
mod unfinished;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use mail_types::QueueId;
use nix::sys::statvfs::statvfs;
use sled::{Batch, Db};

use crate::codec::{
    decode_chunk, decode_head, decode_page, encode_chunk, encode_head, encode_page, page_count,
};
use crate::fsck::FsckReport;
use crate::message::Message;
use crate::store::{Op, QueueStore, Scanned, StoreError, chunk_count};
use ids::IdSource;

pub use open::SledOptions;

/// The store on disk.
#[derive(Debug)]
pub struct SledStore {
    db: Db,
    /// A second handle on the engine's log, to sync it.
    log: File,
    folder: PathBuf,
    min_free: u64,
    ids: IdSource,
}

impl SledStore {
    fn sync(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(StoreError::failed)?;
        self.log.sync_data().map_err(StoreError::failed)
    }

    fn read_rest(&self, message: &mut Message, total: usize) -> Result<(), StoreError> {
        let damaged = StoreError::Damaged {
            id: message.id,
            what: "recipients",
        };
        for page in 1..page_count(total) {
            let key = keys::page(message.id, page);
            let value = self.db.get(key).map_err(StoreError::failed)?;
            let value = value.ok_or_else(|| damaged.clone())?;
            message.recipients.extend(decode_page(message.id, &value)?);
        }
        if message.recipients.len() == total {
            Ok(())
        } else {
            Err(damaged)
        }
    }

    fn read_message(&self, id: QueueId, head: &[u8]) -> Result<Message, StoreError> {
        let (mut message, total) = decode_head(id, head)?;
        self.read_rest(&mut message, total)?;
        Ok(message)
    }
}

impl QueueStore for SledStore {
    fn new_id(&self) -> Result<QueueId, StoreError> {
        self.ids.next(|mark| {
            self.db
                .insert(keys::ID_MARK, &mark.to_be_bytes())
                .map_err(StoreError::failed)?;
            self.sync()
        })
    }

    fn put_chunk(&self, id: QueueId, chunk: u32, data: &[u8]) -> Result<(), StoreError> {
        self.check_room(data.len() as u64)?;
        if chunk == 0 {
            // Before the content in the log: whatever a crash leaves, the marker is there.
            self.db
                .insert(keys::upload(id), &[])
                .map_err(StoreError::failed)?;
        }
        let key = keys::chunk(id, chunk);
        let value = encode_chunk(data);
        self.db.insert(key, value).map_err(StoreError::failed)?;
        Ok(())
    }

    fn discard(&self, id: QueueId, chunks: u32) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        for chunk in 0..chunks {
            batch.remove(&keys::chunk(id, chunk));
        }
        batch.remove(&keys::upload(id));
        self.db.apply_batch(batch).map_err(StoreError::failed)
    }

    fn apply(&self, ops: &[Op]) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        let early = self.ids.early_mark();
        if let Some(early) = &early {
            batch.insert(keys::ID_MARK, &early.mark.to_be_bytes());
        }
        for op in ops {
            add(&mut batch, op);
        }
        self.db.apply_batch(batch).map_err(StoreError::failed)?;
        self.sync()?;
        if let Some(early) = early {
            early.settle();
        }
        Ok(())
    }

    fn load(&self, id: QueueId) -> Result<Option<Message>, StoreError> {
        let head = self.db.get(keys::head(id)).map_err(StoreError::failed)?;
        head.map(|head| self.read_message(id, &head)).transpose()
    }

    fn read_chunk(&self, id: QueueId, chunk: u32) -> Result<Option<Bytes>, StoreError> {
        let value = self
            .db
            .get(keys::chunk(id, chunk))
            .map_err(StoreError::failed)?;
        value.map(|value| decode_chunk(id, &value)).transpose()
    }

    fn scan(&self, after: Option<QueueId>, limit: usize) -> Result<Vec<Scanned>, StoreError> {
        let mut found = Vec::new();
        for entry in self.db.range(keys::heads_after(after)).take(limit) {
            let (key, value) = entry.map_err(StoreError::failed)?;
            let Some(id) = keys::id(&key) else { continue };
            found.push(match self.read_message(id, &value) {
                Ok(message) => Scanned::Message(Box::new(message)),
                Err(error) if error.is_fatal() => return Err(error),
                Err(_) => Scanned::Damaged(id),
            });
        }
        Ok(found)
    }

    fn check_room(&self, octets: u64) -> Result<(), StoreError> {
        let stat = statvfs(&self.folder).map_err(StoreError::failed)?;
        let free = stat.blocks_available() * stat.fragment_size();
        if free < self.min_free.saturating_add(octets) {
            Err(StoreError::Full { free })
        } else {
            Ok(())
        }
    }

    fn disk_size(&self) -> Result<u64, StoreError> {
        self.db.size_on_disk().map_err(StoreError::failed)
    }

    fn fsck(&self, repair: bool) -> Result<FsckReport, StoreError> {
        check::fsck(self, repair)
    }
}

fn add(batch: &mut Batch, op: &Op) {
    match op {
        Op::Insert {
            message,
            put_chunks,
            tail,
        } => {
            for (chunk, data) in (*put_chunks..).zip(tail) {
                batch.insert(&keys::chunk(message.id, chunk), encode_chunk(data));
            }
            for page in 1..page_count(message.recipients.len()) {
                batch.insert(&keys::page(message.id, page), encode_page(message, page));
            }
            batch.insert(&keys::head(message.id), encode_head(message));
            if *put_chunks > 0 {
                batch.remove(&keys::upload(message.id));
            }
        }
        Op::Update { message, changed } => add_update(batch, message, changed),
        Op::Remove(message) => {
            for chunk in 0..chunk_count(message.size) {
                batch.remove(&keys::chunk(message.id, chunk));
            }
            for page in 1..page_count(message.recipients.len()) {
                batch.remove(&keys::page(message.id, page));
            }
            batch.remove(&keys::head(message.id));
        }
    }
}

fn add_update(batch: &mut Batch, message: &Arc<Message>, changed: &[u32]) {
    let page_size = u32::try_from(crate::codec::PAGE).unwrap_or(u32::MAX);
    let mut pages: Vec<u32> = changed.iter().map(|index| index / page_size).collect();
    pages.sort_unstable();
    pages.dedup();
    for page in pages.into_iter().filter(|page| *page > 0) {
        batch.insert(&keys::page(message.id, page), encode_page(message, page));
    }
    batch.insert(&keys::head(message.id), encode_head(message));
}
