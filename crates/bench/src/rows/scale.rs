//! A million messages: ten accounts that have ten times as many as the large mailbox each.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{Group, World, imap};
use crate::load::imap::Imap;
use crate::load::sessions;
use crate::load::smtp::wait_accepts;
use crate::result::{Reading, Row, Unit, median};
use crate::side::{BIG, PASSWORD, RELAY_DOMAIN, address, addresses};
use crate::usage;

/// How many times the large mailbox's messages each account has.
const TIMES: usize = 10;
/// Messages that a session appends between two looks at whether the run is to end.
const PIECE: usize = 5000;
const PATIENCE: Duration = Duration::from_mins(1);

const fn row(id: &'static str, title: &'static str, unit: Unit) -> Row {
    Row {
        id,
        group: "A million messages: 10 accounts of 100,000",
        title,
        unit,
        reach: 1.0,
    }
}

const MS: Unit = Unit::Milliseconds;

/// Time and memory as mailboxes grow.
pub(super) const GROUP: Group = Group {
    name: "scale",
    rows: &[
        row(
            "scale-accept",
            "restart of all, until mail is accepted",
            Unit::Seconds,
        ),
        row("scale-select", "SELECT, 100,000 messages", MS),
        row("scale-fetch-flags", "FETCH FLAGS of all", MS),
        row(
            "scale-fetch-structure",
            "FETCH ENVELOPE BODYSTRUCTURE of all",
            MS,
        ),
        row(
            "scale-fetch-header",
            "FETCH of three header fields of all",
            MS,
        ),
        row("scale-fetch-body", "FETCH BODY[] of all, 420 MB", MS),
        row("scale-search-subject", "SEARCH SUBJECT", MS),
        row("scale-search-body", "SEARCH BODY", MS),
        row("scale-search-unseen", "SEARCH UNSEEN", MS),
        row(
            "scale-localdeliver",
            "localdeliver at most, all accounts read at once",
            Unit::Kibibytes,
        ),
        row("scale-imapd", "imapd at most", Unit::Kibibytes),
    ],
    prepare: fill,
    run,
    once: true,
    alone: true,
};

fn accounts(world: &World<'_>) -> Vec<String> {
    addresses("scale", world.scale.accounts)
}

fn fill(world: &mut World<'_>) -> Result<()> {
    imap::fill(world)?;
    let (names, server) = (accounts(world), world.side.imap());
    let wanted = TIMES * world.scale.mailbox;
    let open =
        |number: usize| Imap::login(server, names.get(number).context("no account")?, PASSWORD);
    sessions(names.len(), open, |_, imap| {
        let mut there = imap.count("INBOX")?;
        while there < wanted {
            testkit::check_interrupt()?;
            let some = PIECE.min(wanted - there);
            imap.fill("INBOX", there, some)?;
            there += some;
        }
        Ok((0, Vec::new()))
    })?;
    Ok(())
}

fn run(world: &mut World<'_>) -> Result<Vec<Reading>> {
    let begun = Instant::now();
    world.side.restart()?;
    wait_accepts(
        world.side.smtp(),
        &format!("somebody@{RELAY_DOMAIN}"),
        PATIENCE,
    )?;
    let mut readings = vec![Reading::new("scale-accept", begun.elapsed().as_secs_f64())];
    let few = times(world, &[address(BIG)], world.scale.mailbox)?;
    let names = accounts(world);
    let many = times(world, &names, TIMES * world.scale.mailbox)?;
    for row in GROUP.rows {
        let Some(name) = row.id.strip_prefix("scale-") else {
            continue;
        };
        let of = |all: &[Reading]| {
            let values: Vec<f64> = all
                .iter()
                .filter(|r| r.row == name)
                .map(|r| r.value)
                .collect();
            median(&values)
        };
        if let (Some(few), Some(many)) = (of(&few), of(&many)) {
            #[expect(clippy::cast_precision_loss, reason = "a small number")]
            let linear = few * TIMES as f64;
            let note = Some(format!("{:.2} of {TIMES} × that of a tenth", many / linear));
            readings.push(Reading {
                note,
                ..Reading::new(row.id, many)
            });
        }
    }
    let wanted = TIMES * world.scale.mailbox;
    let server = world.side.imap();
    let at_once = |number: usize| names.get(number).context("no account");
    sessions(names.len(), at_once, |_, name| {
        imap::read(server, name, wanted)?;
        Ok((0, Vec::new()))
    })?;
    for (row, daemon) in [
        ("scale-localdeliver", "localdeliver"),
        ("scale-imapd", "imapd"),
    ] {
        let peak = peak(world, daemon)?;
        readings.push(Reading::new(row, peak));
    }
    Ok(readings)
}

/// The rows of reading, of several accounts, each read once before.
fn times(world: &World<'_>, names: &[String], messages: usize) -> Result<Vec<Reading>> {
    let mut all = Vec::new();
    for name in names {
        imap::read(world.side.imap(), name, messages)?;
        for _ in 0..(TIMES / names.len()).clamp(1, 3) {
            all.extend(imap::read(world.side.imap(), name, messages)?);
        }
    }
    Ok(all)
}

/// The most resident memory that a daemon has had since it started, in KiB.
fn peak(world: &World<'_>, daemon: &str) -> Result<f64> {
    for pid in world.side.roots()? {
        if usage::name(pid)? == daemon {
            return usage::peak(pid);
        }
    }
    bail!("{daemon} does not run")
}
