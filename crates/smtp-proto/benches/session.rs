//! The server's session, a message at a time: `cargo bench -p smtp-proto`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement may end so"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use criterion::{Criterion, Throughput};
use smtp_proto::server::{BareNewlines, Event, Limits, Offer, Session, Settings};

fn content(octets: usize) -> String {
    let mut content = String::from("Subject: x\r\n\r\n");
    while content.len() < octets {
        content.push_str("It is a line of a mail that says nothing much at all, as most do.\r\n");
        content.push_str("..and one that begins with a dot\r\n");
    }
    content
}

/// Takes what a client sends, in pieces as a socket gives them; answers yes to everything.
fn take(session: &mut Session, now: Instant, input: &[u8], content: &mut Vec<u8>) {
    for mut piece in input.chunks(16 * 1024) {
        while !piece.is_empty() {
            let used = session.handle_input(now, piece);
            piece = &piece[used..];
            while let Some(event) = session.poll_event() {
                match event {
                    Event::Begin | Event::Recipient(_) | Event::Sender(_) => {
                        session.handle_verdict(now, Ok(()));
                    }
                    Event::Complete => {
                        content.append(session.content_mut());
                        black_box(&*content);
                        content.clear();
                        session.handle_stored(now, Ok(7.into()));
                    }
                    _ => {}
                }
            }
            content.append(session.content_mut());
        }
        black_box(session.poll_transmit());
        session.handle_transmitted();
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let settings = Arc::new(Settings {
        hostname: "mx.aula.test".into(),
        domain: "aula.test".parse().unwrap(),
        bare_newlines: BareNewlines::Normalise,
        limits: Limits::default(),
    });
    for (name, octets) in [("4 KiB", 4096), ("1 MiB", 1024 * 1024)] {
        let body = content(octets);
        let envelope = "MAIL FROM:<ana@aula.test> SIZE=4096\r\nRCPT TO:<lois@aula.test>\r\n";
        let data = format!("{envelope}DATA\r\n{body}.\r\n");
        let chunk = format!("{envelope}BDAT {} LAST\r\n{body}", body.len());
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(octets as u64));
        for (name, input) in [("DATA", data), ("BDAT", chunk)] {
            let now = Instant::now();
            let mut session = Session::new(settings.clone(), Offer::default(), now);
            let mut content = Vec::new();
            take(&mut session, now, b"EHLO c.example\r\n", &mut content);
            group.bench_function(name, |b| {
                b.iter(|| take(&mut session, now, input.as_bytes(), &mut content));
            });
        }
        group.finish();
    }
    criterion.final_summary();
}
