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
use super::overlay::{Entry, Overlay};
use super::state::{Counted, head_value, read_value};
use super::store::{Store, lock};
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
        lock(&self.rung)
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
    /// crash at any moment leaves what the log says from the last checkpoint on. After a failure
    /// there is no other one: it would pass over what this one has not written.
    pub(super) fn settle(&self) -> Result<(), StoreError> {
        let _alone = lock(&self.settling);
        self.look()?;
        if !self.is_counted()? {
            return Ok(());
        }
        let frozen = {
            let tail = self.log.tail()?;
            let mut state = self.state();
            if tail.position() == state.checkpoint {
                return Ok(());
            }
            let entries = Arc::new(std::mem::take(&mut state.pending));
            state.settling = Some(entries.clone());
            state.appended = 0;
            Frozen {
                entries,
                upto: tail.position(),
                batch: tail.batch(),
                mark: state.mark,
            }
        };
        self.settled.notify_all();
        let settled = self.settle_frozen(&frozen);
        if let Err(failure) = &settled {
            self.fail(failure);
        }
        settled
    }

    fn settle_frozen(&self, frozen: &Frozen) -> Result<(), StoreError> {
        // What is removed must be so for good before its content goes.
        let unused = self.unused_segments(frozen.upto)?;
        self.log.sync()?;
        let mut batch = Batch::default();
        for (n, (id, entry)) in frozen.entries.entries.iter().enumerate() {
            self.settle_one(&mut batch, *id, entry)?;
            if n % AT_ONCE == AT_ONCE - 1 {
                let full = std::mem::take(&mut batch);
                self.db.apply_batch(full).map_err(StoreError::failed)?;
            }
        }
        batch.insert(keys::ID_MARK, &frozen.mark.to_be_bytes());
        batch.insert(
            keys::CHECKPOINT,
            checkpoint_value(frozen.upto, frozen.batch),
        );
        self.db.apply_batch(batch).map_err(StoreError::failed)?;
        self.sync_sled()?;
        {
            let mut state = self.state();
            state.settling = None;
            state.checkpoint = frozen.upto;
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
        for (page, octets) in &live.pages {
            batch.insert(&keys::page(id, *page), octets.as_ref());
        }
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

/// What a checkpoint writes at one moment.
struct Frozen {
    entries: Arc<Overlay>,
    upto: Position,
    /// The next batch.
    batch: u64,
    mark: u64,
}

fn checkpoint_value(upto: Position, batch: u64) -> Vec<u8> {
    let parts = [upto.segment, upto.at, batch];
    parts.iter().flat_map(|part| part.to_be_bytes()).collect()
}

/// Up to where the tree has the log, and the batch that follows there.
pub(super) fn read_checkpoint(value: &[u8]) -> Option<(Position, u64)> {
    let part = |n: usize| {
        let octets = value.get(n * 8..n * 8 + 8)?.try_into().ok()?;
        Some(u64::from_be_bytes(octets))
    };
    let (segment, at) = (part(0)?, part(1)?);
    Some((Position { segment, at }, part(2)?))
}
