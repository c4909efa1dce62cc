use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tracing::error;

use crate::store::{Op, QueueStore, StoreError};

/// The most octets in one batch: what waits behind it must not wait long.
const MAX_OCTETS: usize = 4 * 1024 * 1024;
/// The most changes in one batch.
const MAX_OPS: usize = 2048;
/// How long changes that nobody waits for may wait for others to share their flush.
const LINGER: Duration = Duration::from_millis(2);
/// How long, and how often, changes wait for room on a full disk.
const FULL_WAIT: Duration = Duration::from_millis(200);
const FULL_RETRIES: u32 = 50;
/// Flushes under way at once: what comes in while a disk writes need not wait until it is done.
const FLUSHES: usize = 2;

/// Called on one of the committer's threads when the changes are durable, or will never be. It must
/// not block: everybody waits for it.
pub type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// The threads that make changes durable: one takes all that waits and appends it as one batch;
/// others flush, once for all that was appended, and tell each in its order. What comes in
/// meanwhile is the next batch, so that a lone change waits for nothing and many share the disk's
/// time. Clones share the threads, which end with the last of them.
///
/// The queue in front of it is not bounded: callers bound what they have under way.
#[derive(Clone, Debug)]
pub struct Committer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    requests: Option<Sender<Request>>,
    state: Arc<State>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    failure: OnceLock<StoreError>,
    batches: AtomicU64,
    ops: AtomicU64,
    flush_micros: AtomicU64,
    flight: Mutex<Flight>,
    /// Something was appended, or nothing will be any more.
    appended: Condvar,
    /// A flush has ended.
    landed: Condvar,
    /// Held while changes are told of: their order is that of the log.
    telling: Mutex<()>,
}

/// Batches that were appended and are not known to be on disk.
#[derive(Default)]
struct Flight {
    waiting: VecDeque<Vec<Done>>,
    /// The number of the first that waits.
    first: u64,
    /// The first for which no flush is under way.
    next: u64,
    flushes: usize,
    ended: bool,
}

impl fmt::Debug for Flight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flight")
            .field("first", &self.first)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl Flight {
    /// The number of the next batch to come.
    fn behind(&self) -> u64 {
        self.first + self.waiting.len() as u64
    }
}

/// What the committer has done since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitStats {
    /// Flushes.
    pub batches: u64,
    /// Changes.
    pub ops: u64,
    /// Time in flushes.
    pub flushing: Duration,
}

struct Request {
    ops: Vec<Op>,
    kind: Kind,
    done: Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Somebody waits.
    Change,
    /// Nobody waits.
    Later,
    /// Somebody waits, and it is refused when too little room is left.
    NewMail,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("ops", &self.ops)
            .finish_non_exhaustive()
    }
}

impl Committer {
    /// Starts the threads.
    pub fn start(store: Arc<dyn QueueStore>) -> std::io::Result<Self> {
        let (requests, queue) = channel();
        let state = Arc::new(State::default());
        let mut threads = Vec::new();
        for _ in 0..FLUSHES {
            let (store, shared) = (store.clone(), state.clone());
            let flusher = thread::Builder::new().name("flusher".into());
            threads.push(flusher.spawn(move || flush_all(&*store, &shared))?);
        }
        let shared = state.clone();
        let committer = thread::Builder::new().name("committer".into());
        threads.push(committer.spawn(move || run(&*store, &queue, &shared))?);
        Ok(Self(Arc::new(Shared {
            requests: Some(requests),
            state,
            threads,
        })))
    }

    /// New mail: refused with [`StoreError::Full`] when too little room is left.
    pub fn submit(&self, ops: Vec<Op>, done: Done) {
        self.send(ops, Kind::NewMail, done);
    }

    /// Changes to what is there, which may use the reserve: they make room in the end.
    pub fn commit(&self, ops: Vec<Op>, done: Done) {
        self.send(ops, Kind::Change, done);
    }

    /// Changes that nobody waits for: they share the flush of others that come within some
    /// milliseconds.
    pub fn commit_later(&self, ops: Vec<Op>, done: Done) {
        self.send(ops, Kind::Later, done);
    }

    /// What it has done.
    pub fn stats(&self) -> CommitStats {
        let state = &self.0.state;
        CommitStats {
            batches: state.batches.load(Relaxed),
            ops: state.ops.load(Relaxed),
            flushing: Duration::from_micros(state.flush_micros.load(Relaxed)),
        }
    }

    /// Why the process must end, if it must.
    pub fn failure(&self) -> Option<&StoreError> {
        self.0.state.failure.get()
    }

    fn send(&self, ops: Vec<Op>, kind: Kind, done: Done) {
        let request = Request { ops, kind, done };
        let Some(requests) = &self.0.requests else {
            return;
        };
        if let Err(unsent) = requests.send(request) {
            (unsent.0.done)(Err(self.0.state.failure()));
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.requests = None;
        let this = thread::current().id();
        if self.threads.iter().any(|one| one.thread().id() == this) {
            // The last clone was inside a `Done`: the others wait for that one, and end by themselves.
            return;
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                error!("the committer panicked");
            }
        }
    }
}

fn run(store: &dyn QueueStore, queue: &Receiver<Request>, state: &State) {
    let _tell = TellPanic(state);
    while let Ok(first) = queue.recv() {
        // Until a flush can begin at once, more may come.
        state.wait_for_place();
        let batch = gather(store, queue, first);
        state.append(store, batch);
        if state.failure.get().is_some() {
            state.end();
            return refuse_all(queue, state);
        }
    }
    state.end();
}

/// All that waits. A batch that nobody waits for waits itself for a moment.
fn gather(store: &dyn QueueStore, queue: &Receiver<Request>, first: Request) -> Batch {
    let mut batch = Batch::default();
    let linger = Instant::now() + LINGER;
    let mut next = Some(first);
    while let Some(request) = next {
        batch.add(store, request);
        next = if batch.is_full() {
            None
        } else if batch.urgent {
            queue.try_recv().ok()
        } else {
            let left = linger.saturating_duration_since(Instant::now());
            queue.recv_timeout(left).ok()
        };
    }
    batch
}

/// Flushes what was appended until nothing more will be.
fn flush_all(store: &dyn QueueStore, state: &State) {
    let _tell = TellPanic(state);
    while let Some(behind) = state.next_flush() {
        let start = Instant::now();
        let result = match state.failure.get() {
            Some(failure) => Err(failure.clone()),
            None => store.sync(),
        };
        let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        state.batches.fetch_add(1, Relaxed);
        state.flush_micros.fetch_add(micros, Relaxed);
        if let Err(failure) = &result {
            state.fail(failure);
        }
        state.land(behind, &result);
    }
}

/// After a failure nobody may hope: what was written is known only by opening the store again.
fn refuse_all(queue: &Receiver<Request>, state: &State) {
    while let Ok(request) = queue.recv() {
        (request.done)(Err(state.failure()));
    }
}

/// The engine may panic; whoever asks must learn that nothing is written any more.
struct TellPanic<'a>(&'a State);

impl Drop for TellPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = self.0.failure.set(self.0.failure());
            self.0.end();
        }
    }
}

impl State {
    fn failure(&self) -> StoreError {
        let known = self.failure.get().cloned();
        known.unwrap_or_else(|| StoreError::failed("the committer is gone"))
    }

    fn fail(&self, failure: &StoreError) {
        error!(%failure, "the queue cannot be written");
        let _ = self.failure.set(failure.clone());
    }

    fn flight(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a flusher has nothing to do.
    fn wait_for_place(&self) {
        let busy = |flight: &mut Flight| flight.flushes >= FLUSHES && !flight.ended;
        let free = self.landed.wait_while(self.flight(), busy);
        drop(free.unwrap_or_else(PoisonError::into_inner));
    }

    fn append(&self, store: &dyn QueueStore, batch: Batch) {
        if batch.waiting.is_empty() {
            return;
        }
        let mut batch = batch;
        let mut result = store.append(&batch.ops);
        for _ in 0..FULL_RETRIES {
            if !matches!(result, Err(StoreError::Full { .. })) || batch.waiting.is_empty() {
                break;
            }
            // New mail hears it at once. Changes make room in the end: they wait for some.
            batch.refuse_new_mail(&result);
            thread::sleep(FULL_WAIT);
            result = store.append(&batch.ops);
        }
        match result {
            Ok(()) => {
                self.ops.fetch_add(batch.ops.len() as u64, Relaxed);
                let dones = batch.waiting.into_iter().map(|waiting| waiting.done);
                self.flight().waiting.push_back(dones.collect());
                self.appended.notify_one();
            }
            Err(failure) => {
                if failure.is_fatal() {
                    self.fail(&failure);
                }
                for waiting in batch.waiting {
                    (waiting.done)(Err(failure.clone()));
                }
            }
        }
    }

    /// Waits for something to flush. Answers the number behind it; `None` when all is done.
    fn next_flush(&self) -> Option<u64> {
        let nothing = |flight: &mut Flight| flight.next == flight.behind() && !flight.ended;
        let mut flight = self
            .appended
            .wait_while(self.flight(), nothing)
            .unwrap_or_else(PoisonError::into_inner);
        let behind = flight.behind();
        if flight.next == behind {
            return None;
        }
        flight.next = behind;
        flight.flushes += 1;
        Some(behind)
    }

    /// Everything in front of `behind` is on disk, or will never be.
    fn land(&self, behind: u64, result: &Result<(), StoreError>) {
        let _alone = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        let landed: Vec<_> = {
            let mut flight = self.flight();
            flight.flushes -= 1;
            let count = behind.saturating_sub(flight.first);
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            flight.first += count as u64;
            flight.waiting.drain(..count).collect()
        };
        self.landed.notify_one();
        for done in landed.into_iter().flatten() {
            done(result.clone());
        }
    }

    /// Nothing more is appended.
    fn end(&self) {
        self.flight().ended = true;
        self.appended.notify_all();
        self.landed.notify_all();
    }
}

#[derive(Default)]
struct Batch {
    ops: Vec<Op>,
    octets: usize,
    /// Somebody waits for it.
    urgent: bool,
    waiting: Vec<Waiting>,
}

/// Who waits for how many of a batch's changes.
struct Waiting {
    ops: usize,
    is_new: bool,
    done: Done,
}

impl Batch {
    fn refuse_new_mail(&mut self, result: &Result<(), StoreError>) {
        let mut ops = std::mem::take(&mut self.ops).into_iter();
        for waiting in std::mem::take(&mut self.waiting) {
            let its = ops.by_ref().take(waiting.ops);
            if waiting.is_new {
                its.for_each(drop);
                (waiting.done)(result.clone());
            } else {
                self.ops.extend(its);
                self.waiting.push(waiting);
            }
        }
    }

    fn add(&mut self, store: &dyn QueueStore, request: Request) {
        let octets: usize = request.ops.iter().map(Op::weight).sum();
        if request.kind == Kind::NewMail
            && let Err(full) = store.check_room((self.octets + octets) as u64)
        {
            return (request.done)(Err(full));
        }
        self.urgent |= request.kind != Kind::Later;
        self.octets += octets;
        self.waiting.push(Waiting {
            ops: request.ops.len(),
            is_new: request.kind == Kind::NewMail,
            done: request.done,
        });
        self.ops.extend(request.ops);
    }

    fn is_full(&self) -> bool {
        self.octets >= MAX_OCTETS || self.ops.len() >= MAX_OPS
    }
}
