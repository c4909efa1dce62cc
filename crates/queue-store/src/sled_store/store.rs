//! The parts of the store, and how something new comes in.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use mail_types::QueueId;
use nix::sys::statvfs::statvfs;
use sled::Db;

use super::change::{Builder, Change};
use super::frame::Kind;
use super::ids::IdSource;
use super::log::{Log, Place, SEGMENT, Tail, segments};
use super::settle::Bell;
use super::state::{CHECKPOINT_MEMORY, State};
use crate::store::{Op, StoreError};

/// How long an answer of the file system counts: much less than it takes to fill the reserve.
const ROOM_AGE: Duration = Duration::from_millis(20);

/// Content of at least so many octets has a frame of its own: to write it from where it is costs
/// less than to copy it into the batch.
const APART: usize = 16 * 1024;

/// The most memory that is kept from one batch to the next, in octets.
const SPARE: usize = 256 * 1024;

/// # Locks
///
/// `settling` before the log's tail before `state`. Reading takes `state` alone.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) db: Db,
    /// A second handle on sled's own log, to sync it.
    pub(super) sled_log: std::fs::File,
    pub(super) log: Log,
    pub(super) log_folder: PathBuf,
    pub(super) folder: PathBuf,
    pub(super) min_free: u64,
    pub(super) ids: IdSource,
    state: Mutex<State>,
    /// Held by the one checkpoint.
    pub(super) settling: Mutex<()>,
    /// A checkpoint has begun or ended, all is counted, or nothing is written any more.
    pub(super) settled: Condvar,
    pub(super) bell: Arc<Bell>,
    /// Octets of the log that could not be read at the opening.
    pub(super) damaged: u64,
    failure: OnceLock<StoreError>,
    /// Segments from which what is left did not move the last time.
    pub(super) stuck: Mutex<Vec<u64>>,
    /// What was free on the file system, and when.
    room: Mutex<Option<(Instant, u64)>>,
    /// The memory of the last batch.
    spare: Mutex<Vec<u8>>,
}

/// What an opened store consists of.
pub(super) struct Opened {
    pub(super) db: Db,
    pub(super) sled_log: std::fs::File,
    pub(super) log: Log,
    pub(super) state: State,
    pub(super) damaged: u64,
}

impl Store {
    pub(super) fn new(opened: Opened, folder: PathBuf, log_folder: PathBuf, min_free: u64) -> Self {
        Self {
            ids: IdSource::new(opened.state.mark),
            db: opened.db,
            sled_log: opened.sled_log,
            log: opened.log,
            log_folder,
            folder,
            min_free,
            state: Mutex::new(opened.state),
            settling: Mutex::default(),
            settled: Condvar::new(),
            bell: Arc::default(),
            damaged: opened.damaged,
            failure: OnceLock::new(),
            stuck: Mutex::default(),
            room: Mutex::default(),
            spare: Mutex::default(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // It is whole at each step.
        lock(&self.state)
    }

    /// Nothing is written any more.
    pub(super) fn fail(&self, failure: &StoreError) {
        let failure = if failure.is_fatal() {
            failure.clone()
        } else {
            StoreError::failed(failure)
        };
        let _ = self.failure.set(failure);
        // Whoever has looked at it in vain waits by now.
        drop(self.state());
        self.settled.notify_all();
    }

    pub(super) fn look(&self) -> Result<(), StoreError> {
        self.failure.get().cloned().map_or(Ok(()), Err)
    }

    /// Appends a batch. It is durable with the next sync.
    pub(super) fn append(&self, ops: &[Op]) -> Result<(), StoreError> {
        self.wait_for_memory()?;
        let spare = std::mem::take(&mut *lock(&self.spare));
        let mut builder = Builder::reusing(spare);
        for op in ops {
            builder.op(op, self.put_before(op)?);
        }
        let mut tail = self.log.tail()?;
        let is_new = |op: &Op| matches!(op, Op::Insert { .. });
        if !ops.iter().all(is_new) {
            // What leaves must have been counted, or it would count for something else.
            self.count_alone(&tail)?;
        }
        if let Some(mark) = self.ids.early_mark() {
            builder.change(Change::Mark(mark));
        }
        self.append_built(&mut tail, builder)
    }

    /// The places of a new message's content that is in the log before the batch: what was put, and
    /// of the rest what is too large to be copied into the batch.
    fn put_before(&self, op: &Op) -> Result<Option<Vec<Place>>, StoreError> {
        let Op::Insert {
            message,
            put_chunks,
            tail: rest,
        } = op
        else {
            return Ok(None);
        };
        let is_large = rest.first().is_some_and(|piece| piece.len() >= APART);
        if *put_chunks == 0 && !is_large {
            return Ok(None);
        }
        let known = |chunk: u32| {
            let state = self.state();
            let places = state.uploads.get(&message.id);
            let place = places.and_then(|places| places.get(chunk as usize));
            place.is_some_and(|place| *place != Place::MISSING)
        };
        for (chunk, piece) in (*put_chunks..).zip(rest) {
            if piece.len() < APART {
                break;
            }
            // There already where the batch found no room the last time.
            if !known(chunk) {
                self.put_chunk(message.id, chunk, piece)?;
            }
        }
        Ok(self.state().uploads.get(&message.id).cloned())
    }

    fn append_content(
        &self,
        tail: &mut Tail,
        id: QueueId,
        data: &[u8],
        sum: u32,
    ) -> Result<Place, StoreError> {
        let at = self.log.append(tail, Kind::Content, id.get(), data, sum)?;
        Ok(Place {
            segment: at.segment,
            at: u32::try_from(at.at).map_err(StoreError::failed)?,
            len: u32::try_from(data.len()).map_err(StoreError::failed)?,
            sum,
        })
    }

    /// Appends a batch that is made, and notes it.
    pub(super) fn append_built(&self, tail: &mut Tail, builder: Builder) -> Result<(), StoreError> {
        let (mut octets, changes) = builder.finish();
        let len = octets.len();
        let at = self.log.append_batch(tail, &mut octets)?;
        if octets.capacity() <= SPARE {
            *lock(&self.spare) = octets;
        }
        let mut state = self.state();
        for mut change in changes {
            if let Change::Mark(mark) = change {
                self.ids.appended(mark);
            }
            change.resolve(at.segment, at.at);
            if let Err(failure) = state.apply(&self.db, change) {
                // The log says more than memory: no checkpoint may follow.
                drop(state);
                self.fail(&failure);
                return Err(failure);
            }
        }
        self.note_appended(&mut state, len);
        Ok(())
    }

    fn note_appended(&self, state: &mut State, octets: usize) {
        // The segment that follows is made when one is half full.
        let step = |state: &State| state.appended / (SEGMENT / 2);
        let before = step(state);
        state.appended += octets as u64;
        if step(state) != before || state.is_checkpoint_due() && state.settling.is_none() {
            self.bell.ring();
        }
    }

    /// New changes wait while a checkpoint is behind by twice of what may be in memory.
    fn wait_for_memory(&self) -> Result<(), StoreError> {
        self.look()?;
        let state = self.state();
        let behind = |state: &mut State| {
            let behind = state.pending.octets >= 2 * CHECKPOINT_MEMORY;
            if behind {
                self.bell.ring();
            }
            behind && self.failure.get().is_none()
        };
        drop(
            self.settled
                .wait_while(state, behind)
                .unwrap_or_else(PoisonError::into_inner),
        );
        self.look()
    }

    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let mark = self.ids.appended_mark();
        self.log.sync()?;
        self.ids.durable(mark);
        self.look()
    }

    pub(super) fn sync_sled(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(StoreError::failed)?;
        self.sled_log.sync_data().map_err(StoreError::failed)
    }

    pub(super) fn new_id(&self) -> Result<QueueId, StoreError> {
        self.ids.next(|mark| {
            let mut builder = Builder::new();
            builder.change(Change::Mark(mark));
            let mut tail = self.log.tail()?;
            self.append_built(&mut tail, builder)?;
            drop(tail);
            self.sync()
        })
    }

    pub(super) fn put_chunk(&self, id: QueueId, chunk: u32, data: &[u8]) -> Result<(), StoreError> {
        self.look()?;
        let sum = crc32c::crc32c(data);
        let mut tail = self.log.tail()?;
        let place = self.append_content(&mut tail, id, data, sum)?;
        let mut state = self.state();
        state.usage.add(&[place]);
        let places = state.uploads.entry(id).or_default();
        let chunk = chunk as usize;
        if places.len() <= chunk {
            places.resize(chunk + 1, Place::MISSING);
        }
        let before = places
            .get_mut(chunk)
            .map(|known| std::mem::replace(known, place));
        // Put again, since there was no room for the batch.
        state.usage.sub(&before.into_iter().collect::<Vec<_>>());
        self.note_appended(&mut state, data.len());
        Ok(())
    }

    pub(super) fn discard(&self, id: QueueId) {
        let mut state = self.state();
        if let Some(places) = state.uploads.remove(&id) {
            state.usage.sub(&places);
        }
    }

    pub(super) fn check_room(&self, octets: u64) -> Result<(), StoreError> {
        let mut room = lock(&self.room);
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

    pub(super) fn disk_size(&self) -> Result<u64, StoreError> {
        let mut size = self.db.size_on_disk().map_err(StoreError::failed)?;
        for segment in segments(&self.log_folder)? {
            size += self.log.size(segment)?;
        }
        Ok(size)
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
