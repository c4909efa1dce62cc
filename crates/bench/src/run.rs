//! Runs all groups in turn on all sides.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::Arguments;
use crate::load::sink::Sink;
use crate::measure::syncs;
use crate::report::{self, Extras, Report, flame};
use crate::result::Values;
use crate::rows::{ALL, Group, Scale, World};
use crate::side::correo::Correo;
use crate::side::peers::Peers;
use crate::side::{Mailboxes, Side, load};
use crate::usage::{self, Tree};

/// Handles for ten thousand connections and some.
const HANDLES: u64 = 65_536;
/// Messages while calls to the disk are counted.
const TRACED: usize = 1000;

/// A group has no more runs than these that count if they took so long together.
const ENOUGH: usize = 2;
const LONG: Duration = Duration::from_mins(2);

/// Values by row and side.
pub(crate) type Results = BTreeMap<&'static str, Vec<Values>>;

/// Measures what the arguments ask for, and writes the report.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    usage::check_disk(&std::env::temp_dir())?;
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
    let handles = HANDLES.min(hard);
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, handles, hard)?;
    let groups = chosen(&arguments.rows)?;
    let out = arguments.root.join("target/bench");
    std::fs::create_dir_all(&out)?;

    let sink = Sink::start()?;
    let programs = std::env::var_os("CORREO_BIN_DIR")
        .context("CORREO_BIN_DIR is not set; use cargo xtask bench")?;
    say("starting Correo");
    let mut sides: Vec<Box<dyn Side>> =
        vec![Box::new(Correo::start(PathBuf::from(programs), &sink)?)];
    if arguments.vs.is_some() {
        say("starting Postfix and Dovecot");
        sides.push(Box::new(Peers::start(&sink)?));
    }
    let mut scale = if arguments.quick {
        Scale::QUICK
    } else {
        Scale::FULL
    };
    scale.waiting = arguments.waiting.unwrap_or(scale.waiting);
    let mut bench = Bench {
        scale,
        runs: if arguments.quick {
            1
        } else {
            arguments.runs.max(1)
        },
        results: Results::new(),
        sides,
        sink,
    };
    for group in &groups {
        bench.measure(group)?;
        // So that it is there if the run does not come to its end.
        let report = bench.report(&groups, Extras::default());
        say(&format!("\n{}", report.lines(group.rows)));
        report::write(&report, &out)?;
    }
    let syncs = bench.count_syncs(&out);
    let flames = arguments.flame.then(|| bench.flame(&out)).transpose();
    testkit::check_interrupt()?;
    let failed_flame = flames.as_ref().err().map(|error| format!("{error:#}"));
    let extras = Extras {
        is_complete: true,
        syncs,
        flames: flames.unwrap_or_default(),
    };
    let report = bench.report(&groups, extras);
    report::write(&report, &out)?;
    report::print(&report);
    if arguments.write_docs {
        report::write_docs(&report, &arguments.root.join("docs"))?;
    }
    bench.ensure_all(&out.join("report.md"))?;
    if let Some(error) = failed_flame {
        bail!("there is no flame graph: {error}");
    }
    Ok(())
}

fn chosen(names: &[String]) -> Result<Vec<Group>> {
    // "imap" is all of "imap-read", "imap-change", …
    let is_called = |group: &Group, name: &String| {
        let rest = group.name.strip_prefix(name.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    if let Some(unknown) = names
        .iter()
        .find(|name| !ALL.iter().any(|group| is_called(group, name)))
    {
        let known: Vec<&str> = ALL.iter().map(|group| group.name).collect();
        bail!(
            "there is no group of rows {unknown}; there are {}",
            known.join(", ")
        );
    }
    let is_chosen =
        |group: &Group| names.is_empty() || names.iter().any(|name| is_called(group, name));
    Ok(ALL.into_iter().filter(is_chosen).collect())
}

struct Bench {
    scale: Scale,
    runs: usize,
    results: Results,
    sides: Vec<Box<dyn Side>>,
    sink: Sink,
}

impl Bench {
    fn report(&self, groups: &[Group], extras: Extras) -> Report<'_> {
        let rows = groups.iter().flat_map(|group| group.rows);
        Report {
            names: self.sides.iter().map(|side| side.name()).collect(),
            rows: rows.copied().collect(),
            results: &self.results,
            runs: self.runs,
            extras,
        }
    }

    /// An error if a row has failed.
    fn ensure_all(&self, report: &Path) -> Result<()> {
        let all = self.results.values().flatten();
        let failed = all.filter(|values| values.failure.is_some()).count();
        let report = report.display();
        ensure!(failed == 0, "{failed} rows failed; see {report}");
        Ok(())
    }

    /// Runs a group in turn on all sides; the first run only warms up.
    fn measure(&mut self, group: &Group) -> Result<()> {
        let mut failed = vec![false; self.sides.len()];
        let runs = if group.once { 1 } else { self.runs + 1 };
        let mut counted = None;
        for run in 0..runs {
            let begun = (run > 0).then(|| *counted.get_or_insert_with(Instant::now));
            if run > ENOUGH && begun.is_some_and(|begun| begun.elapsed() > LONG) {
                break;
            }
            for at in 0..self.sides.len() {
                if failed.get(at) != Some(&false) || (group.alone && at > 0) {
                    continue;
                }
                let counts = group.once || run > 0;
                if let Err(error) = self.one(group, at, run == 0, counts) {
                    // What was killed by that has not failed.
                    testkit::check_interrupt()?;
                    if let Some(failed) = failed.get_mut(at) {
                        *failed = true;
                    }
                    self.fail(group, at, &error);
                    self.recover(at);
                }
            }
        }
        Ok(())
    }

    fn one(&mut self, group: &Group, at: usize, is_first: bool, counts: bool) -> Result<()> {
        let sides = self.sides.len();
        let side = self.sides.get_mut(at).context("no such side")?;
        say(&format!(
            "{}: {}{}",
            group.name,
            side.name(),
            if counts { "" } else { ", warming up" }
        ));
        let mut world = World {
            side: side.as_mut(),
            scale: if counts {
                self.scale
            } else {
                self.scale.warm_up()
            },
            sink: &self.sink,
        };
        let begun = Instant::now();
        if is_first {
            (group.prepare)(&mut world).context("preparing")?;
        }
        let readings = (group.run)(&mut world)?;
        say(&format!("    took {:.1} s", begun.elapsed().as_secs_f64()));
        for reading in readings.into_iter().filter(|_| counts) {
            let row = group.rows.iter().find(|row| row.id == reading.row);
            let shown = row.map_or_else(String::new, |row| row.unit.show(reading.value));
            let cpu = reading
                .cpu
                .map_or_else(String::new, |cpu| format!(", {cpu:.3} ms CPU each"));
            let note = reading
                .note
                .as_ref()
                .map_or_else(String::new, |note| format!(", {note}"));
            say(&format!("    {:<18} {shown}{cpu}{note}", reading.row));
            let values = self
                .results
                .entry(reading.row)
                .or_insert_with(|| vec![Values::default(); sides]);
            if let Some(values) = values.get_mut(at) {
                values.runs.push(reading.value);
                values.cpu.extend(reading.cpu);
                values.note = reading.note;
            }
        }
        Ok(())
    }

    fn fail(&mut self, group: &Group, at: usize, error: &anyhow::Error) {
        let logs = self
            .sides
            .get(at)
            .map(|side| side.logs())
            .unwrap_or_default();
        say(&format!("    failed: {error:#}\n{logs}"));
        let sides = self.sides.len();
        for row in group.rows {
            let values = self
                .results
                .entry(row.id)
                .or_insert_with(|| vec![Values::default(); sides]);
            if let Some(values) = values.get_mut(at) {
                values.failure = Some(format!("{error:#}"));
            }
        }
    }

    /// What a failure may have left held or stopped must not stop the rows behind it.
    fn recover(&mut self, at: usize) {
        if let Some(side) = self.sides.get_mut(at)
            && let Err(error) = side.clear()
        {
            say(&format!("    and does not recover: {error:#}"));
        }
    }

    /// Calls that make data durable while mail flows, by side; not timed.
    fn count_syncs(&mut self, out: &Path) -> Vec<BTreeMap<String, u64>> {
        let mut all = Vec::new();
        for side in &mut self.sides {
            let counted = (|| {
                let watch = syncs::Watch::start(Tree::of(&side.roots()?)?.pids(), out)?;
                flow(side.as_mut(), TRACED)?;
                watch.stop()
            })();
            all.push(counted.unwrap_or_else(|error: anyhow::Error| {
                say(&format!("calls to the disk were not counted: {error:#}"));
                BTreeMap::new()
            }));
        }
        all
    }

    fn flame(&mut self, out: &Path) -> Result<flame::Stacks> {
        let side = self.sides.first_mut().context("no side")?;
        let mut processes = Vec::new();
        for pid in side.roots()? {
            processes.push((pid, usage::name(pid)?));
        }
        let recording = flame::Recording::start(&processes, &out.join("flame.data"))?;
        flow(side.as_mut(), 4 * self.scale.messages)?;
        recording.stop()
    }
}

fn flow(side: &mut dyn Side, messages: usize) -> Result<()> {
    let mailboxes = Mailboxes::open(side)?;
    load(side.smtp(), 20, messages, 4096).run()?;
    mailboxes.wait(messages, Duration::from_mins(5))
}

#[expect(clippy::print_stderr, reason = "a command says what it does")]
fn say(text: &str) {
    eprintln!("{text}");
}
