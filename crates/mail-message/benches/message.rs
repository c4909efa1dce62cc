//! Walking, summaries and SEARCH: `cargo bench -p mail-message`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement may end so"
)]

use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{Criterion, Throughput};
use mail_message::search::{Needle, body_contains, header_contains, text_contains};
use mail_message::{filter_fields, header_len, summarize};

const LINE: &str = "It is a line of a mail that says nothing much at all, as most do.\r\n";

fn header() -> String {
    let mut header = String::new();
    for hop in 0..3 {
        write!(
            header,
            "Received: from a{hop}.example.org (a{hop}.example.org [192.0.2.{hop}])\r\n\tby \
             mx.aula.test with ESMTPS id 0123456789abcdef;\r\n\tTue, 24 Nov 2026 10:00:00 +0000\r\n"
        )
        .unwrap();
    }
    header.push_str(
        "Message-ID: <0123456789@aula.test>\r\nDate: Tue, 24 Nov 2026 10:00:00 +0100\r\n\
         From: Ana Beispiel <ana@aula.test>\r\nTo: Lois <lois@aula.test>, \"B. Ob\" <bob@x.test>\r\n\
         Subject: What was said =?utf-8?q?=C3=BCber?= it all\r\nMIME-Version: 1.0\r\n\
         References: <1@aula.test> <2@aula.test>\r\nIn-Reply-To: <2@aula.test>\r\n\
         X-Mailer: Correo\r\nList-Id: <talk.aula.test>\r\n",
    );
    header
}

/// 4 KiB of plain text.
fn plain() -> String {
    let mut message = header() + "Content-Type: text/plain; charset=utf-8\r\n\r\n";
    while message.len() < 4096 {
        message.push_str(LINE);
    }
    message
}

/// 4 KiB of text and HTML.
fn alternative() -> String {
    let boundary = "=_0123456789abcdef";
    let mut message =
        header() + &format!("Content-Type: multipart/alternative; boundary=\"{boundary}\"\r\n\r\n");
    for kind in ["plain", "html"] {
        write!(
            message,
            "--{boundary}\r\nContent-Type: text/{kind}; charset=utf-8\r\n\
             Content-Transfer-Encoding: quoted-printable\r\n\r\n{}",
            LINE.repeat(18)
        )
        .unwrap();
    }
    write!(message, "--{boundary}--\r\n").unwrap();
    message
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for (name, message) in [
        ("plain", plain()),
        ("alternative", alternative()),
        ("1 MiB", plain() + &LINE.repeat(16_000)),
    ] {
        let message = message.as_bytes();
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(message.len() as u64));
        group.bench_function("summarize", |b| b.iter(|| summarize(black_box(message))));
        group.bench_function("header_len", |b| b.iter(|| header_len(black_box(message))));
        let header = &message[..header_len(message)];
        let names = ["from", "subject", "date"];
        group.bench_function("filter_fields", |b| {
            b.iter(|| filter_fields(black_box(header), &names, false));
        });
        let needle = Needle::new("not to be found");
        group.bench_function("search subject", |b| {
            b.iter(|| header_contains(black_box(header), "subject", &needle));
        });
        group.bench_function("search body", |b| {
            b.iter(|| body_contains(black_box(message), &needle));
        });
        group.bench_function("search text", |b| {
            b.iter(|| text_contains(black_box(message), &needle));
        });
        group.finish();
    }
    criterion.final_summary();
}
