//! The index of an account, which is open only while it is wanted: mail comes in without it.

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redb::{ReadTransaction, ReadableDatabase};

use crate::StoreError;
use crate::disk::SharedDisk;
use crate::error::caught;
use crate::index_file::{OpenIndex, open_index};

/// How long who wants to open one more index waits for others to be closed: where none can be
/// closed, as on a full disk, there are too many for a while.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often who waits asks again that some be closed.
const ASK: Duration = Duration::from_millis(50);
/// How often is looked whether the last reader has gone.
const LOOK: Duration = Duration::from_millis(2);

/// All indexes of a store: how many are open.
#[derive(Debug)]
pub(crate) struct Pool {
    /// How many may stay open.
    limit: usize,
    open: AtomicUsize,
    /// Counts uses, so that the longest unused is known.
    clock: AtomicU64,
    /// Is told when too many are open.
    crowded: Mutex<Option<Sender<()>>>,
    has_room: Condvar,
    is_told: AtomicBool,
}

impl Pool {
    pub(crate) fn new(limit: usize, crowded: Sender<()>) -> Self {
        Self {
            limit,
            open: AtomicUsize::new(0),
            clock: AtomicU64::new(0),
            crowded: Mutex::new(Some(crowded)),
            has_room: Condvar::new(),
            is_told: AtomicBool::new(false),
        }
    }

    /// Indexes that are open and should not be.
    pub(crate) fn surplus(&self) -> usize {
        self.open.load(Ordering::Acquire).saturating_sub(self.limit)
    }

    /// Wakes who closes indexes and forgets accounts.
    pub(crate) fn tell(&self) {
        if !self.is_told.swap(true, Ordering::AcqRel)
            && let Some(crowded) = &*lock(&self.crowded)
        {
            // Without a listener the store is being closed.
            let _ = crowded.send(());
        }
    }

    /// From now on another word is needed.
    pub(crate) fn is_heard(&self) {
        // What was told of before is seen by who looks now.
        self.is_told.swap(false, Ordering::AcqRel);
    }

    /// Nobody closes what is too much any more.
    pub(crate) fn hang_up(&self) {
        *lock(&self.crowded) = None;
    }

    /// Half as many again may be open for a moment; who wants more waits for room.
    fn enter(&self) {
        let most = self.limit + self.limit / 2 + 1;
        let deadline = Instant::now() + PATIENCE;
        let mut crowded = lock(&self.crowded);
        while self.open.load(Ordering::Acquire) >= most && crowded.is_some() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.has_room.wait_timeout(crowded, left.min(ASK));
            drop(waited.unwrap_or_else(PoisonError::into_inner));
            // One that was in use may be free by now.
            self.tell();
            crowded = lock(&self.crowded);
        }
        let before = self.open.fetch_add(1, Ordering::AcqRel);
        drop(crowded);
        if before >= self.limit {
            self.tell();
        }
    }

    fn leave(&self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
        drop(lock(&self.crowded));
        self.has_room.notify_one();
    }
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Index {
    path: PathBuf,
    disk: SharedDisk,
    cache: usize,
    pool: Arc<Pool>,
    /// Is set when the engine fails, and has to be opened anew before it works again.
    failed: Arc<AtomicBool>,
    used: AtomicU64,
    slot: Mutex<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    db: Option<Arc<OpenIndex>>,
    /// Somebody may have written in it since it was opened.
    is_changed: bool,
    /// It must not be opened any more.
    is_shut: bool,
}

/// A state of the index, which stays open as long as this lives.
pub(crate) struct Reading {
    txn: ReadTransaction,
    db: Arc<OpenIndex>,
}

impl Reading {
    /// Most of the index is to be read.
    pub(crate) fn will_be_read(&self) {
        self.db.will_be_read();
    }
}

impl Deref for Reading {
    type Target = ReadTransaction;

    fn deref(&self) -> &ReadTransaction {
        &self.txn
    }
}

impl Index {
    /// One that is not open; `cache` is in octets, and `failed` is set when the engine fails.
    pub(crate) fn new(
        path: PathBuf,
        disk: SharedDisk,
        cache: usize,
        pool: Arc<Pool>,
        failed: Arc<AtomicBool>,
    ) -> Self {
        Self {
            failed,
            path,
            disk,
            cache,
            pool,
            used: AtomicU64::new(0),
            slot: Mutex::default(),
        }
    }

    /// The index, to write in it, which is opened if it is not. Who holds it keeps it open.
    pub(crate) fn get(&self) -> Result<Arc<OpenIndex>, StoreError> {
        self.get_by(true, || open_index(&*self.disk, &self.path, self.cache))
    }

    /// The same with another way to open it, as for a new one. Who only reads does not write in it
    /// with transactions of his own.
    pub(crate) fn get_by(
        &self,
        writes: bool,
        open: impl FnOnce() -> Result<OpenIndex, StoreError>,
    ) -> Result<Arc<OpenIndex>, StoreError> {
        let now = self.pool.clock.fetch_add(1, Ordering::Relaxed);
        self.used.store(now, Ordering::Relaxed);
        let mut slot = lock(&self.slot);
        if slot.is_shut {
            return Err(StoreError::Busy);
        }
        slot.is_changed |= writes;
        if let Some(db) = &slot.db {
            return Ok(db.clone());
        }
        self.pool.enter();
        match caught(open) {
            Ok(db) => {
                db.report_to(self.failed.clone());
                Ok(slot.db.insert(Arc::new(db)).clone())
            }
            Err(error) => {
                self.pool.leave();
                Err(error)
            }
        }
    }

    pub(crate) fn read(&self) -> Result<Reading, StoreError> {
        let db = self.get_by(false, || open_index(&*self.disk, &self.path, self.cache))?;
        Ok(Reading {
            txn: db.begin_read()?,
            db,
        })
    }

    /// Is it open just now?
    pub(crate) fn is_open(&self) -> bool {
        lock(&self.slot).db.is_some()
    }

    /// Is it closed, and nobody just opens it? Waits for nobody.
    pub(crate) fn is_at_rest(&self) -> bool {
        let slot = self.slot.try_lock();
        slot.is_ok_and(|slot| slot.db.is_none())
    }

    /// When it was last wanted, if it is open; `None` too while somebody opens or closes it, who may wait for room himself.
    pub(crate) fn last_use_if_free(&self) -> Option<u64> {
        let slot = self.slot.try_lock().ok()?;
        slot.db.as_ref().map(|_| self.used.load(Ordering::Relaxed))
    }

    /// Closes it, unless somebody has it; who wants it meanwhile waits. True if it is closed: then all
    /// that was committed is durable. After an error nobody knows what of it is.
    pub(crate) fn close(&self) -> Result<bool, StoreError> {
        let mut slot = lock(&self.slot);
        let Some(db) = slot.db.take() else {
            return Ok(true);
        };
        match Arc::try_unwrap(db) {
            Ok(db) => {
                // Under the lock, since the file is the engine's alone.
                let is_read = !std::mem::take(&mut slot.is_changed);
                let closed = caught(|| db.close(is_read));
                self.pool.leave();
                closed.map(|()| true)
            }
            Err(db) => {
                slot.db = Some(db);
                Ok(false)
            }
        }
    }

    /// Nobody uses it any more but those who do already.
    pub(crate) fn refuse(&self) {
        lock(&self.slot).is_shut = true;
    }

    /// As it was before [`Self::refuse`].
    pub(crate) fn allow(&self) {
        lock(&self.slot).is_shut = false;
    }

    /// Nobody opens it any more, and those who read in it have so long.
    pub(crate) fn shut(&self, longest: Duration) -> Result<(), StoreError> {
        self.refuse();
        wait_until(longest, || self.close()).map(drop)
    }

    /// Nobody opens it any more. The last who reads in it closes it.
    pub(crate) fn abandon(&self) {
        let mut slot = lock(&self.slot);
        slot.is_shut = true;
        if slot.db.take().is_some() {
            self.pool.leave();
        }
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        if lock(&self.slot).db.take().is_some() {
            self.pool.leave();
        }
    }
}

/// Looks again and again, at most so long, whether something is done; true if it is.
pub(crate) fn wait_until(
    longest: Duration,
    mut is_done: impl FnMut() -> Result<bool, StoreError>,
) -> Result<bool, StoreError> {
    let deadline = Instant::now() + longest;
    while !is_done()? {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::sleep(LOOK);
    }
    Ok(true)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
