//! Runs the conversations of `tests/transcripts/imap/` against the state machine: in one piece, byte
//! by byte, and at other cuts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic, also in their helper functions"
)]

#[path = "transcripts/driver.rs"]
mod driver;

use std::path::{Path, PathBuf};

use testkit::transcript::{Script, with_cuts};

fn scripts() -> Vec<(PathBuf, Script)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/transcripts/imap");
    let scripts = Script::folder(&folder).unwrap();
    assert!(scripts.len() >= 10, "the transcripts are missing");
    scripts
}

#[test]
fn however_they_are_cut() {
    for (path, script) in scripts() {
        with_cuts(|cut| driver::run(&path, &script, cut));
    }
}
