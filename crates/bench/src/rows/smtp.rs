//! Mail on its way: in, through and out again.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Group, World, nothing, rate};
use crate::load::Sample;
use crate::load::smtp::SmtpLoad;
use crate::result::{Reading, Row, Unit};
use crate::side::{Mailboxes, RELAY_DOMAIN, load};

const PATIENCE: Duration = Duration::from_mins(5);

const fn row(id: &'static str, title: &'static str, reach: f64) -> Row {
    Row {
        id,
        group: "SMTP",
        title,
        unit: Unit::PerSecond,
        reach,
    }
}

/// From SMTP until all is in mailboxes.
pub(super) const FLOW: Group = Group {
    name: "flow",
    rows: &[
        row("flow", "end to end, 100 users, 20 sessions", 10.0),
        row("flow-reconnect", "the same, one message a connection", 8.0),
        row(
            "deliver",
            "delivery into the store alone, 20 sessions",
            10.0,
        ),
    ],
    prepare: nothing,
    run: |world| {
        let mut readings = Vec::new();
        for (id, reconnect) in [("flow", false), ("flow-reconnect", true)] {
            let messages = world.scale.messages;
            let mailboxes = Mailboxes::open(world.side)?;
            let (sample, cpu) = world.with_cpu(messages, |world| {
                let begun = Instant::now();
                SmtpLoad {
                    reconnect,
                    ..load(world.side.smtp(), 20, messages, 4096)
                }
                .run()?;
                mailboxes.wait(messages, PATIENCE)?;
                Ok(Sample {
                    operations: u64::try_from(messages)?,
                    took: begun.elapsed(),
                    latencies: Vec::new(),
                })
            })?;
            readings.push(rate(id, &sample, cpu));
        }
        let sample = world.side.deliver(world.scale.messages)?;
        readings.push(Reading::new("deliver", sample.rate()));
        Ok(readings)
    },
    once: false,
    alone: false,
};

/// Into the queue, where mail stays meanwhile.
pub(super) const ACCEPT: Group = Group {
    name: "accept",
    rows: &[
        row(
            "accept-10",
            "accepted into the queue, 10 sessions, 4 KiB",
            8.0,
        ),
        row("accept-50", "the same, 50 sessions", 8.0),
        row("accept-100", "the same, 100 sessions", 8.0),
        row("accept-64k", "accepted, 20 sessions, 64 KiB", 4.0),
        row("accept-1m", "accepted, 20 sessions, 1 MiB", 3.0),
    ],
    prepare: nothing,
    run: |world| {
        world.side.hold()?;
        let measured = accept(world);
        world.side.clear()?;
        measured
    },
    once: false,
    alone: false,
};

fn accept(world: &mut World<'_>) -> Result<Vec<Reading>> {
    let scale = world.scale;
    let loads = [
        ("accept-10", 10, scale.messages, 4096),
        ("accept-50", 50, scale.messages, 4096),
        ("accept-100", 100, scale.messages, 4096),
        ("accept-64k", 20, scale.middle, 64 * 1024),
        ("accept-1m", 20, scale.large, 1024 * 1024),
    ];
    let mut readings = Vec::new();
    for (id, sessions, messages, size) in loads {
        let (sample, cpu) = world.with_cpu(messages, |world| {
            load(world.side.smtp(), sessions, messages, size).run()
        })?;
        readings.push(rate(id, &sample, cpu));
    }
    Ok(readings)
}

/// In by SMTP and out by SMTP.
pub(super) const RELAY: Group = Group {
    name: "relay",
    rows: &[row("relay", "relay to one SMTP server, 20 sessions", 8.0)],
    prepare: nothing,
    run: |world| {
        let messages = world.scale.messages;
        let (sample, cpu) = world.with_cpu(messages, |world| {
            let before = world.sink.received();
            let begun = Instant::now();
            let recipients = vec![format!("somebody@{RELAY_DOMAIN}")];
            SmtpLoad {
                recipients,
                ..load(world.side.smtp(), 20, messages, 4096)
            }
            .run()?;
            world.sink.wait(before + messages, PATIENCE)?;
            Ok(Sample {
                operations: u64::try_from(messages)?,
                took: begun.elapsed(),
                latencies: Vec::new(),
            })
        })?;
        Ok(vec![rate("relay", &sample, cpu)])
    },
    once: false,
    alone: false,
};
