//! The store on sled 0.34.
//!
//! sled writes its log with `sync_file_range`, which neither waits for the disk's own cache nor
//! for the file's new length. So each flush is followed by an `fdatasync` on the log file: only
//! that makes a reply of 250 true after a power failure.

mod check;
mod ids;
mod keys;
mod open;
mod pack;
mod read;
mod unfinished;
mod write;
mod young;

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mail_types::QueueId;
use nix::sys::statvfs::statvfs;
use sled::{Batch, Db};

use crate::codec::{decode_head, decode_page, encode_chunk, page_count};
use crate::fsck::FsckReport;
use crate::message::Message;
use crate::store::{Op, QueueStore, Scanned, StoreError};
use ids::IdSource;
use write::Writer;
use young::Young;

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
    young: Mutex<Young>,
    /// What was free on the file system, and when.
    room: Mutex<Option<(Instant, u64)>>,
}

/// How long an answer of the file system counts: much less than it takes to fill the reserve.
const ROOM_AGE: Duration = Duration::from_millis(20);

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
        let early = self.ids.early_mark();
        {
            // Held until the engine has it: packs change in the order of their batches.
            let mut young = self.young()?;
            let mut writer = Writer::new(self, &mut young);
            for op in ops {
                writer.add(op)?;
            }
            let mut batch = writer.finish()?;
            if let Some(early) = &early {
                batch.insert(keys::ID_MARK, &early.mark.to_be_bytes());
            }
            self.db.apply_batch(batch).map_err(StoreError::failed)?;
        }
        self.sync()?;
        if let Some(early) = early {
            early.settle();
        }
        Ok(())
    }

    fn load(&self, id: QueueId) -> Result<Option<Message>, StoreError> {
        self.load_message(id)
    }

    fn read_chunk(&self, id: QueueId, chunk: u32) -> Result<Option<Bytes>, StoreError> {
        self.load_chunk(id, chunk)
    }

    fn scan(&self, after: Option<QueueId>, limit: usize) -> Result<Vec<Scanned>, StoreError> {
        self.scan_from(after, limit)
    }

    fn recover(&self, each: &mut dyn FnMut(Vec<Scanned>) -> bool) -> Result<(), StoreError> {
        self.recover_all(each)
    }

    fn check_room(&self, octets: u64) -> Result<(), StoreError> {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let free = match *room {
            Some((at, free)) if at.elapsed() < ROOM_AGE => free,
            _ => {
                let stat = statvfs(&self.folder).map_err(StoreError::failed)?;
                let free = stat.blocks_available() * stat.fragment_size();
                *room = Some((Instant::now(), free));
                free
            }
        };
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
