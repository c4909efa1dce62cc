//! Where the time goes: `perf record` beside a row, drawn as a flame graph.

mod draw;
mod stacks;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub(crate) use stacks::Stacks;

/// Samples a second and CPU: odd, so that it does not beat with the kernel's own ticks.
const FREQUENCY: &str = "499";

/// Octets of stack that a sample takes along. Futures nest deeply; with less, stacks lose their
/// roots and a process falls apart into pieces.
const CALL_GRAPH: &str = "dwarf,24576";

/// `perf record` on some processes.
#[derive(Debug)]
pub(crate) struct Recording {
    perf: Child,
    data: PathBuf,
    names: BTreeMap<u32, String>,
}

impl Recording {
    /// Starts to watch the processes, which are given by id and name; `data` is where the samples
    /// are kept meanwhile.
    pub(crate) fn start(processes: &[(u32, String)], data: &Path) -> Result<Self> {
        let ids: Vec<String> = processes.iter().map(|(pid, _)| pid.to_string()).collect();
        ensure!(!ids.is_empty(), "there is no process to watch");
        let perf = Command::new("perf")
            .args(["record", "--quiet", "-F", FREQUENCY, "--call-graph"])
            .args([CALL_GRAPH, "--pid", &ids.join(","), "--output"])
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("perf (Debian package linux-perf) does not start")?;
        Ok(Self {
            perf,
            data: data.to_owned(),
            names: processes.iter().cloned().collect(),
        })
    }

    /// Ends it and reads the samples.
    pub(crate) fn stop(mut self) -> Result<Stacks> {
        let pid = i32::try_from(self.perf.id()).context("a process id beyond its range")?;
        kill(Pid::from_raw(pid), Signal::SIGINT)?;
        self.perf.wait()?;
        let mut input = OsString::from("--input=");
        input.push(&self.data);
        // Without --no-inline it asks for the line of every address, which takes minutes.
        let script = Command::new("perf")
            .args(["script", "--no-inline", "-F", "pid,ip,sym,dso"])
            .arg(&input)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()?;
        ensure!(script.status.success(), "perf script: {}", script.status);
        let text = String::from_utf8_lossy(&script.stdout);
        let stacks = Stacks::parse(&text, &self.names);
        ensure!(stacks.total() > 0, "perf has seen nothing");
        std::fs::remove_file(&self.data)?;
        Ok(stacks)
    }
}

/// The graph as an SVG file.
pub(crate) fn svg(stacks: &Stacks, title: &str) -> String {
    draw::svg(stacks, title)
}

/// Where the time goes, as a Markdown table: processes across, what they are in down; in percent of
/// all samples.
pub(crate) fn table(stacks: &Stacks) -> String {
    let shares = stacks.shares();
    let mut processes: BTreeMap<&str, u64> = BTreeMap::new();
    let mut places: BTreeMap<&str, u64> = BTreeMap::new();
    for ((process, place), count) in shares {
        *processes.entry(process).or_default() += count;
        *places.entry(place).or_default() += count;
    }
    let processes = by_weight(&processes);
    let mut text = String::from("| where |");
    for (process, _) in &processes {
        let _ = write!(text, " {process} |");
    }
    text.push_str(" all |\n|---|");
    text.push_str(&"---:|".repeat(processes.len() + 1));
    text.push('\n');
    let share = |count: u64| percent(count, stacks.total());
    for (place, all) in by_weight(&places) {
        if all * 100 < stacks.total() {
            continue;
        }
        let _ = write!(text, "| {place} |");
        for (process, _) in &processes {
            let key = ((*process).to_owned(), place.to_owned());
            let _ = write!(text, " {} |", share(shares.get(&key).copied().unwrap_or(0)));
        }
        let _ = writeln!(text, " {} |", share(all));
    }
    text.push_str("| all |");
    for (_, count) in &processes {
        let _ = write!(text, " {} |", share(*count));
    }
    text.push_str(" 100.0 |\n");
    text
}

fn by_weight<'a>(counts: &BTreeMap<&'a str, u64>) -> Vec<(&'a str, u64)> {
    let mut all: Vec<(&str, u64)> = counts.iter().map(|(name, count)| (*name, *count)).collect();
    all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    all
}

fn percent(count: u64, total: u64) -> String {
    let tenths = (count * 1000 + total / 2) / total.max(1);
    match tenths {
        0 => "–".to_owned(),
        _ => format!("{}.{}", tenths / 10, tenths % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_processes_across_and_places_down() {
        let script = "7\n\t1 tonic::poll (/x/queued)\n\n7\n\t1 ksys_write ([kernel.kallsyms])\n\
                      \t1 do_syscall_64 ([kernel.kallsyms])\n\n8\n\t1 tonic::poll (/x/smtpd)\n\n8\n\t1 tonic::poll (/x/smtpd)\n\n";
        let names = BTreeMap::from([(7, "queued".to_owned()), (8, "smtpd".to_owned())]);
        let table = table(&Stacks::parse(script, &names));
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "| where | queued | smtpd | all |");
        assert_eq!(lines[2], "| tonic | 25.0 | 50.0 | 75.0 |");
        assert_eq!(lines[3], "| kernel: write | 25.0 | – | 25.0 |");
        assert_eq!(lines[4], "| all | 50.0 | 50.0 | 100.0 |");
    }
}
