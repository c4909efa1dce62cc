//! The thread that brings sled up to the log, and gives segments back.
//!
//! Most messages are gone before it comes to them, and sled never hears of them.

use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mail_types::QueueId;
use sled::Batch;
use tracing::error;

use super::keys;
use super::log::{Position, Tail, segments};
use super::overlay::Entry;
use super::state::{Counted, head_value, read_value};
use super::store::Store;
use crate::codec::{decode_head, page_count};
use crate::store::StoreError;

/// Changes in one of sled's batches: it locks everybody out meanwhile.
const AT_ONCE: usize = 512;
/// How often it looks whether there is something to do.
const LOOK: Duration = Duration::from_secs(5);

/// Wakes the thread.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: Mutex<Rung>,
    heard: Condvar,
}

#[derive(Debug, Default)]
struct Rung {
    wanted: bool,
    ended: bool,
}

impl Bell {
    pub(super) fn ring(&self) {
        self.lock().wanted = true;
        self.heard.notify_all();
    }

    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.heard.notify_all();
    }

    /// True until the end.
    fn wait(&self) -> bool {
        let rung = self.lock();
        let waiting = |rung: &mut Rung| !rung.wanted && !rung.ended;
        let (mut rung, _) = self
            .heard
            .wait_timeout_while(rung, LOOK, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        rung.wanted = false;
        !rung.ended
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Rung> {
        self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the thread, which ends with the bell or the store.
pub(super) fn start(store: &Arc<Store>) -> Result<JoinHandle<()>, StoreError> {
    let (bell, store) = (store.bell.clone(), Arc::downgrade(store));
    thread::Builder::new()
        .name("settler".into())
        .spawn(move || run(&bell, &store))
        .map_err(StoreError::failed)
}

fn run(bell: &Bell, store: &Weak<Store>) {
    let mut last = Instant::now();
    while bell.wait() {
        let Some(store) = store.upgrade() else { return };
        let done = store
            .log
            .prepare()
            .or_else(|error| match error {
                // Whoever needs it will say so.
                StoreError::Full { .. } => Ok(()),
                error => Err(error),
            })
            .and_then(|()| store.settle_if_due(&mut last));
        if let Err(failure) = done {
            error!(%failure, "the queue's index cannot be written");
            store.fail(&failure);
            return;
        }
    }
}

impl Store {
    fn settle_if_due(&self, last: &mut Instant) -> Result<(), StoreError> {
        if last.elapsed() < LOOK && !self.state().is_checkpoint_due() {
            return Ok(());
        }
        self.settle()?;
        self.move_sparse()?;
        *last = Instant::now();
        Ok(())
    }

    /// Writes to sled what it does not have, and removes segments that nobody needs any more. A
    /// crash at any moment leaves what the log says from the last checkpoint on.
    pub(super) fn settle(&self) -> Result<(), StoreError> {
        let _alone = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_counted()? {
            return Ok(());
        }
        let (frozen, upto, mark) = {
            let tail = self.log.tail()?;
            let mut state = self.state();
            let upto = tail.position();
            if upto == state.checkpoint {
                return Ok(());
            }
            let frozen = Arc::new(std::mem::take(&mut state.pending));
            state.settling = Some(frozen.clone());
            state.appended = 0;
            (frozen, upto, state.mark)
        };
        // What is removed must be so for good before its content goes.
        let unused = self.unused_segments(upto)?;
        self.log.sync()?;
        let mut batch = Batch::default();
        for (n, (id, entry)) in frozen.entries.iter().enumerate() {
            self.settle_one(&mut batch, *id, entry)?;
            if n % AT_ONCE == AT_ONCE - 1 {
                let full = std::mem::take(&mut batch);
                self.db.apply_batch(full).map_err(StoreError::failed)?;
            }
        }
        batch.insert(keys::ID_MARK, &mark.to_be_bytes());
        batch.insert(keys::CHECKPOINT, &upto.to_bytes());
        self.db.apply_batch(batch).map_err(StoreError::failed)?;
        self.sync_sled()?;
        {
            let mut state = self.state();
            state.settling = None;
            state.checkpoint = upto;
        }
        self.settled.notify_all();
        for segment in unused {
            self.log.remove(segment)?;
        }
        Ok(())
    }

    /// Counts what messages use if nobody has begun to. The tail is for that nobody may change
    /// anything meanwhile.
    pub(super) fn count_alone(&self, _tail: &Tail) -> Result<(), StoreError> {
        let is_first = self.state().begin_count();
        if is_first {
            self.count(&mut |_| true)
        } else {
            Ok(())
        }
    }

    /// False while somebody counts: only behind that the tree may change.
    fn is_counted(&self) -> Result<bool, StoreError> {
        self.count_alone(&*self.log.tail()?)?;
        Ok(self.state().counted != Counted::Running)
    }

    /// Full segments of which no message has anything.
    fn unused_segments(&self, upto: Position) -> Result<Vec<u64>, StoreError> {
        let all = segments(&self.log_folder)?;
        let state = self.state();
        if state.counted != Counted::Done {
            return Ok(Vec::new());
        }
        let full = all.into_iter().filter(|segment| *segment < upto.segment);
        Ok(full.filter(|s| state.usage.of(*s) == 0).collect())
    }

    fn settle_one(&self, batch: &mut Batch, id: QueueId, entry: &Entry) -> Result<(), StoreError> {
        let live = match entry {
            Entry::Live(live) => live,
            Entry::Gone { pages } => {
                batch.remove(&keys::head(id));
                batch.remove(&keys::places(id));
                for page in 1..*pages {
                    batch.remove(&keys::page(id, page));
                }
                return Ok(());
            }
        };
        for (page, octets) in &live.pages {
            batch.insert(&keys::page(id, *page), octets.as_ref());
        }
        let below;
        let (places, head) = if let (Some(head), Some(places)) = (&live.head, &live.places) {
            (places.clone(), head.as_ref())
        } else {
            let value = self.db.get(keys::head(id)).map_err(StoreError::failed)?;
            // An update of what was removed: it stays so.
            let Some(value) = value else { return Ok(()) };
            below = value;
            let (known, start) = match read_value(&self.db, id, &below) {
                Err(damaged) if !damaged.is_fatal() => {
                    error!(qid = %id, %damaged, "a change of it is not kept");
                    return Ok(());
                }
                read => read?,
            };
            let head = live.head.as_deref();
            let head = head.or_else(|| below.get(start..)).unwrap_or_default();
            (live.places.clone().unwrap_or(known), head)
        };
        let (value, apart) = head_value(&places, head);
        batch.insert(&keys::head(id), value);
        if let Some(apart) = apart {
            batch.insert(&keys::places(id), apart);
        }
        Ok(())
    }

    /// Pages that a record in sled has; for what must be looked for.
    pub(super) fn pages_in_sled(&self, id: QueueId) -> Result<u32, StoreError> {
        let value = self.db.get(keys::head(id)).map_err(StoreError::failed)?;
        let Some(value) = value else { return Ok(0) };
        let read = read_value(&self.db, id, &value)
            .and_then(|(_, start)| decode_head(id, value.get(start..).unwrap_or_default()));
        // Those of a damaged record are not touched.
        Ok(read.map_or(u32::MAX, |(_, total)| page_count(total)))
    }
}

impl Position {
    pub(super) fn to_bytes(self) -> [u8; 16] {
        let both = u128::from(self.segment) << 64 | u128::from(self.at);
        both.to_be_bytes()
    }

    pub(super) fn from_bytes(octets: &[u8]) -> Option<Self> {
        let both = u128::from_be_bytes(octets.try_into().ok()?);
        Some(Self {
            segment: u64::try_from(both >> 64).ok()?,
            at: u64::try_from(both & u128::from(u64::MAX)).ok()?,
        })
    }
}
