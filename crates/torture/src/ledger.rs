//! What the servers have answered, and what was found wrong.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is known of a message that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// 250: it has to be there once.
    Accepted,
    /// Its end was sent, and no answer came or one for now: once or never.
    Unknown,
    /// Its end was never sent: never.
    Never,
}

/// A message and where it goes.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) outcome: Outcome,
    /// Numbers of accounts.
    pub(crate) recipients: Vec<usize>,
}

/// All messages that were sent by SMTP.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    sent: Mutex<HashMap<String, Sent>>,
    accepted: AtomicU64,
    unknown: AtomicU64,
    refused: AtomicU64,
}

impl Ledger {
    /// Notes a message; it counts as not sent until [`Self::ends`].
    pub(crate) fn begins(&self, id: &str, recipients: Vec<usize>) {
        let outcome = Outcome::Never;
        let sent = Sent {
            outcome,
            recipients,
        };
        self.lock().insert(id.to_owned(), sent);
    }

    /// Its end is about to be sent.
    pub(crate) fn ends(&self, id: &str) {
        self.unknown.fetch_add(1, Ordering::Relaxed);
        self.set(id, Outcome::Unknown);
    }

    /// The server has answered 250.
    pub(crate) fn accepted(&self, id: &str) {
        self.set(id, Outcome::Accepted);
        self.unknown.fetch_sub(1, Ordering::Relaxed);
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    /// The server has refused the message at its end, for now; a part of the suite may still have
    /// taken it.
    pub(crate) fn refused_at_end(&self) {
        self.unknown.fetch_sub(1, Ordering::Relaxed);
        self.refused();
    }

    /// The server has refused something for now.
    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Messages with 250, without an answer, and refusals for now.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        (
            self.accepted.load(Ordering::Relaxed),
            self.unknown.load(Ordering::Relaxed),
            self.refused.load(Ordering::Relaxed),
        )
    }

    pub(crate) fn take(&self) -> HashMap<String, Sent> {
        std::mem::take(&mut self.lock())
    }

    fn set(&self, id: &str, outcome: Outcome) {
        if let Some(sent) = self.lock().get_mut(id) {
            sent.outcome = outcome;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Sent>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Findings that are written out; more of them are only counted.
const SHOWN: usize = 100;

/// What must not be.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    round: AtomicUsize,
    count: AtomicUsize,
    all: Mutex<Vec<String>>,
}

impl Findings {
    /// From now on findings are of this round.
    pub(crate) fn begin(&self, round: usize) {
        self.round.store(round, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, what: impl Into<String>) {
        let what = what.into();
        let round = self.round.load(Ordering::Relaxed);
        crate::say(&format!("  FINDING: {what}"));
        if self.count.fetch_add(1, Ordering::Relaxed) < SHOWN {
            let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(format!("round {round}: {what}"));
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn all(&self) -> Vec<String> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.clone()
    }
}
