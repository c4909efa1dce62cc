//! Our client against our server: what is handed in at one end comes out at the other, octet by
//! octet.

use std::sync::Arc;
use std::time::Instant;

use mail_types::QueueId;
use proptest::prelude::*;
use smtp_proto::client::{self, Envelope};
use smtp_proto::server;
use smtp_proto::{Refusal, Reply};

use super::dialogue::{envelope, opening, settings, show};

/// A server that takes all but recipients whose name begins with "no".
struct Server {
    session: server::Session,
    input: Vec<u8>,
    content: Vec<u8>,
    stored: Vec<Vec<u8>>,
}

impl Server {
    fn new(now: Instant) -> Self {
        let settings = server::Settings {
            hostname: "mx.test".into(),
            domain: "mx.test".parse().unwrap(),
            bare_newlines: server::BareNewlines::Reject,
            limits: server::Limits::default(),
        };
        Self {
            session: server::Session::new(Arc::new(settings), server::Offer::default(), now),
            input: Vec::new(),
            content: Vec::new(),
            stored: Vec::new(),
        }
    }

    fn work(&mut self, now: Instant) -> Vec<u8> {
        loop {
            let taken = self.session.handle_input(now, &self.input);
            self.input.drain(..taken);
            let mut events = 0;
            while let Some(event) = self.session.poll_event() {
                events += 1;
                match event {
                    server::Event::Sender(_) | server::Event::Begin => {
                        self.session.handle_verdict(now, Ok(()));
                    }
                    server::Event::Recipient(to) => {
                        let refused = to.address.local.as_str().starts_with("no");
                        let verdict = if refused {
                            Err(Refusal::NoSuchUser)
                        } else {
                            Ok(())
                        };
                        self.session.handle_verdict(now, verdict);
                    }
                    server::Event::Complete => {
                        let mut content = std::mem::take(&mut self.content);
                        content.append(self.session.content_mut());
                        self.stored.push(content);
                        self.session.handle_stored(now, Ok(QueueId::from(7)));
                    }
                    _ => {}
                }
            }
            self.content.append(self.session.content_mut());
            if taken == 0 && events == 0 {
                break;
            }
        }
        let out = self.session.poll_transmit().unwrap_or_default().to_vec();
        self.session.handle_transmitted();
        out
    }
}

/// Sends the messages over one connection; answers the outcomes and what the server stored.
fn relay(
    settings: client::Settings,
    messages: Vec<(Envelope, Vec<u8>)>,
    cut: usize,
) -> (Vec<Vec<String>>, Vec<Vec<u8>>) {
    let now = Instant::now();
    let mut server = Server::new(now);
    let opening = opening(client::TlsPolicy::Opportunistic);
    let mut session = client::Session::new(Arc::new(settings), opening, now);
    let mut messages = messages.into_iter();
    let mut content = Vec::new();
    let mut outcomes = Vec::new();
    let mut begin = |session: &mut client::Session, content: &mut Vec<u8>| match messages.next() {
        None => session.quit(now),
        Some((envelope, data)) => {
            *content = data;
            session.begin(now, envelope).unwrap();
        }
    };
    for _ in 0..10_000 {
        let answer = server.work(now);
        for piece in answer.chunks(cut) {
            session.handle_input(now, piece);
        }
        while let Some(event) = session.poll_event() {
            match event {
                client::Event::Ready => begin(&mut session, &mut content),
                client::Event::Content => {
                    for piece in content.chunks(cut) {
                        session.handle_content(now, piece, false);
                    }
                    session.handle_content(now, b"", true);
                }
                client::Event::Finished(result) => {
                    outcomes.push(result.iter().map(show).collect());
                    if session.is_idle() {
                        begin(&mut session, &mut content);
                    }
                }
                client::Event::Closed(None) => return (outcomes, server.stored),
                event => panic!("{event:?}"),
            }
        }
        server
            .input
            .extend(session.take_transmit().unwrap_or_default());
    }
    panic!("no end: {session:?}");
}

fn variants() -> Vec<client::Settings> {
    let mut variants = Vec::new();
    for (chunking, pipelining) in [(true, true), (true, false), (false, true), (false, false)] {
        variants.push(client::Settings {
            chunking,
            pipelining,
            ..settings()
        });
    }
    variants
}

#[test]
fn several_messages_over_one_connection() {
    let accepted = Reply::queued(QueueId::from(7));
    for settings in variants() {
        for cut in [1, 7, 100_000] {
            let large = ".line\r\n".repeat(20_000).into_bytes();
            let messages = vec![
                (
                    envelope(&["b@x.test", "nobody@x.test"], 6),
                    b".\r\nx\r\n".to_vec(),
                ),
                (envelope(&["nobody@x.test"], 3), b"x\r\n".to_vec()),
                (envelope(&["b@x.test"], large.len()), large.clone()),
                (envelope(&["c@x.test"], 0), Vec::new()),
            ];
            let (outcomes, stored) = relay(settings.clone(), messages, cut);
            let taken = format!("Relayed 2.0.0 peer: {accepted}");
            assert_eq!(outcomes.len(), 4);
            assert_eq!(outcomes[0][0], taken);
            assert!(outcomes[0][1].starts_with("Failed 5.1.1 peer: 550 5.1.1"));
            assert!(outcomes[1][0].starts_with("Failed 5.1.1 peer: 550 5.1.1"));
            assert_eq!(outcomes[2], [taken.as_str()]);
            assert_eq!(stored.len(), 3);
            assert_eq!(stored[0], b".\r\nx\r\n");
            assert!(stored[1] == large);
            assert_eq!(outcomes[3], [taken.as_str()]);
        }
    }
}

proptest! {
    #[test]
    fn content_stays_as_it_is(lines in proptest::collection::vec("[.a-z é]{0,8}", 1..20), cut in 1usize..50, variant in 0usize..4) {
        let content: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let message = (envelope(&["b@x.test"], content.len()), content.clone().into_bytes());
        let (_, stored) = relay(variants().remove(variant), vec![message], cut);
        prop_assert_eq!(stored, vec![content.into_bytes()]);
    }
}
