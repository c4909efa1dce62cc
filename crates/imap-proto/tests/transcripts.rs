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

use testkit::transcript::{Script, with_cuts};

#[test]
fn however_they_are_cut() {
    for (path, script) in Script::of("imap").unwrap() {
        with_cuts(|cut| driver::run(&path, &script, cut));
    }
}
