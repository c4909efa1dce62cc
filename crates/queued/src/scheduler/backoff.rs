use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::settings::Settings;

/// The wait before the attempt after `attempts` failed ones, in milliseconds: doubles from the
/// least to the longest, spread by a quarter up and down, so that what failed together does not
/// come back together. The spread depends on `salt` alone, so nothing here is random.
pub(super) fn wait(settings: &Settings, attempts: u32, salt: u64) -> u64 {
    let full = full(settings, attempts);
    let mut hasher = DefaultHasher::new();
    (salt, attempts).hash(&mut hasher);
    let spread = full / 2;
    full - spread / 2 + hasher.finish() % (spread + 1)
}

/// How long a message with so many attempts is at least in the queue: for messages that seem to
/// come from the future.
pub(super) fn waited(settings: &Settings, attempts: u32) -> u64 {
    (1..=attempts.min(1000))
        .map(|attempt| full(settings, attempt))
        .sum()
}

fn full(settings: &Settings, attempts: u32) -> u64 {
    let doublings = attempts.saturating_sub(1).min(30);
    let wait = millis(settings.retry_min).saturating_mul(1 << doublings);
    wait.min(millis(settings.retry_max)).max(1)
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
