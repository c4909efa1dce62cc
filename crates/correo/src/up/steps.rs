use std::future::Future;
use std::time::{Duration, Instant};

use super::children::Log;

/// How long a step takes before its progress is told, and how often.
const PATIENCE: Duration = Duration::from_secs(1);

/// Runs steps one after the other and shows each with its time. Behind one that failed the others
/// are left out: they would only fail for the same reason.
#[derive(Debug)]
pub(super) struct Steps {
    log: Log,
    failed: bool,
}

impl Steps {
    pub(super) fn new(log: Log) -> Self {
        Self { log, failed: false }
    }

    pub(super) fn all_worked(&self) -> bool {
        !self.failed
    }

    /// Runs a step; its result, if it worked. Its error says what is wrong and what to do.
    pub(super) async fn run<T>(
        &mut self,
        name: &str,
        step: impl Future<Output = Result<T, String>>,
    ) -> Option<T> {
        if self.failed {
            self.log.step(&format!("-  {name}: left out"));
            return None;
        }
        let begun = Instant::now();
        let mut progress = tokio::time::interval_at((begun + PATIENCE).into(), PATIENCE);
        tokio::pin!(step);
        let result = loop {
            tokio::select! {
                result = &mut step => break result,
                _ = progress.tick() => {
                    let seconds = begun.elapsed().as_secs();
                    self.log.step(&format!("…  {name}: waiting, {seconds} s"));
                }
            }
        };
        let took = begun.elapsed().as_millis();
        match result {
            Ok(value) => {
                self.log.step(&format!("✓  {name} ({took} ms)"));
                Some(value)
            }
            Err(error) => {
                self.failed = true;
                self.log.step(&format!("✗  {name} ({took} ms): {error}"));
                None
            }
        }
    }
}
