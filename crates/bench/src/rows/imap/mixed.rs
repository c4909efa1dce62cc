//! Many sessions at once that do what clients do all day.

use anyhow::Result;

use super::row;
use crate::load::mixed::MixedLoad;
use crate::result::{Reading, Row, Unit};
use crate::rows::{Group, World, nothing, rate};
use crate::side::{PASSWORD, USERS, addresses};

const fn mixed(id: &'static str, title: &'static str) -> Row {
    Row {
        unit: Unit::PerSecond,
        ..row(id, title, 2.0)
    }
}

/// Fetches, lists, flags and appends.
pub(in crate::rows) const GROUP: Group = Group {
    name: "imap-mixed",
    rows: &[
        mixed("mixed-20", "fetch, list, store, append; 20 sessions"),
        row("mixed-20-p99", "the same, slowest of a hundred", 2.0),
        mixed("mixed-100", "fetch, list, store, append; 100 sessions"),
        row("mixed-100-p99", "the same, slowest of a hundred", 2.0),
    ],
    prepare: nothing,
    run: many,
    once: false,
    alone: false,
};

fn many(world: &mut World<'_>) -> Result<Vec<Reading>> {
    let mut readings = Vec::new();
    for (sessions, throughput, slowest) in [
        (20, "mixed-20", "mixed-20-p99"),
        (100, "mixed-100", "mixed-100-p99"),
    ] {
        let (sample, cpu) = world.with_cpu(1, |world| {
            let logins = addresses("user", USERS);
            MixedLoad {
                server: world.side.imap(),
                logins: logins.into_iter().take(sessions).collect(),
                password: PASSWORD.to_owned(),
                lasts: world.scale.lasts,
            }
            .run()
        })?;
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let operations = sample.operations.max(1) as f64;
        readings.push(rate(throughput, &sample, cpu / operations));
        readings.push(Reading::new(slowest, sample.percentile(0.99)));
    }
    Ok(readings)
}
