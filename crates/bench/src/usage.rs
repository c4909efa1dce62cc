//! What servers use, by /proc.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Processes and all that descend from them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree(Vec<u32>);

struct Stat {
    pid: u32,
    parent: u32,
    /// Clock ticks, those of children that ended included.
    ticks: u64,
}

impl Tree {
    /// The trees below some processes as they are now.
    pub(crate) fn of(roots: &[u32]) -> Result<Self> {
        let mut all = stats()?;
        let mut tree: Vec<u32> = roots.to_vec();
        loop {
            let before = tree.len();
            all.retain(|stat| {
                let is_child = tree.contains(&stat.parent) && !tree.contains(&stat.pid);
                if is_child {
                    tree.push(stat.pid);
                }
                !is_child
            });
            if tree.len() == before {
                return Ok(Self(tree));
            }
        }
    }

    /// The processes.
    pub(crate) fn pids(&self) -> &[u32] {
        &self.0
    }

    /// Whether one of them has not ended yet. Those that nobody has waited for have ended.
    pub(crate) fn is_running(&self) -> bool {
        self.0.iter().any(|pid| {
            let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            text.rsplit_once(") ")
                .is_some_and(|(_, rest)| !rest.starts_with('Z'))
        })
    }

    /// Memory in KiB: the proportional share of what they share, and all that is their own.
    pub(crate) fn memory(&self) -> u64 {
        let of = |pid: &u32| {
            // A process may just have ended.
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
            let number = line.and_then(|line| line.split_whitespace().next());
            number
                .and_then(|number| number.parse::<u64>().ok())
                .unwrap_or(0)
        };
        self.0.iter().map(of).sum()
    }
}

/// CPU time that the trees below some processes have used, user and system. Of processes that
/// ended it counts what their parents waited for.
pub(crate) fn cpu(roots: &[u32]) -> Result<Duration> {
    let tree = Tree::of(roots)?;
    let ticks: u64 = stats()?
        .iter()
        .filter(|stat| tree.0.contains(&stat.pid))
        .map(|stat| stat.ticks)
        .sum();
    // Linux shows 100 ticks a second on every platform that it has.
    Ok(Duration::from_millis(ticks * 10))
}

fn stats() -> Result<Vec<Stat>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if let Some(stat) = stat(pid, &text) {
            all.push(stat);
        }
    }
    Ok(all)
}

/// Fields of /proc/PID/stat behind the name, which may have anything in it but ends with the last
/// parenthesis.
fn stat(pid: u32, text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat {
        pid,
        parent: u32::try_from(number(1)?).ok()?,
        ticks: number(11)? + number(12)? + number(13)? + number(14)?,
    })
}

/// What a process is called.
pub(crate) fn name(pid: u32) -> Result<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm"))?;
    Ok(name.trim().to_owned())
}

/// The most resident memory that a process has had, in KiB.
pub(crate) fn peak(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.context("no VmHWM in /proc")?.parse()?)
}

/// Makes the system forget what it has read; needs root.
pub(crate) fn drop_caches() -> Result<()> {
    nix::unistd::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").context("dropping the page cache")
}

/// Durability cannot be measured in memory.
pub(crate) fn check_disk(folder: &Path) -> Result<()> {
    let kind = nix::sys::statfs::statfs(folder)?.filesystem_type();
    if kind == nix::sys::statfs::TMPFS_MAGIC {
        bail!(
            "{} is in memory; set TMPDIR to a folder on a disk",
            folder.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn reads_the_stat_of_a_process_with_a_strange_name() {
        let text = "7 (a) b) S 3 7 7 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 1 0 5";
        let stat = stat(7, text).unwrap();
        assert_eq!((stat.parent, stat.ticks), (3, 100));
    }

    #[test]
    fn finds_itself_and_its_children() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let tree = Tree::of(&[std::process::id()]).unwrap();
        assert!(tree.pids().contains(&child.id()));
        assert!(tree.memory() > 0);
        assert!(Tree(vec![child.id()]).is_running());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!Tree(vec![child.id()]).is_running());
    }
}
