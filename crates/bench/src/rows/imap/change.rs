//! Commands that change mailboxes.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::{fill, login, push, row};
use crate::load::imap::mail;
use crate::result::Reading;
use crate::rows::{Group, World, nothing};

/// Flags, copies, moves and removals.
pub(in crate::rows) const CHANGE: Group = Group {
    name: "imap-change",
    rows: &[
        row("store", "STORE +FLAGS of all", 1.0),
        row("copy", "COPY of 1,000", 1.0),
        row("move", "MOVE of 1,000", 1.0),
        row("expunge", "EXPUNGE of 1,000", 1.0),
    ],
    prepare: |world| {
        fill(world)?;
        create(world, &["Copies", "Moved"])
    },
    run: change,
    once: false,
    alone: false,
};

/// A command for each message.
pub(in crate::rows) const APPEND: Group = Group {
    name: "imap-append",
    rows: &[row("append", "APPEND of 1,000, one by one", 2.0)],
    prepare: |world| create(world, &["Appends"]),
    run: |world| append(world, "append", "Appends", 1),
    once: false,
    alone: false,
};

/// One command for all (RFC 3502).
pub(in crate::rows) const MULTIAPPEND: Group = Group {
    name: "imap-multiappend",
    rows: &[row("multiappend", "APPEND of 1,000 in one command", 1.0)],
    prepare: |world| create(world, &["Multi"]),
    run: |world| append(world, "multiappend", "Multi", world.scale.some),
    once: false,
    alone: false,
};

fn create(world: &mut World<'_>, names: &[&str]) -> Result<()> {
    let mut imap = login(world)?;
    for name in names {
        imap.command(&format!("CREATE {name}"))?;
    }
    nothing(world)
}

fn change(world: &mut World<'_>) -> Result<Vec<Reading>> {
    let mut all = Vec::new();
    let readings = &mut all;
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
    Ok(all)
}

/// Appends to a mailbox, checks that all came, and removes them again.
fn append(
    world: &mut World<'_>,
    row: &'static str,
    mailbox: &str,
    group: usize,
) -> Result<Vec<Reading>> {
    let mails: Vec<_> = (0..world.scale.some).map(mail).collect();
    let mut imap = login(world)?;
    let mut readings = Vec::new();
    let begun = Instant::now();
    imap.append(mailbox, &mails, group)?;
    push(&mut readings, row, begun.elapsed());
    ensure!(
        imap.count(mailbox)? == mails.len(),
        "APPEND has lost or doubled messages"
    );
    imap.command(&format!("SELECT {mailbox}"))?;
    imap.command("STORE 1:* +FLAGS.SILENT (\\Deleted)")?;
    imap.command("EXPUNGE")?;
    Ok(readings)
}
