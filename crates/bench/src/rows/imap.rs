//! IMAP on a large mailbox.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{Group, World, milliseconds, rate};
use crate::load::imap::{Answer, Imap, mail};
use crate::load::message::RARE_WORD;
use crate::load::mixed::MixedLoad;
use crate::result::{Reading, Row, Unit};
use crate::side::{BIG, PASSWORD, USERS, address, addresses};
use crate::usage;

const fn row(id: &'static str, title: &'static str, reach: f64) -> Row {
    Row {
        id,
        group: "IMAP",
        title,
        unit: Unit::Milliseconds,
        reach,
    }
}

const fn mixed(id: &'static str, title: &'static str) -> Row {
    Row {
        unit: Unit::PerSecond,
        ..row(id, title, 2.0)
    }
}

/// Commands on 10,000 messages of together 42 MB, and many sessions at once.
pub(super) const GROUP: Group = Group {
    name: "imap",
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
        row("store", "STORE +FLAGS of all", 1.0),
        row("copy", "COPY of 1,000", 1.0),
        row("move", "MOVE of 1,000", 1.0),
        row("expunge", "EXPUNGE of 1,000", 1.0),
        row("append", "APPEND of 1,000, one by one", 2.0),
        row("multiappend", "APPEND of 1,000 in one command", 1.0),
        row("cold-select", "cold: SELECT", 1.0),
        row("cold-flags", "cold: FETCH FLAGS of all", 1.0),
        row(
            "cold-structure",
            "cold: FETCH ENVELOPE BODYSTRUCTURE of all",
            1.0,
        ),
        mixed("mixed-20", "fetch, list, store, append; 20 sessions"),
        row("mixed-20-p99", "the same, slowest of a hundred", 2.0),
        mixed("mixed-100", "fetch, list, store, append; 100 sessions"),
        row("mixed-100-p99", "the same, slowest of a hundred", 2.0),
    ],
    prepare: |world| {
        let mut imap = login(world)?;
        for name in ["Copies", "Moved", "Appends"] {
            imap.command(&format!("CREATE {name}"))?;
        }
        imap.fill("INBOX", 0, world.scale.mailbox)
    },
    run: |world| {
        let mut readings = Vec::new();
        // The cold rows of the run before have left nothing in memory.
        read(world, &mut Vec::new())?;
        read(world, &mut readings)?;
        change(world, &mut readings)?;
        append(world, &mut readings)?;
        cold(world, &mut readings)?;
        many(world, &mut readings)?;
        Ok(readings)
    },
    once: false,
};

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

fn change(world: &mut World<'_>, readings: &mut Vec<Reading>) -> Result<()> {
    let some = world.scale.some;
    let mut imap = login(world)?;
    imap.command("SELECT INBOX")?;
    push(
        readings,
        "store",
        imap.timed("STORE 1:* +FLAGS (\\Flagged)")?.1,
    );
    imap.command("STORE 1:* -FLAGS.SILENT (\\Flagged)")?;
    push(
        readings,
        "copy",
        imap.timed(&format!("COPY 1:{some} Copies"))?.1,
    );
    imap.command("SELECT Copies")?;
    push(readings, "move", imap.timed("MOVE 1:* Moved")?.1);
    imap.command("SELECT Moved")?;
    imap.command("STORE 1:* +FLAGS.SILENT (\\Deleted)")?;
    let (answer, took) = imap.timed("EXPUNGE")?;
    ensure!(
        answer.untagged >= some,
        "EXPUNGE told of {} messages",
        answer.untagged
    );
    push(readings, "expunge", took);
    Ok(())
}

fn append(world: &mut World<'_>, readings: &mut Vec<Reading>) -> Result<()> {
    let mails: Vec<_> = (0..world.scale.some).map(mail).collect();
    let mut imap = login(world)?;
    for (row, group) in [("append", 1), ("multiappend", mails.len())] {
        let begun = Instant::now();
        imap.append("Appends", &mails, group)?;
        push(readings, row, begun.elapsed());
    }
    ensure!(
        imap.count("Appends")? == 2 * mails.len(),
        "APPEND has lost or doubled messages"
    );
    imap.command("SELECT Appends")?;
    imap.command("STORE 1:* +FLAGS.SILENT (\\Deleted)")?;
    imap.command("EXPUNGE").map(drop)
}

/// Behind a restart, and with nothing in the page cache.
fn cold(world: &mut World<'_>, readings: &mut Vec<Reading>) -> Result<()> {
    for (row, items) in [
        ("cold-flags", "FLAGS"),
        ("cold-structure", "(ENVELOPE BODYSTRUCTURE)"),
    ] {
        world.side.restart_store()?;
        usage::drop_caches()?;
        let mut imap = login(world)?;
        let (_, select) = imap.timed("SELECT INBOX")?;
        if row == "cold-flags" {
            push(readings, "cold-select", select);
        }
        push(readings, row, fetch(world, &mut imap, items)?.1);
    }
    Ok(())
}

fn many(world: &mut World<'_>, readings: &mut Vec<Reading>) -> Result<()> {
    for (sessions, throughput, slowest) in [
        (20, "mixed-20", "mixed-20-p99"),
        (100, "mixed-100", "mixed-100-p99"),
    ] {
        let (sample, cpu) = world.with_cpu(1, |world| {
            let logins = addresses("user", USERS)
                .into_iter()
                .cycle()
                .take(sessions)
                .collect();
            MixedLoad {
                server: world.side.imap(),
                logins,
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
    Ok(())
}
