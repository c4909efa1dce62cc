use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use sled::Db;

use super::ids::first_mark;
use super::log::{Log, Position};
use super::overlay::Overlay;
use super::replay::replay;
use super::state::{Counted, State};
use super::store::{Opened, Store};
use super::unfinished::remove_unfinished;
use super::usage::Usage;
use super::{SledStore, keys, settle};
use crate::store::StoreError;

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
    /// Opens or makes the store. Content whose message never came in is forgotten.
    pub fn open(options: &SledOptions) -> Result<Self, StoreError> {
        let log_folder = options.folder.join("log");
        fs::create_dir_all(&log_folder).map_err(StoreError::failed)?;
        let db = open_db(options)?;
        let sled_log = File::open(options.folder.join("db")).map_err(StoreError::failed)?;
        let (checkpoint, batch, mark) = read_marks(&db, options.now)?;
        let mut state = State {
            pending: Overlay::default(),
            settling: None,
            uploads: HashMap::new(),
            usage: Usage::default(),
            counted: Counted::Not,
            appended: 0,
            mark,
            checkpoint,
        };
        let replayed = replay(&log_folder, batch, &mut state)?;
        state.count_replayed(&db)?;
        let log = Log::start(&log_folder, replayed.next_segment, replayed.next_batch)?;
        sync_folders(&options.folder).map_err(StoreError::failed)?;
        let opened = Opened {
            db,
            sled_log,
            log,
            state,
            damaged: replayed.damaged,
        };
        let folder = options.folder.clone();
        let store = Arc::new(Store::new(opened, folder, log_folder, options.min_free));
        let settler = settle::start(&store)?;
        Ok(Self {
            store,
            settler: Some(settler),
        })
    }
}

/// What the tree has: up to where it has what the log says, the batch there, and the mark of ids.
fn read_marks(db: &Db, now: u64) -> Result<(Position, u64, u64), StoreError> {
    let mark = db.get(keys::ID_MARK).map_err(StoreError::failed)?;
    let checkpoint = db.get(keys::CHECKPOINT).map_err(StoreError::failed)?;
    let start = Position { segment: 1, at: 0 };
    let (mark, checkpoint) = match (mark, checkpoint) {
        // Not even the first checkpoint: all that there is is in the log.
        (None, None) => return Ok((start, 1, first_mark(now))),
        (Some(mark), Some(checkpoint)) => (mark, checkpoint),
        _ => {
            let why = "the queue is not of a version that this program knows";
            return Err(StoreError::failed(why));
        }
    };
    let mark = mark.as_ref().try_into().map(u64::from_be_bytes);
    let mark = mark.map_err(|_| StoreError::failed("the mark of ids is damaged"))?;
    let (checkpoint, batch) = settle::read_checkpoint(&checkpoint)
        .ok_or_else(|| StoreError::failed("the checkpoint is damaged"))?;
    Ok((checkpoint, batch, mark))
}

fn open_db(options: &SledOptions) -> Result<Db, StoreError> {
    let start = Instant::now();
    loop {
        let config = sled::Config::new()
            .path(&options.folder)
            .cache_capacity(options.cache)
            .flush_every_ms(None)
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
