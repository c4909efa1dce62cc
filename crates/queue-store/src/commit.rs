use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tracing::error;

use crate::store::{Op, QueueStore, StoreError};

/// The most octets in one flush: what waits behind it must not wait long.
const MAX_OCTETS: usize = 4 * 1024 * 1024;
/// The most changes in one flush.
const MAX_OPS: usize = 2048;
/// How long changes that nobody waits for may wait for others to share their flush.
const LINGER: Duration = Duration::from_millis(2);

/// Called on the committer's thread when the changes are durable, or will never be. It must not
/// block: everybody waits for it.
pub type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// The thread that makes changes durable: it takes all that wait, applies them as one batch,
/// flushes once, and tells each. What comes in meanwhile is the next batch, so that a lone change
/// waits for nothing and many share the disk's time. Clones share the thread, which ends with the
/// last of them.
///
/// The queue in front of it is not bounded: callers bound what they have under way.
#[derive(Clone, Debug)]
pub struct Committer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    requests: Option<Sender<Request>>,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    failure: OnceLock<StoreError>,
    batches: AtomicU64,
    ops: AtomicU64,
    flush_micros: AtomicU64,
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
    /// Starts the thread.
    pub fn start(store: Arc<dyn QueueStore>) -> std::io::Result<Self> {
        let (requests, queue) = channel();
        let state = Arc::new(State::default());
        let shared = state.clone();
        let thread = thread::Builder::new()
            .name("committer".into())
            .spawn(move || run(&*store, &queue, &shared))?;
        Ok(Self(Arc::new(Shared {
            requests: Some(requests),
            state,
            thread: Some(thread),
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
        if let Some(thread) = self.thread.take() {
            // The last clone may be inside a `Done` on the thread itself.
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                error!("the committer panicked");
            }
        }
    }
}

fn run(store: &dyn QueueStore, queue: &Receiver<Request>, state: &State) {
    let _tell = TellPanic(state);
    while let Ok(first) = queue.recv() {
        let batch = gather(store, queue, first);
        let result = batch.apply(store, state);
        if let Err(failure) = &result
            && failure.is_fatal()
        {
            error!(%failure, "the queue cannot be written");
            let _ = state.failure.set(failure.clone());
        }
        for done in batch.waiting {
            done(result.clone());
        }
        if state.failure.get().is_some() {
            return refuse_all(queue, state);
        }
    }
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
        }
    }
}

impl State {
    fn failure(&self) -> StoreError {
        let known = self.failure.get().cloned();
        known.unwrap_or_else(|| StoreError::failed("the committer is gone"))
    }
}

#[derive(Default)]
struct Batch {
    ops: Vec<Op>,
    octets: usize,
    /// Somebody waits for it.
    urgent: bool,
    waiting: Vec<Done>,
}

impl Batch {
    fn add(&mut self, store: &dyn QueueStore, request: Request) {
        let octets: usize = request.ops.iter().map(Op::weight).sum();
        if request.kind == Kind::NewMail
            && let Err(full) = store.check_room((self.octets + octets) as u64)
        {
            return (request.done)(Err(full));
        }
        self.urgent |= request.kind != Kind::Later;
        self.octets += octets;
        self.ops.extend(request.ops);
        self.waiting.push(request.done);
    }

    fn is_full(&self) -> bool {
        self.octets >= MAX_OCTETS || self.ops.len() >= MAX_OPS
    }

    fn apply(&self, store: &dyn QueueStore, state: &State) -> Result<(), StoreError> {
        if self.ops.is_empty() {
            return Ok(());
        }
        let start = Instant::now();
        store.apply(&self.ops)?;
        let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        state.batches.fetch_add(1, Relaxed);
        state.ops.fetch_add(self.ops.len() as u64, Relaxed);
        state.flush_micros.fetch_add(micros, Relaxed);
        Ok(())
    }
}
