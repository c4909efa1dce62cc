//! How often processes make data durable: what `strace` sees of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What is watched. io_uring is there because a flush through it would otherwise stay unseen.
const CALLS: &str = "trace=fsync,fdatasync,sync_file_range,syncfs,sync,msync,pwritev2,open,openat,\
                     io_uring_setup";

/// How long strace may take to attach to all processes.
const PATIENCE: Duration = Duration::from_mins(1);

/// `strace` on some processes and all that they start.
#[derive(Debug)]
pub(crate) struct Watch {
    strace: Child,
    trace: PathBuf,
}

impl Watch {
    /// Attaches to processes; `folder` is where the trace is kept meanwhile.
    pub(crate) fn start(pids: &[u32], folder: &Path) -> Result<Self> {
        ensure!(!pids.is_empty(), "there is no process to watch");
        let trace = folder.join("syncs.strace");
        let said = folder.join("syncs.said");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qqq", "-e", CALLS, "-e", "signal=none", "-o"]);
        strace.arg(&trace);
        for pid in pids {
            strace.args(["-p", &pid.to_string()]);
        }
        let strace = strace
            .stdin(Stdio::null())
            .stderr(fs::File::create(&said)?)
            .spawn()
            .context("strace does not start")?;
        let mut watch = Self { strace, trace };
        let begun = Instant::now();
        while !pids.iter().all(|pid| is_traced(*pid)) {
            let ended = watch.strace.try_wait()?;
            let said = || fs::read_to_string(&said).unwrap_or_default();
            ensure!(ended.is_none(), "strace ended: {}", said());
            ensure!(
                begun.elapsed() < PATIENCE,
                "strace attaches to nothing: {}",
                said()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(watch)
    }

    /// Detaches and counts.
    pub(crate) fn stop(mut self) -> Result<BTreeMap<String, u64>> {
        let pid = i32::try_from(self.strace.id()).context("a process id beyond its range")?;
        kill(Pid::from_raw(pid), Signal::SIGINT)?;
        self.strace.wait()?;
        let octets = fs::read(&self.trace).context("strace has written nothing")?;
        Ok(count(&String::from_utf8_lossy(&octets)))
    }
}

/// Whether someone traces the process; one that has ended need not be traced.
fn is_traced(pid: u32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
        return true;
    };
    let tracer = status
        .lines()
        .find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_none_or(|tracer| tracer.trim() != "0")
}

/// Calls by name, from strace's lines: `PID NAME(…`.
fn count(trace: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in trace.lines() {
        let Some((_, call)) = line.trim_start().split_once(char::is_whitespace) else {
            continue;
        };
        // `<... fsync resumed>` is the second half of one that has been counted.
        let call = call.trim_start();
        if call.starts_with("<...") {
            continue;
        }
        let Some((name, arguments)) = call.split_once('(') else {
            continue;
        };
        let durable = arguments.contains("O_SYNC")
            || arguments.contains("O_DSYNC")
            || arguments.contains("RWF_SYNC")
            || arguments.contains("RWF_DSYNC");
        let name = match name {
            "open" | "openat" if durable => "open with O_(D)SYNC",
            "pwritev2" if durable => "pwritev2 with RWF_(D)SYNC",
            "open" | "openat" | "pwritev2" => continue,
            "msync" if !arguments.contains("MS_SYNC") => continue,
            name => name,
        };
        *counts.entry(name.to_owned()).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_count_once_and_only_durable_opens_count() {
        let trace = "12 fsync(5) = 0\n12 fdatasync(7 <unfinished ...>\n13 fsync(6) = 0\n12 <... \
                     fdatasync resumed>) = 0\n14 openat(AT_FDCWD, \"a\", O_RDWR|O_DSYNC) = 3\n14 \
                     openat(AT_FDCWD, \"b\", O_RDONLY) = 3\n";
        let counts = count(trace);
        let all: Vec<(&str, u64)> = counts.iter().map(|(name, n)| (name.as_str(), *n)).collect();
        assert_eq!(
            all,
            [("fdatasync", 1), ("fsync", 2), ("open with O_(D)SYNC", 1)]
        );
    }

    #[test]
    fn a_process_and_its_children_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        let script = "read -r _; for i in 1 2 3; do dd if=/dev/zero of=\"$0\" bs=16 count=1 \
                      conv=fsync status=none; done";
        let mut shell = Command::new("sh")
            .args(["-c", script])
            .arg(&file)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let watch = Watch::start(&[shell.id()], folder.path()).unwrap();
        drop(shell.stdin.take());
        shell.wait().unwrap();
        assert_eq!(watch.stop().unwrap().get("fsync"), Some(&3));
    }
}
