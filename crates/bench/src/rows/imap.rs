//! IMAP, mostly on a large mailbox.

pub(super) mod change;
pub(super) mod cold;
pub(super) mod mixed;

use std::net::SocketAddr;
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
        let (big, messages) = (address(BIG), world.scale.mailbox);
        read(world.side.imap(), &big, messages)?;
        read(world.side.imap(), &big, messages)
    },
    once: false,
    alone: false,
};

/// Makes the large mailbox where it is not there yet.
pub(super) fn fill(world: &mut World<'_>) -> Result<()> {
    let mut imap = login(world)?;
    let there = imap.count("INBOX")?;
    imap.fill("INBOX", there, world.scale.mailbox.saturating_sub(there))
}

fn login(world: &World<'_>) -> Result<Imap> {
    login_as(world.side.imap(), &address(BIG))
}

fn login_as(server: SocketAddr, account: &str) -> Result<Imap> {
    Ok(Imap::login(server, account, PASSWORD)?.large())
}

fn push(readings: &mut Vec<Reading>, row: &'static str, took: Duration) {
    readings.push(Reading::new(row, milliseconds(took)));
}

/// A FETCH that has to answer for each message.
fn fetch(imap: &mut Imap, wanted: usize, items: &str) -> Result<(Answer, Duration)> {
    let (answer, took) = imap.timed(&format!("FETCH 1:* {items}"))?;
    let got = answer.untagged;
    ensure!(
        got >= wanted,
        "FETCH {items} answered for {got} of {wanted} messages"
    );
    Ok((answer, took))
}

/// The rows of `READ`, on an INBOX with so many messages that the benchmark made.
pub(super) fn read(server: SocketAddr, account: &str, messages: usize) -> Result<Vec<Reading>> {
    let mut all = Vec::new();
    let readings = &mut all;
    let mut imap = login_as(server, account)?;
    push(readings, "select", imap.timed("SELECT INBOX")?.1);
    let fields = "BODY.PEEK[HEADER.FIELDS (SUBJECT FROM DATE)]";
    for (row, items) in [
        ("fetch-flags", "FLAGS"),
        ("fetch-structure", "(ENVELOPE BODYSTRUCTURE)"),
        ("fetch-header", fields),
    ] {
        push(readings, row, fetch(&mut imap, messages, items)?.1);
    }
    let (answer, took) = fetch(&mut imap, messages, "BODY.PEEK[]")?;
    ensure!(
        answer.octets > messages * 1500,
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
        search(&mut imap, &body, messages / 100)?,
    );
    push(
        readings,
        "search-unseen",
        search(&mut imap, "UNSEEN", messages)?,
    );
    Ok(all)
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
