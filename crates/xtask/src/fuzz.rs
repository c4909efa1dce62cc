//! Fuzzing on the stable toolchain: libFuzzer with the compiler's own coverage counters, as
//! cargo-fuzz sets them. No sanitizer: our code has no `unsafe`; panics, failed assertions,
//! overflows, time and memory are what is looked for.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::run::{cargo, check, output, root};

const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Ccodegen-units=1 --cfg fuzzing";
/// Seconds for one input; all passes are linear, so that more is a finding.
const TIMEOUT: u32 = 10;
const MEMORY_MIB: u32 = 1024;
/// The longest input. Enough for several commands or parts; limits are made small in the targets.
const MAX_LEN: u32 = 8192;

/// Builds the targets and runs each, or one, for so many seconds.
#[expect(clippy::print_stdout, reason = "that is what it is for")]
pub(crate) fn run(seconds: u32, target: Option<&str>) -> anyhow::Result<()> {
    let root = root()?;
    let folder = build(&root)?;
    let targets = targets(&root, target)?;
    let mut findings = Vec::new();
    for target in &targets {
        match one(&root, &folder, target, seconds)? {
            Ok(runs) => println!("{target}: {runs} runs"),
            Err(finding) => {
                println!("{target}: {finding}");
                findings.push(target.as_str());
            }
        }
    }
    if !findings.is_empty() {
        bail!("findings: {}", findings.join(", "));
    }
    Ok(())
}

fn build(root: &Path) -> anyhow::Result<PathBuf> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc names no host")?;
    let target_folder = root.join("target/fuzz");
    let mut build = cargo()?;
    build
        .args(["build", "--release", "--quiet", "--manifest-path"])
        .arg(root.join("fuzz/Cargo.toml"))
        // Named, so that build scripts and macros are not made with the flags.
        .args(["--target", host, "--target-dir"])
        .arg(&target_folder)
        .env("RUSTFLAGS", FLAGS);
    check(&mut build)?;
    Ok(target_folder.join(host).join("release"))
}

fn targets(root: &Path, wanted: Option<&str>) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root.join("fuzz/fuzz_targets"))? {
        let path = entry?.path();
        if let Some(name) = path.file_stem().and_then(|stem| stem.to_str()) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    if let Some(wanted) = wanted {
        if !names.iter().any(|name| name == wanted) {
            bail!("no such target; there are {}", names.join(", "));
        }
        names.retain(|name| name == wanted);
    }
    Ok(names)
}

/// How many runs there were, or what was found.
fn one(
    root: &Path,
    folder: &Path,
    target: &str,
    seconds: u32,
) -> anyhow::Result<Result<u64, String>> {
    let work = root.join("target/fuzz");
    let corpus = work.join("corpus").join(target);
    let findings = work.join("findings").join(target);
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&findings)?;
    let log_path = work.join(format!("{target}.log"));
    let log = File::create(&log_path)?;
    let mut run = Command::new(folder.join(target));
    run.arg(&corpus).arg(root.join("fuzz/corpus").join(target));
    if let Some(dictionary) = dictionary(root, target) {
        run.arg(format!("-dict={}", dictionary.display()));
    }
    run.arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={TIMEOUT}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
        .arg(format!("-max_len={MAX_LEN}"))
        .arg(format!("-artifact_prefix={}/", findings.display()))
        .arg("-print_final_stats=1")
        .stdout(log.try_clone()?)
        .stderr(log);
    let status = run
        .status()
        .with_context(|| format!("cannot run {target}"))?;
    let said = fs::read(&log_path)?;
    let said = String::from_utf8_lossy(&said);
    if status.success() {
        let runs = said
            .lines()
            .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
        let runs = runs.and_then(|runs| runs.trim().parse().ok());
        return Ok(Ok(
            runs.context("the fuzzer does not say how many runs it did")?
        ));
    }
    let told = |line: &&str| line.contains("panicked at") || line.contains("Test unit written");
    let mut what: Vec<&str> = said.lines().filter(told).collect();
    if what.is_empty() {
        what.extend(said.lines().rev().take(3));
    }
    Ok(Err(format!(
        "{}\n  see {}",
        what.join("\n  "),
        log_path.display()
    )))
}

/// `name.dict`, or that of the family: `smtp.dict` for `smtp_server`.
fn dictionary(root: &Path, target: &str) -> Option<PathBuf> {
    let family = target.split('_').next()?;
    [target, family]
        .iter()
        .map(|name| root.join(format!("fuzz/dict/{name}.dict")))
        .find(|path| path.exists())
}
