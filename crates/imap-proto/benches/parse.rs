//! Commands read and responses written: `cargo bench -p imap-proto`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement may end so"
)]

use std::hint::black_box;

use criterion::Criterion;
use imap_proto::encode::{FetchResponse, push_flags, push_status};
use imap_proto::{Condition, Limits, Session, State, parse_command};
use mail_types::{Flags, SystemFlag};

const COMMANDS: [(&str, &str); 5] = [
    ("NOOP", "NOOP"),
    (
        "FETCH flags",
        "UID FETCH 1:* (FLAGS UID MODSEQ) (CHANGEDSINCE 12345)",
    ),
    (
        "FETCH list",
        "FETCH 1:10000 (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE \
         BODY.PEEK[HEADER.FIELDS (FROM TO CC SUBJECT DATE MESSAGE-ID REFERENCES)])",
    ),
    (
        "SEARCH",
        "SEARCH CHARSET UTF-8 OR (SUBJECT \"what\" UNSEEN) NOT BODY \"that\" SINCE 1-Jan-2026",
    ),
    (
        "STORE",
        "UID STORE 1,3,5:100,2000 +FLAGS.SILENT (\\Seen $Junk)",
    ),
];

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for (name, command) in COMMANDS {
        criterion.bench_function(&format!("parse {name}"), |b| {
            b.iter(|| parse_command(black_box(command.as_bytes())).unwrap());
        });
    }
    let mut session = Session::new(Limits::default());
    session.set_state(State::Selected);
    let line = format!("a {}\r\n", COMMANDS[1].1);
    let mut out = Vec::new();
    criterion.bench_function("session, a command", |b| {
        b.iter(|| {
            session.handle_input(black_box(line.as_bytes()));
            let event = session.poll_event(&mut out);
            assert!(event.is_some() && session.poll_event(&mut out).is_none());
        });
    });
    let envelope = vec![b'e'; 400];
    let flags = Flags::from(SystemFlag::Seen) | Flags::from(SystemFlag::Answered);
    criterion.bench_function("1,000 FETCH responses", |b| {
        b.iter(|| {
            out.clear();
            for number in 1..=1000 {
                let mut response = FetchResponse::begin(&mut out, number);
                response.number("UID", u64::from(number) + 100_000);
                push_flags::<&str>(response.item("FLAGS"), flags, &[], false);
                response.number("RFC822.SIZE", 4096);
                response.item("ENVELOPE").extend_from_slice(&envelope);
                response.modseq(99_999);
                response.end();
            }
            push_status(&mut out, Some("a"), Condition::Ok, None, "done");
            black_box(out.len())
        });
    });
    criterion.final_summary();
}
