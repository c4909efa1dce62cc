//! Sessions that wait.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Group, World, nothing};
use crate::load::idle;
use crate::result::{Reading, Row, Unit};
use crate::side::{PASSWORD, USERS, address, addresses};
use crate::usage::Tree;

/// Long enough for a session to be put to sleep.
const ASLEEP: Duration = Duration::from_secs(4);
/// Longer than servers take from one step of putting sessions away to the next.
const CALM: Duration = Duration::from_secs(8);
/// They may take a while for many.
const PATIENCE: Duration = Duration::from_secs(100);

const fn memory(id: &'static str, title: &'static str, reach: f64) -> Row {
    Row {
        id,
        group: "Idle",
        title,
        unit: Unit::Kibibytes,
        reach,
    }
}

/// News and memory of idle sessions.
pub(super) const GROUP: Group = Group {
    name: "idle",
    rows: &[
        Row {
            unit: Unit::Milliseconds,
            ..memory("idle-news", "from the 250 to EXISTS in IDLE, median", 25.0)
        },
        Row {
            unit: Unit::Milliseconds,
            ..memory(
                "idle-news-asleep",
                "the same, to a session that was put to sleep",
                1.0,
            )
        },
        memory(
            "idle-imap",
            "memory of an IMAP connection, 1,000 in IDLE",
            0.5,
        ),
        memory("idle-imap-many", "the same, 10,000 in IDLE", 1.3),
        memory(
            "idle-smtp",
            "memory of an SMTP connection, 1,000 of them",
            31.0,
        ),
    ],
    prepare: nothing,
    run: |world| {
        let (some, many) = world.scale.idle;
        let watched = world.scale.watched;
        let mut readings = vec![news(world, "idle-news", watched, Duration::ZERO)?];
        world.side.restart()?;
        readings.push(news(
            world,
            "idle-news-asleep",
            watched.div_ceil(4),
            ASLEEP,
        )?);
        let logins = addresses("user", USERS);
        for (row, count) in [("idle-imap", some), ("idle-imap-many", many)] {
            let imap = world.side.imap();
            let open = |count| idle::imap_sessions(imap, &logins, PASSWORD, count);
            readings.push(Reading::new(row, growth(world, count, open)?));
        }
        let smtp = world.side.smtp();
        let open = |count| idle::smtp_sessions(smtp, count);
        readings.push(Reading::new("idle-smtp", growth(world, some, open)?));
        Ok(readings)
    },
    once: true,
    alone: false,
};

fn news(world: &World<'_>, row: &'static str, count: usize, pause: Duration) -> Result<Reading> {
    let (smtp, imap) = (world.side.smtp(), world.side.imap());
    let user = address("user0");
    let sample = idle::latency(smtp, imap, (&user, PASSWORD), count, pause)?;
    Ok(Reading::new(row, sample.percentile(0.5)))
}

/// KiB that each of `count` sessions costs beside the first of them; they last as long as what `open`
/// gives. What a server loads and keeps for the first is not what each costs, and what it has kept of
/// other loads must not serve for the others.
fn growth<T>(
    world: &mut World<'_>,
    count: usize,
    open: impl Fn(usize) -> Result<Vec<T>>,
) -> Result<f64> {
    world.side.restart()?;
    let few = (2 * USERS).min(count / 5);
    let first = open(few)?;
    let before = settled(world)?;
    let others = open(count - few)?;
    let after = settled(world)?;
    drop((first, others));
    #[expect(
        clippy::cast_precision_loss,
        reason = "memory in KiB is far below 2^52"
    )]
    let each = after.saturating_sub(before) as f64 / (count - few).max(1) as f64;
    Ok(each)
}

/// Memory once it has not fallen for a while: sessions sleep behind two seconds, and the processes
/// that they leave end behind another five.
fn settled(world: &World<'_>) -> Result<u64> {
    let begun = Instant::now();
    let (mut least, mut since) = (u64::MAX, begun);
    while since.elapsed() < CALM && begun.elapsed() < PATIENCE {
        testkit::check_interrupt()?;
        std::thread::sleep(Duration::from_secs(1));
        let now = Tree::of(&world.side.roots()?)?.memory();
        // Some pages come and go.
        if now.saturating_add(now / 100) < least {
            (least, since) = (now, Instant::now());
        }
    }
    Tree::of(&world.side.roots()?).map(|tree| tree.memory())
}
