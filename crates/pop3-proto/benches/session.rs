//! The server's session, a message at a time: `cargo bench -p pop3-proto`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement may end so"
)]

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use pop3_proto::{AuthAnswer, Event, Limits, Message, Session, Settings};

fn answer(session: &mut Session, content: &[u8]) -> usize {
    let mut sent = 0;
    loop {
        let mut any = false;
        while let Some(event) = session.poll_event() {
            any = true;
            match event {
                Event::Authenticate { .. } => session.handle_auth(AuthAnswer::Success(None)),
                Event::OpenMaildrop => {
                    let size = content.len() as u64;
                    let messages = (1..=1000).map(|uid| Message { uid, size }).collect();
                    session.handle_maildrop(Ok((1, messages)));
                }
                Event::Retrieve { .. } => {
                    session.handle_content(content);
                    session.handle_content_end();
                }
                _ => {}
            }
        }
        let output = session.take_output();
        sent += black_box(&output).len();
        if output.is_empty() && !any {
            return sent;
        }
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let content = format!(
        "Subject: x\r\n\r\n{}",
        "It is a line of a mail that says nothing much at all, as most do.\r\n".repeat(61)
    );
    let settings = Settings {
        plain_allowed: true,
        ..Settings::default()
    };
    let mut session = Session::new(settings, Limits::default());
    session.handle_input(b"USER ana\r\nPASS secret\r\n");
    answer(&mut session, content.as_bytes());
    let mut group = criterion.benchmark_group("4 KiB");
    group.throughput(Throughput::Bytes(content.len() as u64));
    for (name, command) in [("RETR", "RETR 500\r\n"), ("TOP", "TOP 500 0\r\n")] {
        group.bench_function(name, |b| {
            b.iter(|| {
                session.handle_input(command.as_bytes());
                answer(&mut session, content.as_bytes())
            });
        });
    }
    group.finish();
    for command in ["STAT\r\n", "LIST\r\n", "UIDL\r\n"] {
        criterion.bench_function(command.trim(), |b| {
            b.iter(|| {
                session.handle_input(command.as_bytes());
                answer(&mut session, content.as_bytes())
            });
        });
    }
    criterion.final_summary();
}
