mod batch;
mod requests;

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SendError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mail_types::QueueId;
use tracing::error;

use self::batch::Batch;
use self::requests::{Request, Requests, Want};
use crate::store::{Op, QueueStore, StoreError};

/// How long, and how often, changes wait for room on a full disk.
const FULL_WAIT: Duration = Duration::from_millis(200);
const FULL_RETRIES: u32 = 50;
/// Flushes under way at once: what comes in while a disk writes need not wait until it is done.
const FLUSHES: usize = 2;

/// Called on one of the committer's threads when the changes are durable, or will never be. It must
/// not block: everybody waits for it.
pub type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// The threads that make changes durable. Each takes all that waits, appends it as one batch while
/// the others let it, flushes, and tells; what comes in meanwhile is another's batch, or the next.
/// So a lone change waits for nothing and many share the disk's time. Content has a thread of its
/// own, which waits for no flush. Clones share the threads, which end with the last of them.
///
/// The queue in front of it is not bounded: callers bound what they have under way.
#[derive(Clone, Debug)]
pub struct Committer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Arc<State>,
    contents: Option<Sender<Content>>,
    threads: Vec<JoinHandle<()>>,
}

/// What the thread for content is to do.
enum Content {
    Put(QueueId, u32, Bytes, Done),
    Discard(QueueId),
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(id, chunk, ..) => write!(f, "Put({id}, {chunk})"),
            Self::Discard(id) => write!(f, "Discard({id})"),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    failure: OnceLock<StoreError>,
    batches: AtomicU64,
    ops: AtomicU64,
    flush_micros: AtomicU64,
    requests: Requests,
    flight: Mutex<Flight>,
    /// Held while changes are told of: their order is that of the log.
    telling: Mutex<()>,
}

/// Batches that were appended and are not known to be on disk.
#[derive(Default)]
struct Flight {
    waiting: VecDeque<Vec<Done>>,
    /// The number of the first that waits.
    first: u64,
}

impl fmt::Debug for Flight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flight")
            .field("first", &self.first)
            .finish_non_exhaustive()
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

impl Committer {
    /// Starts the threads.
    pub fn start(store: Arc<dyn QueueStore>) -> std::io::Result<Self> {
        let state = Arc::new(State::default());
        let (contents, coming) = channel();
        let mut shared = Shared {
            state: state.clone(),
            contents: Some(contents),
            threads: Vec::new(),
        };
        let (writes, told) = (store.clone(), state.clone());
        let thread = thread::Builder::new().name("content".into());
        let started = thread.spawn(move || write_contents(&*writes, &coming, &told))?;
        shared.threads.push(started);
        for store in std::iter::repeat_n(store, FLUSHES) {
            let state = state.clone();
            let thread = thread::Builder::new().name("committer".into());
            let started = thread.spawn(move || run(&*store, &state))?;
            shared.threads.push(started);
        }
        Ok(Self(Arc::new(shared)))
    }

    /// New mail: refused with [`StoreError::Full`] when too little room is left.
    pub fn submit(&self, ops: Vec<Op>, done: Done) {
        self.send(Want::NewMail(ops), done);
    }

    /// Changes to what is there, which may use the reserve: they make room in the end.
    pub fn commit(&self, ops: Vec<Op>, done: Done) {
        self.send(Want::Change(ops), done);
    }

    /// Changes that nobody waits for: they share the flush of others that come within some
    /// milliseconds.
    pub fn commit_later(&self, ops: Vec<Op>, done: Done) {
        self.send(Want::Later(ops), done);
    }

    /// Keeps a chunk of content ([`QueueStore::put_chunk`]). It is told of as soon as it is written:
    /// it is not durable before its message is, which is to be submitted behind that.
    pub fn put_chunk(&self, id: QueueId, chunk: u32, data: Bytes, done: Done) {
        self.content(Content::Put(id, chunk, data, done));
    }

    /// Forgets all chunks of a message that were to be put before ([`QueueStore::discard`]).
    pub fn discard(&self, id: QueueId) {
        self.content(Content::Discard(id));
    }

    fn content(&self, content: Content) {
        let Some(contents) = &self.0.contents else {
            return;
        };
        if let Err(SendError(Content::Put(_, _, _, done))) = contents.send(content) {
            done(Err(self.0.state.failure()));
        }
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

    fn send(&self, want: Want, done: Done) {
        self.0.state.requests.push(Request { want, done });
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.contents = None;
        self.state.requests.end();
        let this = thread::current().id();
        if self.threads.iter().any(|one| one.thread().id() == this) {
            // The last clone was inside a `Done`: the threads end by themselves.
            return;
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                error!("the committer panicked");
            }
        }
    }
}

fn run(store: &dyn QueueStore, state: &State) {
    let _tell = TellPanic(state);
    while let Some(requests) = state.requests.take() {
        let appended = state.append(store, requests);
        state.requests.pass_on();
        if let Some(behind) = appended {
            state.flush(store, behind);
        }
    }
}

/// Puts and forgets content until nobody has any.
fn write_contents(store: &dyn QueueStore, coming: &Receiver<Content>, state: &State) {
    while let Ok(content) = coming.recv() {
        match content {
            Content::Put(id, chunk, data, done) => {
                let put = match state.failure.get() {
                    Some(failure) => Err(failure.clone()),
                    None => guarded(|| store.put_chunk(id, chunk, &data)),
                };
                if let Err(failure) = &put
                    && failure.is_fatal()
                {
                    state.fail(failure);
                }
                done(put);
            }
            Content::Discard(id) => store.discard(id),
        }
    }
}

/// The engine may panic: that is its end, as a failure is.
fn guarded(work: impl FnOnce() -> Result<(), StoreError>) -> Result<(), StoreError> {
    let result = catch_unwind(AssertUnwindSafe(work));
    result.unwrap_or_else(|_| Err(StoreError::failed("the engine panicked")))
}

/// Who is told may panic; whoever asks then must learn that nothing is written any more.
struct TellPanic<'a>(&'a State);

impl Drop for TellPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let failure = StoreError::failed("the committer panicked");
            self.0.fail(&failure);
            self.0.requests.pass_on();
            self.0.land(u64::MAX, &Err(failure));
            // Another may have panicked, too; then nobody is left who would.
            while let Some(requests) = self.0.requests.take() {
                self.0.refuse(requests);
                self.0.requests.pass_on();
            }
        }
    }
}

impl State {
    fn failure(&self) -> StoreError {
        let known = self.failure.get().cloned();
        known.unwrap_or_else(|| StoreError::failed("the committer is gone"))
    }

    fn fail(&self, failure: &StoreError) {
        if self.failure.set(failure.clone()).is_ok() {
            error!(%failure, "the queue cannot be written");
        }
    }

    fn flight(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends what was asked for. Answers the number behind it if it is to be flushed.
    fn append(&self, store: &dyn QueueStore, requests: Vec<Request>) -> Option<u64> {
        if self.failure.get().is_some() {
            self.refuse(requests);
            return None;
        }
        let mut batch = Batch::default();
        for request in requests {
            if let Err(failure) = batch.add(store, request) {
                self.fail(&failure);
            }
        }
        if let Some(failure) = self.failure.get() {
            batch.refuse(failure);
            return None;
        }
        if batch.is_empty() {
            return None;
        }
        match append_with_room(store, &mut batch) {
            // All was new mail, and there is no room for it.
            Ok(()) if batch.is_empty() => None,
            Ok(()) => {
                self.ops.fetch_add(batch.len() as u64, Relaxed);
                let mut flight = self.flight();
                flight.waiting.push_back(batch.into_dones());
                Some(flight.first + flight.waiting.len() as u64)
            }
            Err(failure) => {
                if failure.is_fatal() {
                    self.fail(&failure);
                }
                batch.refuse(&failure);
                None
            }
        }
    }

    /// After a failure nobody may hope: what was written is known only by opening the store again.
    fn refuse(&self, requests: Vec<Request>) {
        let failure = self.failure();
        for request in requests {
            (request.done)(Err(failure.clone()));
        }
    }

    fn flush(&self, store: &dyn QueueStore, behind: u64) {
        let start = Instant::now();
        let result = match self.failure.get() {
            Some(failure) => Err(failure.clone()),
            None => guarded(|| store.sync()),
        };
        let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.batches.fetch_add(1, Relaxed);
        self.flush_micros.fetch_add(micros, Relaxed);
        if let Err(failure) = &result {
            self.fail(failure);
        }
        self.land(behind, &result);
    }

    /// Everything in front of `behind` is on disk, or will never be.
    fn land(&self, behind: u64, result: &Result<(), StoreError>) {
        let _alone = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        let landed: Vec<_> = {
            let mut flight = self.flight();
            let count = behind.saturating_sub(flight.first);
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            let count = count.min(flight.waiting.len());
            flight.first += count as u64;
            flight.waiting.drain(..count).collect()
        };
        for done in landed.into_iter().flatten() {
            done(result.clone());
        }
    }
}

fn append_with_room(store: &dyn QueueStore, batch: &mut Batch) -> Result<(), StoreError> {
    let mut result = guarded(|| store.append(batch.ops()));
    for _ in 0..FULL_RETRIES {
        let Err(full @ StoreError::Full { .. }) = &result else {
            break;
        };
        // New mail hears it at once. Changes make room in the end: they wait for some.
        batch.refuse_new_mail(full);
        if batch.is_empty() {
            return Ok(());
        }
        thread::sleep(FULL_WAIT);
        result = guarded(|| store.append(batch.ops()));
    }
    result
}
