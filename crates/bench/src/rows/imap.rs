//! IMAP, mostly on a large mailbox.

pub(super) mod change;
pub(super) mod cold;
pub(super) mod mixed;

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Group, World, milliseconds};
use crate::load::imap::{Answer, Imap};
use crate::load::message::RARE_WORD;
use crate::result::{Reading, Row, Unit};
use crate::side::{BIG, PASSWORD, address};

const fn row(id: &'static str, title: &'static str, reach: f64) -> Row {
    Row {
        id,
        group: "IMAP",
        title,
        unit: Unit::Milliseconds,
        reach,
    }
}

/// Commands that change nothing, on 10,000 messages of together 42 MB.
pub(super) const READ: Group = Group {
    name: "imap-read",
    rows: &[
        row("select", "SELECT, 10,000 messages", 1.0),
        row("fetch-flags", "FETCH FLAGS of all", 2.3),
        row(
            "fetch-structure",
            "FETCH ENVELOPE BODYSTRUCTURE of all",
            4.5,
        ),
        row("fetch-header", "FETCH of three header fields of all", 1.8),
        row("fetch-body", "FETCH BODY[] of all, 42 MB", 1.3),
        row("search-subject", "SEARCH SUBJECT", 2.0),
        row("search-body", "SEARCH BODY", 2.0),
        row("search-unseen", "SEARCH UNSEEN", 2.0),
    ],
    prepare: fill,
    run: |world| {
        // Cold rows of a run before may have left nothing in memory.
        read(world, &mut Vec::new())?;
        let mut readings = Vec::new();
        read(world, &mut readings)?;
        Ok(readings)
    },
    once: false,
};

/// Makes the large mailbox where it is not there yet.
fn fill(world: &mut World<'_>) -> Result<()> {
    let mut imap = login(world)?;
    let there = imap.count("INBOX")?;
    imap.fill("INBOX", there, world.scale.mailbox.saturating_sub(there))
}

fn login(world: &World<'_>) -> Result<Imap> {
    let imap = Imap::login(world.side.imap(), &address(BIG), PASSWORD)?;
    Ok(imap.large())
}

fn push(readings: &mut Vec<Reading>, row: &'static str, took: Duration) {
    readings.push(Reading::new(row, milliseconds(took)));
}

/// A FETCH that has to answer for each message.
fn fetch(world: &World<'_>, imap: &mut Imap, items: &str) -> Result<(Answer, Duration)> {
    let (answer, took) = imap.timed(&format!("FETCH 1:* {items}"))?;
    let (got, wanted) = (answer.untagged, world.scale.mailbox);
    ensure!(
        got >= wanted,
        "FETCH {items} answered for {got} of {wanted} messages"
    );
    Ok((answer, took))
}

fn read(world: &mut World<'_>, readings: &mut Vec<Reading>) -> Result<()> {
    let mut imap = login(world)?;
    push(readings, "select", imap.timed("SELECT INBOX")?.1);
    push(readings, "fetch-flags", fetch(world, &mut imap, "FLAGS")?.1);
    let structure = fetch(world, &mut imap, "(ENVELOPE BODYSTRUCTURE)")?.1;
    push(readings, "fetch-structure", structure);
    let fields = fetch(
        world,
        &mut imap,
        "BODY.PEEK[HEADER.FIELDS (SUBJECT FROM DATE)]",
    )?
    .1;
    push(readings, "fetch-header", fields);
    let (answer, took) = fetch(world, &mut imap, "BODY.PEEK[]")?;
    ensure!(
        answer.octets > world.scale.mailbox * 1500,
        "FETCH BODY[] gave {} octets",
        answer.octets
    );
    push(readings, "fetch-body", took);
    push(
        readings,
        "search-subject",
        search(&mut imap, "SUBJECT invoice", 100)?,
    );
    let body = format!("BODY {RARE_WORD}");
    push(
        readings,
        "search-body",
        search(&mut imap, &body, world.scale.mailbox / 100)?,
    );
    push(
        readings,
        "search-unseen",
        search(&mut imap, "UNSEEN", world.scale.mailbox)?,
    );
    Ok(())
}

/// A SEARCH that has to find so many at least.
fn search(imap: &mut Imap, key: &str, least: usize) -> Result<Duration> {
    let (_, took) = imap.timed(&format!("SEARCH {key}"))?;
    // The numbers of 10,000 messages are one line, which `command` would cut.
    let counted = imap.command(&format!("SEARCH RETURN (COUNT) {key}"))?;
    let text = String::from_utf8_lossy(&counted.last).into_owned();
    let count = text
        .rsplit("COUNT ")
        .next()
        .and_then(|count| count.trim().parse().ok());
    ensure!(
        count >= Some(least),
        "SEARCH {key}: {text}, where {least} are to be found"
    );
    Ok(took)
}
