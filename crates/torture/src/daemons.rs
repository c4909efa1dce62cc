//! Starts daemons again that have ended, and tells those that were not meant to end.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::Signal;
use testkit::Daemon;

use crate::world::World;

/// So often a daemon may end within [`WINDOW`] of its own accord where it may do so at all.
const WINDOW: Duration = Duration::from_secs(30);

/// What is known of each daemon.
#[derive(Debug, Default)]
pub(crate) struct Daemons {
    states: Mutex<HashMap<Daemon, Status>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Status {
    /// Killed or told to end by us.
    is_doomed: bool,
    /// Not to be started before.
    held_until: Option<Instant>,
    /// May end by itself until then, since its disk has failed.
    excused_until: Option<Instant>,
    starts: u64,
    /// Resident memory, in KiB.
    memory: u64,
}

impl Daemons {
    /// SIGKILL; it is started again after a while.
    pub(crate) fn kill(&self, world: &World, daemon: Daemon, down: Duration) -> Result<()> {
        self.doom(daemon, down);
        world.suite.signal(daemon, Signal::SIGKILL)
    }

    /// SIGTERM; it is started again when it has ended.
    pub(crate) fn terminate(&self, world: &World, daemon: Daemon, down: Duration) -> Result<()> {
        self.doom(daemon, down);
        world.suite.signal(daemon, Signal::SIGTERM)
    }

    fn doom(&self, daemon: Daemon, down: Duration) {
        let mut states = self.lock();
        let status = states.entry(daemon).or_default();
        status.is_doomed = true;
        status.held_until = Some(Instant::now() + down);
    }

    /// It may end by itself for some time.
    pub(crate) fn excuse(&self, daemon: Daemon, time: Duration) {
        self.lock().entry(daemon).or_default().excused_until = Some(Instant::now() + time);
    }

    /// How often it was started.
    pub(crate) fn starts(&self, daemon: Daemon) -> u64 {
        self.lock().get(&daemon).map_or(0, |status| status.starts)
    }

    /// The most resident memory that was seen, in KiB.
    pub(crate) fn memory(&self, daemon: Daemon) -> u64 {
        self.lock().get(&daemon).map_or(0, |status| status.memory)
    }

    /// True if all run.
    pub(crate) fn are_up(world: &World) -> bool {
        let is_up = |daemon| matches!(world.suite.ended(daemon), Ok(None));
        Daemon::ALL.into_iter().all(is_up)
    }

    /// Works until `is_done`.
    pub(crate) fn watch(&self, world: &World, is_done: impl Fn() -> bool) {
        while !is_done() && !testkit::interrupted() {
            for daemon in Daemon::ALL {
                if let Err(error) = self.look_at(world, daemon) {
                    world.findings.add(format!("{}: {error:#}", daemon.name()));
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn look_at(&self, world: &World, daemon: Daemon) -> Result<()> {
        let Some(status) = world.suite.ended(daemon)? else {
            let memory = world.suite.memory(daemon).unwrap_or(0);
            let mut states = self.lock();
            let state = states.entry(daemon).or_default();
            state.memory = state.memory.max(memory);
            return Ok(());
        };
        let now = Instant::now();
        let state = {
            let mut states = self.lock();
            let state = states.entry(daemon).or_default();
            if state.held_until.is_some_and(|until| until > now) {
                return Ok(());
            }
            state.starts += 1;
            std::mem::replace(&mut state.is_doomed, false)
        };
        let is_excused = self
            .lock()
            .get(&daemon)
            .and_then(|state| state.excused_until);
        let is_excused = is_excused.is_some_and(|until| until + WINDOW > now);
        if !state && !is_excused {
            let (name, tail) = (daemon.name(), world.tail(daemon, 8));
            let what = format!("{name} ended by itself with {status}; it said:\n{tail}");
            world.findings.add(what);
        }
        // Reaps it.
        world.suite.kill(daemon)?;
        if !state {
            // One that ends at once is not started in a circle.
            std::thread::sleep(Duration::from_millis(500));
        }
        world.suite.start(daemon)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Daemon, Status>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
