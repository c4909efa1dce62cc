//! Runs the conversations of `tests/transcripts/pop3/` against the state machine: in one piece,
//! byte by byte, at other cuts, and with all that the client says sent ahead.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic, also in their helper functions"
)]

#[path = "transcripts/driver.rs"]
mod driver;
#[path = "transcripts/script.rs"]
mod script;

use std::fs;
use std::path::{Path, PathBuf};

use script::Script;

fn scripts() -> Vec<(PathBuf, Script)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/transcripts/pop3");
    let mut scripts: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
        .map(|path| {
            let script = Script::parse(&fs::read_to_string(&path).unwrap());
            (path, script)
        })
        .collect();
    assert!(scripts.len() >= 10, "the transcripts are missing");
    scripts.sort_by(|a, b| a.0.cmp(&b.0));
    scripts
}

fn run_all(cut: impl Fn(usize) -> usize) {
    for (path, script) in scripts() {
        driver::run(&path, &script, &cut);
    }
}

#[test]
fn in_one_piece() {
    run_all(|_| usize::MAX);
}

#[test]
fn byte_by_byte() {
    run_all(|_| 1);
}

#[test]
fn at_other_cuts() {
    for seed in 1..40 {
        run_all(|at| 1 + (at * 31 + seed * 17) % (2 + seed));
    }
}

#[test]
fn sent_ahead() {
    for (path, script) in scripts() {
        if script.can_be_sent_ahead() {
            driver::run(&path, &script.sent_ahead(), &|_| usize::MAX);
            driver::run(&path, &script.sent_ahead(), &|at| 1 + at % 7);
        }
    }
}
