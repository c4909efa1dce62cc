//! Load clients. They speak to any server, check every answer, and cost as little as they can,
//! since they run beside the server that they measure.

pub(crate) mod cli;
pub(crate) mod idle;
pub(crate) mod imap;
pub(crate) mod line;
pub(crate) mod message;
pub(crate) mod mixed;
pub(crate) mod pop3;
pub(crate) mod sink;
pub(crate) mod smtp;

use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

/// What a load gave.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    pub(crate) operations: u64,
    pub(crate) took: Duration,
    pub(crate) latencies: Vec<Duration>,
}

impl Sample {
    /// Operations a second.
    pub(crate) fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let operations = self.operations as f64;
        operations / self.took.as_secs_f64().max(1e-9)
    }

    /// The latency below which a share of the operations stayed, in milliseconds.
    pub(crate) fn percentile(&self, share: f64) -> f64 {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index into a list that is in memory"
        )]
        let at = (sorted.len() as f64 * share) as usize;
        let found = sorted.get(at.min(sorted.len().saturating_sub(1)));
        found.map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
    }
}

/// Runs sessions in threads of their own. `open` prepares a session; the clock starts once all are
/// ready and stops when the last is done. `work` gives operations and their latencies.
pub(crate) fn sessions<S: Send>(
    count: usize,
    open: impl Fn(usize) -> Result<S> + Sync,
    work: impl Fn(usize, &mut S) -> Result<(u64, Vec<Duration>)> + Sync,
) -> Result<Sample> {
    let ready = Barrier::new(count + 1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|number| {
                let (open, work, ready) = (&open, &work, &ready);
                scope.spawn(move || {
                    let session = open(number);
                    ready.wait();
                    let mut session = session?;
                    let done = work(number, &mut session)?;
                    // The session is given too, so that its end does not count.
                    Ok::<_, anyhow::Error>((done, Instant::now(), session))
                })
            })
            .collect();
        ready.wait();
        let begun = Instant::now();
        let mut sample = Sample::default();
        for thread in threads {
            let ended = thread.join().map_err(|_| anyhow!("a session panicked"))?;
            let ((operations, latencies), at, _session) = ended.context("a session failed")?;
            sample.operations += operations;
            sample.latencies.extend(latencies);
            sample.took = sample.took.max(at.saturating_duration_since(begun));
        }
        Ok(sample)
    })
}
