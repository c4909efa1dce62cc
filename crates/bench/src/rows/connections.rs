//! Sessions that wait.

use anyhow::Result;

use super::{Group, World, nothing};
use crate::load::idle;
use crate::result::{Reading, Row, Unit};
use crate::side::{PASSWORD, USERS, address, addresses};
use crate::usage::Tree;

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
        memory(
            "idle-imap",
            "memory of an IMAP connection in IDLE, 1,000 of them",
            0.5,
        ),
        memory("idle-imap-many", "the same, 10,000 of them", 1.3),
        memory(
            "idle-smtp",
            "memory of an SMTP connection, 1,000 of them",
            31.0,
        ),
    ],
    prepare: nothing,
    run: |world| {
        let (some, many) = world.scale.idle;
        let user = address("user0");
        let sample = idle::latency(
            world.side.smtp(),
            world.side.imap(),
            (&user, PASSWORD),
            world.scale.watched,
        )?;
        let mut readings = vec![Reading::new("idle-news", sample.percentile(0.5))];
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
};

/// KiB that each of `count` sessions costs, which last as long as what `open` gives.
fn growth<T>(
    world: &World<'_>,
    count: usize,
    open: impl Fn(usize) -> Result<Vec<T>>,
) -> Result<f64> {
    // What a server loads and keeps for the first of them is not what each costs.
    drop(open(count.min(2 * USERS))?);
    let before = settled(world)?;
    let sessions = open(count)?;
    let after = settled(world)?;
    drop(sessions);
    #[expect(
        clippy::cast_precision_loss,
        reason = "memory in KiB is far below 2^52"
    )]
    let each = after.saturating_sub(before) as f64 / count.max(1) as f64;
    Ok(each)
}

/// Memory once it falls no more: servers that put idle sessions away take a while for many.
fn settled(world: &World<'_>) -> Result<u64> {
    // Sessions sleep behind two seconds, and their processes end behind another five.
    std::thread::sleep(std::time::Duration::from_secs(10));
    let mut last = u64::MAX;
    for _ in 0..30 {
        testkit::check_interrupt()?;
        std::thread::sleep(std::time::Duration::from_secs(3));
        let now = Tree::of(&world.side.roots()?)?.memory();
        if now.saturating_add(now / 100) >= last {
            return Ok(now.min(last));
        }
        last = now;
    }
    Ok(last)
}
