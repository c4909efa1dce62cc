//! What has to be true at the end.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mailbox_store::{Finding, MailStore, Options, Report};
use queue_store::{QueueStore, SledOptions, SledStore};
use testkit::Daemon;

use crate::ledger::{Outcome, Sent};
use crate::mailboxes::{Answer, Session};
use crate::text::text;
use crate::wire::Cutter;
use crate::world::World;

/// How long the queue may take until it is empty.
const DRAIN: Duration = Duration::from_mins(5);
/// Messages that are fetched at a time.
const CHUNK: u32 = 100;

/// Waits until nothing is in the queue.
pub(crate) fn drain(world: &World) -> Result<()> {
    let end = Instant::now() + DRAIN;
    loop {
        testkit::check_interrupt()?;
        let output = world.suite.cli(&["queue", "list", "--json"]).output()?;
        let listed = String::from_utf8_lossy(&output.stdout).into_owned();
        let count = listed.lines().filter(|line| !line.is_empty()).count();
        if output.success && count == 0 {
            return Ok(());
        }
        if Instant::now() > end {
            let first = listed.lines().next().unwrap_or_default();
            let what = format!("{count} messages are still in the queue; the first: {first}");
            world.findings.add(what);
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// How often each message was found, by account.
type Counts = HashMap<(String, usize), u32>;

/// Compares all mailboxes with what was sent. Gives the number of messages that were found.
pub(crate) fn mailboxes(world: &World) -> Result<u64> {
    let sent = world.ledger.take();
    let mut counts = Counts::new();
    for account in 0..world.accounts.len() {
        read_account(world, account, &sent, &mut counts)
            .with_context(|| format!("reading {}", world.address(account)))?;
    }
    let mut found = 0;
    for (id, sent) in &sent {
        for account in &sent.recipients {
            let count = counts.remove(&(id.clone(), *account)).unwrap_or(0);
            found += u64::from(count);
            let is_right = match sent.outcome {
                Outcome::Accepted => count == 1,
                Outcome::Unknown => count <= 1,
                Outcome::Never => count == 0,
            };
            if !is_right {
                let (outcome, address) = (sent.outcome, world.address(*account));
                let what = format!("{id} ({outcome:?}) is in the mail of {address} {count} times");
                world.findings.add(what);
            }
        }
    }
    for ((id, account), _) in counts {
        let address = world.address(account);
        world
            .findings
            .add(format!("{address} has {id}, which nobody sent there"));
    }
    Ok(found)
}

fn read_account(
    world: &World,
    account: usize,
    sent: &HashMap<String, Sent>,
    counts: &mut Counts,
) -> io::Result<()> {
    let mut session = Session::open(world, &Arc::new(Cutter::default()), account)?;
    for line in session.ok("LIST \"\" *")? {
        let Some(name) = line
            .text
            .strip_prefix("* LIST ")
            .and_then(|l| l.rsplit(' ').next())
        else {
            continue;
        };
        let name = name.to_owned();
        let Answer::Ok(lines) = session.command(&format!("EXAMINE {name}"))? else {
            world.findings.add(format!("{name} cannot be opened"));
            continue;
        };
        let next = crate::mailboxes::uid_in(&lines, "[UIDNEXT ").unwrap_or(1);
        let mut from = 1;
        while from < next {
            let to = from + CHUNK - 1;
            for message in session.fetch(&format!("{from}:{to}"), true)? {
                let Some(id) = message.id else {
                    let start: String = String::from_utf8_lossy(&message.content).into_owned();
                    let start: String = start.chars().take(1500).collect();
                    let address = world.address(account);
                    world
                        .findings
                        .add(format!("{address} has mail that nobody sent:\n{start}"));
                    continue;
                };
                // Those of APPEND are the client's to compare.
                if !id.starts_with('s') {
                    continue;
                }
                check_text(world, sent, &id, &message.content);
                *counts.entry((id, account)).or_default() += 1;
            }
            from = to + 1;
        }
    }
    Ok(())
}

fn check_text(world: &World, sent: &HashMap<String, Sent>, id: &str, content: &[u8]) {
    let client = id.split('-').nth(1).and_then(|client| client.parse().ok());
    let from = world.address(client.unwrap_or(usize::MAX));
    if sent.contains_key(id) && !content.ends_with(text(id, from).as_bytes()) {
        world.findings.add(format!("{id} is not what was sent"));
    }
}

/// Ends all daemons and looks at what they leave.
pub(crate) fn stop(world: &World) -> Result<()> {
    for daemon in Daemon::ALL.into_iter().rev() {
        let status = world.suite.terminate(daemon)?;
        if !status.success() {
            let (name, tail) = (daemon.name(), world.tail(daemon, 8));
            let what = format!("{name} ended with {status} at SIGTERM; it said:\n{tail}");
            world.findings.add(what);
        }
    }
    for daemon in Daemon::ALL {
        for line in world.suite.log(daemon).lines() {
            if line.contains("panicked at") {
                world.findings.add(format!("{}: {line}", daemon.name()));
            }
        }
    }
    let home = world.suite.home();
    leftovers(world, &home.join("mail"))?;
    stores(world, home)
}

/// Files that a clean end does not leave.
fn leftovers(world: &World, mail: &Path) -> Result<()> {
    for entry in std::fs::read_dir(mail)? {
        let folder = entry?.path();
        if folder.ends_with(".lock") {
            // It stays, and whoever has the store has a lock on it.
            continue;
        }
        let is_journal = folder.ends_with(".journal");
        for entry in std::fs::read_dir(&folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let known = ["index.redb", "segments", "snapshot", "snapshot.old"];
            if is_journal || !known.contains(&name.as_str()) {
                let folder = folder.display();
                world.findings.add(format!("left over: {folder}/{name}"));
            }
        }
    }
    Ok(())
}

fn stores(world: &World, home: &Path) -> Result<()> {
    let store = MailStore::open(home.join("mail"), Options::default())?;
    for id in store.stored()? {
        store.check(id, 0, &mut |report| {
            if let Report::Found(Finding::Wrong(what) | Finding::Lost(what)) = report {
                world
                    .findings
                    .add(format!("mail store, account {id}: {what}"));
            }
            true
        })?;
    }
    drop(store);
    let queue = SledStore::open(&SledOptions {
        folder: home.join("queue"),
        cache: 64 * 1024 * 1024,
        min_free: 0,
        now: 0,
        lock_wait: Duration::from_secs(10),
    })?;
    let report = queue.fsck(false)?;
    for problem in &report.problems {
        world.findings.add(format!("queue: {problem}"));
    }
    if report.messages > 0 {
        let what = format!("{} messages are left in the queue", report.messages);
        world.findings.add(what);
    }
    Ok(())
}
