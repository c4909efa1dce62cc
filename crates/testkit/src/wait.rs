use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::check_interrupt;

/// How long a test waits for something that should happen at once. Long, because a machine that
/// builds and tests in parallel can be very slow; reaching it is a failure.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Asks again and again until there is an answer, or fails when [`PATIENCE`] is over.
pub fn wait_until<T>(what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(5);
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        check_interrupt()?;
        if Instant::now() > end {
            bail!("waited in vain: {what}");
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}
