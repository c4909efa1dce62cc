//! Two clocks, so that a wall clock that jumps can neither lose mail nor send all of it at once.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A moment on both clocks, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since the start of the process; never jumps. All waiting is by this one.
    pub steady: u64,
    /// Unix time, as the system has it. It is what goes on disk, since it outlives a process.
    pub wall: u64,
}

/// The clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Starts the steady clock.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time.
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        let millis =
            |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Now {
            steady: millis(self.0.elapsed()),
            // Before 1970 the clock is plainly not set.
            wall: wall.map_or(0, millis),
        }
    }
}
