//! Long programs that are told to end in the middle.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};

/// How long processes may take to end by themselves.
const GRACE: Duration = Duration::from_secs(3);
/// How long this process may take to tear down what it has set up.
const PATIENCE: Duration = Duration::from_secs(40);

/// Signals are the process's, and so is this.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on SIGHUP, SIGINT and SIGTERM do not end this process where it stands, which would leave
/// running what it has started. All that descends from it is told to end in its place, so that
/// whoever waits for one of those learns of an error, and `main` returns by way of all destructors.
/// A process that has not ended after 40 s ends then.
pub fn unwind_on_signals() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (mut hangup, mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::hangup())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        )
    };
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = hangup.recv() => {}
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            });
            end_all();
        })?;
    Ok(())
}

/// True once the process was told to end.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// An error once the process was told to end: for loops that wait for others.
pub fn check_interrupt() -> Result<()> {
    if interrupted() {
        bail!("interrupted");
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a process that was told to end, and does not, ends here"
)]
fn end_all() {
    INTERRUPTED.store(true, Ordering::Relaxed);
    let all = descendants();
    for process in &all {
        process.signal(Signal::SIGTERM);
    }
    thread::sleep(GRACE);
    for process in &all {
        process.signal(Signal::SIGKILL);
    }
    thread::sleep(PATIENCE);
    std::process::exit(1);
}

/// A process, told from another of the same number by when it was started.
#[derive(Debug, PartialEq, Eq)]
struct Known {
    pid: i32,
    parent: i32,
    start: u64,
}

impl Known {
    fn read(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may have anything in it, but ends with the last parenthesis.
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        Some(Self {
            pid,
            parent: fields.nth(1)?.parse().ok()?,
            start: fields.nth(17)?.parse().ok()?,
        })
    }

    fn signal(&self, signal: Signal) {
        if Self::read(self.pid).is_some_and(|now| now.start == self.start) {
            // It may end at this very moment.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }
}

/// All processes that come from this one and still have it as a forebear.
fn descendants() -> Vec<Known> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut others: Vec<Known> = pids.filter_map(Known::read).collect();
    let mut found: Vec<Known> = Vec::new();
    let own = Pid::this().as_raw();
    loop {
        let is_child = |one: &mut Known| {
            one.parent == own || found.iter().any(|known| known.pid == one.parent)
        };
        let more: Vec<Known> = others.extract_if(.., is_child).collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn children_of_children_are_found_and_told() {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 300 & echo $!; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = std::io::BufReader::new(shell.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut out, &mut line).unwrap();
        let pids = [
            i32::try_from(shell.id()).unwrap(),
            line.trim().parse().unwrap(),
        ];
        // Other tests of this process have children too.
        let mut found = descendants();
        found.retain(|known| pids.contains(&known.pid));
        assert_eq!(found.len(), 2);
        for known in &found {
            known.signal(Signal::SIGTERM);
        }
        shell.wait().unwrap();
        // Another one of that number is left alone.
        let other = Known {
            pid: Pid::this().as_raw(),
            parent: 0,
            start: 1,
        };
        other.signal(Signal::SIGKILL);
    }
}
