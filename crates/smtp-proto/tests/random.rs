//! Whatever a client sends, however it is cut and whatever is answered: no panic, no stand-still,
//! and no more memory than the limits allow.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic, also in their helper functions"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use mail_types::QueueId;
use proptest::prelude::*;
use smtp_proto::server::{AuthAnswer, AuthStep, Event, Limits, Offer, Session, Settings};
use smtp_proto::{AuthFailure, Refusal};

const WORDS: &[&str] = &[
    "EHLO x\r\n",
    "HELO\r\n",
    "MAIL FROM:<a@x.test>\r\n",
    "MAIL FROM:<> BODY=BINARYMIME SIZE=10\r\n",
    "RCPT TO:<b@x.test>\r\n",
    "DATA\r\n",
    "BDAT 5\r\n",
    "BDAT 3 LAST\r\n",
    "BDAT 99999999999999999999 LAST\r\n",
    "AUTH PLAIN\r\n",
    "AUTH PLAIN AAAA\r\n",
    "STARTTLS\r\n",
    "RSET\r\n",
    "NOOP\r\n",
    "QUIT\r\n",
    "*\r\n",
    "\r\n.\r\n",
    "..\r\n",
    "\r",
    "\n",
    ".",
    "<",
    "\"",
    "\\",
    "AAAA\r\n",
];

fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => proptest::sample::select(WORDS).prop_map(|word| word.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
        1 => (any::<u8>(), 0usize..3000).prop_map(|(byte, count)| vec![byte; count]),
    ]
}

fn input() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(piece(), 0..40).prop_map(|pieces| pieces.concat())
}

fn session(now: Instant) -> Session {
    let limits = Limits {
        message_size: 5000,
        errors: 1000,
        recipients: 3,
        ..Limits::default()
    };
    let settings = Settings {
        hostname: "mx.aula.test".into(),
        domain: "aula.test".parse().unwrap(),
        bare_newlines: smtp_proto::server::BareNewlines::default(),
        limits,
    };
    Session::new(Arc::new(settings), offer(), now)
}

fn offer() -> Offer {
    Offer {
        encrypted: false,
        starttls: true,
        mechanisms: ["PLAIN".to_owned()].into(),
    }
}

/// Answers by a number that stands for luck; keeps the content.
fn answer(
    session: &mut Session,
    now: Instant,
    event: &Event,
    luck: u8,
    messages: &mut Vec<Vec<u8>>,
) {
    let verdict = |refusal| if luck < 200 { Ok(()) } else { Err(refusal) };
    match event {
        Event::Sender(_) => session.handle_verdict(now, verdict(Refusal::AuthRequired)),
        Event::Recipient(_) => session.handle_verdict(now, verdict(Refusal::NoSuchUser)),
        Event::Begin => session.handle_verdict(now, verdict(Refusal::QueueUnavailable)),
        Event::Complete => {
            messages.push(std::mem::take(session.content_mut()));
            let stored = verdict(Refusal::QueueFull).map(|()| QueueId::from(1));
            session.handle_stored(now, stored);
        }
        Event::Auth(AuthStep::Cancel) => {}
        Event::Auth(_) => {
            let answer = match luck {
                0..64 => AuthAnswer::Success(None),
                64..128 => AuthAnswer::Success(Some(vec![luck])),
                128..192 => AuthAnswer::Challenge(vec![luck]),
                _ => AuthAnswer::Failure(AuthFailure::BadCredentials),
            };
            session.handle_auth(now, answer);
        }
        Event::StartTls => session.handle_tls(now, offer()),
        _ => {}
    }
}

/// Plays the input in pieces; gives all that was said and all messages.
fn play(input: &[u8], step: usize, luck: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let now = Instant::now();
    let mut session = session(now);
    let mut said = Vec::new();
    let mut messages = Vec::new();
    let mut luck = luck.iter().copied().cycle();
    for piece in input.chunks(step) {
        let mut rest = piece;
        loop {
            let used = session.handle_input(now, rest);
            rest = &rest[used..];
            let mut any = false;
            while let Some(event) = session.poll_event() {
                any = true;
                let chance = luck.next().unwrap_or(0);
                answer(&mut session, now, &event, chance, &mut messages);
            }
            assert!(any || rest.is_empty(), "stands still: {session:?}");
            assert!(session.content_mut().len() <= 2 * 5000 + 2 * input.len());
            if rest.is_empty() {
                break;
            }
        }
        if let Some(out) = session.poll_transmit() {
            said.extend_from_slice(out);
        }
        session.handle_transmitted();
    }
    (said, messages)
}

fn without_tls(input: &[u8]) -> bool {
    // What comes with STARTTLS in one packet is dropped, so there the cuts matter.
    !input
        .to_ascii_uppercase()
        .windows(8)
        .any(|w| w == b"STARTTLS")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn nothing_breaks_it(input in input(), step in 1usize..200, luck in proptest::collection::vec(any::<u8>(), 1..20)) {
        let (said, messages) = play(&input, step, &luck);
        for line in said.split_inclusive(|b| *b == b'\n') {
            prop_assert!(line.len() >= 6 && line.ends_with(b"\r\n") && line[..3].is_ascii());
        }
        for message in messages {
            prop_assert!(message.len() <= 5000);
        }
    }

    #[test]
    fn cuts_do_not_matter(input in input().prop_filter("no TLS", |i| without_tls(i)), step in 1usize..50, luck in proptest::collection::vec(any::<u8>(), 1..20)) {
        prop_assert_eq!(play(&input, step, &luck), play(&input, usize::MAX, &luck));
    }
}

#[test]
fn an_endless_line_costs_nothing_and_ends() {
    let now = Instant::now();
    let mut session = session(now);
    let piece = vec![b'x'; 65536];
    for _ in 0..100 {
        session.handle_input(now, &piece);
    }
    assert!(session.is_closed());
}

#[test]
fn an_idle_session_is_small() {
    let now = Instant::now();
    let mut session = session(now);
    session.handle_input(now, b"EHLO c.example\r\n");
    session.handle_transmitted();
    while session.poll_event().is_some() {}
    session.release_buffers();
    assert!(size_of::<Session>() < 600, "{}", size_of::<Session>());
    assert!(session.content_mut().capacity() <= 512);
}

#[test]
fn ten_thousand_recipients_in_one_go() {
    let now = Instant::now();
    let mut session = session(now);
    let mut input = b"HELO x\r\nMAIL FROM:<a@x.test>\r\n".to_vec();
    for n in 0..10_000 {
        input.extend_from_slice(format!("RCPT TO:<u{n}@x.test>\r\n").as_bytes());
    }
    let mut rest = input.as_slice();
    while !rest.is_empty() {
        let used = session.handle_input(now, rest);
        rest = &rest[used..];
        while let Some(event) = session.poll_event() {
            answer(&mut session, now, &event, 0, &mut Vec::new());
        }
    }
    let said = session.poll_transmit().unwrap();
    let lines = said.split_inclusive(|b| *b == b'\n').count();
    assert_eq!(lines, 10_003);
    assert!(session.poll_timeout().unwrap() > now + Duration::from_secs(1));
}
