//! Runs the conversations of `tests/transcripts/smtp/` against the server's state machine: in one
//! piece, byte by byte, at other cuts, and with all that the client says sent ahead.

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
    for (path, script) in Script::of("smtp").unwrap() {
        with_cuts(|cut| driver::run(&path, &script, cut));
    }
}

#[test]
fn sent_ahead() {
    for (path, script) in Script::of("smtp").unwrap() {
        if script.can_be_sent_ahead() {
            with_cuts(|cut| driver::run(&path, &script.sent_ahead(), cut));
        }
    }
}
