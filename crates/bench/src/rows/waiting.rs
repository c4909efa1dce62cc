//! A long queue.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Group, World, nothing};
use crate::load::smtp::wait_accepts;
use crate::result::{Reading, Row, Unit};
use crate::side::{Mailboxes, RELAY_DOMAIN, load};
use crate::usage::{self, Tree};

/// As the rows' titles say.
const USUAL: usize = 100_000;
const PATIENCE: Duration = Duration::from_mins(20);

const fn row(id: &'static str, title: &'static str, reach: f64) -> Row {
    Row {
        id,
        group: "Queue",
        title,
        unit: Unit::Seconds,
        reach,
    }
}

/// Messages that wait in a queue: to list them, and to get rid of them behind a restart.
pub(super) const GROUP: Group = Group {
    name: "waiting",
    rows: &[
        row("waiting-list", "100,000 waiting messages: list all", 1.0),
        row("waiting-accept", "from restart until mail is accepted", 1.0),
        row("waiting-drain", "from restart until all are delivered", 8.0),
    ],
    prepare: nothing,
    run: |world| {
        let count = world.scale.waiting;
        let mailboxes = Mailboxes::open(world.side)?;
        world.side.hold()?;
        load(world.side.smtp(), 100, count, 1024).run()?;
        let list = time_list(world, count)?;
        world.side.stop_queue()?;
        let begun = Instant::now();
        world.side.start_queue()?;
        wait_accepts(
            world.side.smtp(),
            &format!("somebody@{RELAY_DOMAIN}"),
            PATIENCE,
        )?;
        let accepts = begun.elapsed();
        mailboxes.wait(count, PATIENCE)?;
        let drained = begun.elapsed();
        let note = note(world, count)?;
        let times = [
            ("waiting-list", list),
            ("waiting-accept", accepts),
            ("waiting-drain", drained),
        ];
        let reading = |(row, took): (&'static str, Duration)| Reading {
            note: note
                .clone()
                .filter(|_| row == "waiting-drain" || count != USUAL),
            ..Reading::new(row, took.as_secs_f64())
        };
        Ok(times.map(reading).to_vec())
    },
    once: true,
    alone: false,
};

/// How many there were, and what the process that keeps the queue used since its start.
fn note(world: &World<'_>, count: usize) -> Result<Option<String>> {
    for pid in Tree::of(&world.side.roots()?)?.pids() {
        // Others may end meanwhile.
        let name = usage::name(*pid).unwrap_or_default();
        if ["queued", "qmgr"].contains(&&*name) {
            let mebibytes = usage::peak(*pid)? / 1024.0;
            return Ok(Some(format!(
                "{count} messages, {name} at most {mebibytes:.0} MiB"
            )));
        }
    }
    Ok(None)
}

fn time_list(world: &World<'_>, count: usize) -> Result<Duration> {
    let begun = Instant::now();
    let output = world
        .side
        .list()
        .stderr(Stdio::inherit())
        .output()
        .context("listing the queue")?;
    let took = begun.elapsed();
    ensure!(
        output.status.success(),
        "the list of the queue ended with {}",
        output.status
    );
    let lines = memchr::memchr_iter(b'\n', &output.stdout).count();
    ensure!(
        lines >= count,
        "the list of the queue has {lines} lines for {count} messages"
    );
    Ok(took)
}
