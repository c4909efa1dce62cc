//! What all threads share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use testkit::{Daemon, Suite};

use crate::ledger::{Findings, Ledger};
use crate::wire::Cutter;

/// The password of all accounts.
pub(crate) const PASSWORD: &str = "torture-secret";

/// The suite and what is known of it.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) suite: Suite,
    pub(crate) accounts: Vec<String>,
    pub(crate) ledger: Ledger,
    pub(crate) findings: Findings,
    pub(crate) cutter: Arc<Cutter>,
    pub(crate) changes: AtomicU64,
    stop: AtomicBool,
}

impl World {
    pub(crate) fn new(suite: Suite, accounts: Vec<String>) -> Self {
        Self {
            suite,
            accounts,
            ledger: Ledger::default(),
            findings: Findings::default(),
            cutter: Arc::default(),
            changes: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        }
    }

    /// The clients have done enough.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn pause(duration: Duration) {
        std::thread::sleep(duration);
    }

    /// An account's address.
    pub(crate) fn address(&self, account: usize) -> &str {
        self.accounts.get(account).map_or("", String::as_str)
    }

    /// The last lines of a daemon's log.
    pub(crate) fn tail(&self, daemon: Daemon, lines: usize) -> String {
        let log = self.suite.log(daemon);
        let all: Vec<&str> = log.lines().collect();
        let from = all.len().saturating_sub(lines);
        all.get(from..).unwrap_or_default().join("\n")
    }
}
