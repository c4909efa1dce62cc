use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use mail_types::QueueId;
use sled::{Batch, Db};
use tracing::info;

use super::ids::{IdSource, first_mark};
use super::unfinished::remove_unfinished;
use super::young::Young;
use super::{SledStore, keys};
use crate::store::StoreError;

/// The unit of the engine's log in octets. Its default is 512 KiB.
const SEGMENT: usize = 8 * 1024 * 1024;

/// How to open a store.
#[derive(Clone, Debug)]
pub struct SledOptions {
    /// The folder; made if it is not there.
    pub folder: PathBuf,
    /// Octets of memory for the engine's cache.
    pub cache: u64,
    /// New mail is refused when fewer octets would be free on the file system.
    pub min_free: u64,
    /// Unix time in milliseconds: the ids of a new store start from it.
    pub now: u64,
    /// How long to wait for another process that has the folder. A killed process keeps it for
    /// some milliseconds.
    pub lock_wait: Duration,
}

impl SledStore {
    /// Opens or makes the store and sweeps content whose message never came.
    pub fn open(options: &SledOptions) -> Result<Self, StoreError> {
        std::fs::create_dir_all(&options.folder).map_err(StoreError::failed)?;
        let db = open_db(options)?;
        let log = File::open(options.folder.join("db")).map_err(StoreError::failed)?;
        sync_folders(&options.folder).map_err(StoreError::failed)?;
        let mark = match db.get(keys::ID_MARK).map_err(StoreError::failed)? {
            None => first_mark(options.now),
            Some(value) => value
                .as_ref()
                .try_into()
                .map(u64::from_be_bytes)
                .map_err(|_| StoreError::failed("the mark of ids is damaged"))?,
        };
        let ids = IdSource::new(mark);
        let last_pack = db.scan_prefix(keys::PACKS).keys().next_back();
        let last_pack = last_pack.transpose().map_err(StoreError::failed)?;
        let last_pack = last_pack.as_deref().and_then(keys::id);
        let first_new_pack = last_pack.map_or(0, |last| last.get() + 1);
        let store = Self {
            db,
            log,
            folder: options.folder.clone(),
            min_free: options.min_free,
            ids,
            young: Mutex::new(Young::new(first_new_pack)),
            room: Mutex::default(),
        };
        store.sweep()?;
        Ok(store)
    }

    /// Removes the content of messages that were still coming in.
    fn sweep(&self) -> Result<(), StoreError> {
        let mut swept = 0;
        for marker in self.db.scan_prefix(keys::UPLOADS).keys() {
            let marker = marker.map_err(StoreError::failed)?;
            if let Some(id) = keys::id(&marker) {
                self.remove_upload(id)?;
            }
            swept += 1;
        }
        if swept > 0 {
            info!(swept, "removed content of messages that never came in");
            self.sync()?;
        }
        Ok(())
    }

    fn remove_upload(&self, id: QueueId) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        for key in self.db.scan_prefix(keys::chunks_of(id)).keys() {
            batch.remove(key.map_err(StoreError::failed)?);
        }
        batch.remove(&keys::upload(id));
        self.db.apply_batch(batch).map_err(StoreError::failed)
    }
}

fn open_db(options: &SledOptions) -> Result<Db, StoreError> {
    let start = Instant::now();
    loop {
        let config = sled::Config::new()
            .path(&options.folder)
            .cache_capacity(options.cache)
            .flush_every_ms(None)
            // A leaf has up to 17 values of 64 KiB. What is over a quarter of a segment the engine
            // puts into a file of its own with two syncs.
            .segment_size(SEGMENT)
            .mode(sled::Mode::HighThroughput);
        remove_unfinished(&options.folder).map_err(StoreError::failed)?;
        match config.open() {
            Ok(db) => return Ok(db),
            // The engine has no error of its own for a lock that another process holds.
            Err(sled::Error::Io(error)) if error.kind() == io::ErrorKind::Other => {
                if start.elapsed() >= options.lock_wait {
                    return Err(StoreError::InUse(error.to_string().into()));
                }
                thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(StoreError::failed(error)),
        }
    }
}

/// Makes the files' names durable: the engine syncs what it writes, not the folders.
fn sync_folders(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()?;
    match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}
