use std::collections::VecDeque;
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Done;
use crate::store::Op;

/// The most octets in one batch: what waits behind it must not wait long.
const MAX_OCTETS: usize = 4 * 1024 * 1024;
/// The most changes in one batch.
const MAX_OPS: usize = 2048;
/// How long changes that nobody waits for may wait for others to share their flush.
const LINGER: Duration = Duration::from_millis(2);

pub(super) struct Request {
    pub(super) want: Want,
    pub(super) done: Done,
}

#[derive(Debug)]
pub(super) enum Want {
    /// Somebody waits.
    Change(Vec<Op>),
    /// Nobody waits.
    Later(Vec<Op>),
    /// Somebody waits, and it is refused when too little room is left.
    NewMail(Vec<Op>),
}

impl Want {
    fn ops(&self) -> &[Op] {
        match self {
            Self::Change(ops) | Self::Later(ops) | Self::NewMail(ops) => ops,
        }
    }

    fn is_urgent(&self) -> bool {
        !matches!(self, Self::Later(_))
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("want", &self.want)
            .finish_non_exhaustive()
    }
}

/// What waits for the threads. One of them at a time appends; the others flush or wait here.
#[derive(Debug, Default)]
pub(super) struct Requests {
    waiting: Mutex<Waiting>,
    /// There is something to do, or nothing ever again.
    wake: Condvar,
    /// For the one who waits for company.
    hurry: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    requests: VecDeque<Request>,
    /// How many of them somebody waits for.
    urgent: usize,
    appender: Appender,
    /// Threads with nothing to do.
    idle: usize,
    /// One of them was woken and has not looked yet.
    called: bool,
    ended: bool,
}

/// The one who appends.
#[derive(Debug, Default, PartialEq, Eq)]
enum Appender {
    #[default]
    None,
    /// It takes nothing more.
    Busy,
    /// It begins with the first request that somebody waits for.
    Lingering,
}

impl Requests {
    pub(super) fn push(&self, request: Request) {
        let mut waiting = self.lock();
        waiting.urgent += usize::from(request.want.is_urgent());
        waiting.requests.push_back(request);
        match waiting.appender {
            Appender::None => self.call(waiting),
            Appender::Busy => {}
            Appender::Lingering => {
                if waiting.urgent > 0 || waiting.requests.len() >= MAX_OPS {
                    waiting.appender = Appender::Busy;
                    drop(waiting);
                    self.hurry.notify_one();
                }
            }
        }
    }

    /// Wakes somebody to take what waits, unless somebody comes anyway.
    fn call(&self, mut waiting: MutexGuard<'_, Waiting>) {
        if waiting.idle > 0 && !waiting.called {
            waiting.called = true;
            // Or the one who wakes would wait for the lock.
            drop(waiting);
            self.wake.notify_one();
        }
    }

    /// Takes all that waits, up to what a batch may hold. Nobody else gets anything before
    /// [`Self::pass_on`]. `None` when there will be nothing more.
    pub(super) fn take(&self) -> Option<Vec<Request>> {
        let mut waiting = self.lock();
        while waiting.appender != Appender::None || waiting.requests.is_empty() {
            if waiting.ended && waiting.requests.is_empty() {
                return None;
            }
            waiting.idle += 1;
            waiting = self
                .wake
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
            waiting.idle -= 1;
            waiting.called = false;
        }
        waiting = self.linger(waiting);
        waiting.appender = Appender::Busy;
        Some(waiting.gather())
    }

    /// What nobody waits for waits itself for a moment.
    fn linger<'a>(&'a self, mut waiting: MutexGuard<'a, Waiting>) -> MutexGuard<'a, Waiting> {
        let end = Instant::now() + LINGER;
        while waiting.urgent == 0 && waiting.requests.len() < MAX_OPS && !waiting.ended {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            waiting.appender = Appender::Lingering;
            let woken = self.hurry.wait_timeout(waiting, left);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        waiting
    }

    /// Somebody else may append.
    pub(super) fn pass_on(&self) {
        let mut waiting = self.lock();
        waiting.appender = Appender::None;
        if waiting.ended || !waiting.requests.is_empty() {
            self.call(waiting);
        }
    }

    /// Nothing more will come.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.wake.notify_all();
        self.hurry.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // It is whole at each step.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn gather(&mut self) -> Vec<Request> {
        let (mut octets, mut ops) = (0, 0);
        let fits = |request: &&Request| {
            let room = octets < MAX_OCTETS && ops < MAX_OPS;
            octets += request.want.ops().iter().map(Op::weight).sum::<usize>();
            ops += request.want.ops().len();
            room
        };
        let count = self.requests.iter().take_while(fits).count();
        let taken: Vec<_> = self.requests.drain(..count).collect();
        let urgent = taken.iter().filter(|request| request.want.is_urgent());
        self.urgent -= urgent.count();
        taken
    }
}
