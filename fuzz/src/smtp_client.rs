//! The SMTP client: replies read the same however they are cut, and a server can say what it wants:
//! each recipient gets one outcome that is consistent in itself, and nothing is sent that the
//! server could take for more lines than it is.

use std::sync::Arc;
use std::time::Instant;

use mail_types::{Action, EnhancedCode, Outcome, Secret, StatusClass};
use smtp_proto::client::{
    AuthPrompt, AuthStep, Envelope, Event, Limits, Opening, Recipient, ReplyParser, Session,
    Settings, TlsPolicy,
};
use smtp_proto::server::BodyType;

use crate::control;
use crate::cuts::cuts;
use crate::smtp_server::only_crlf;

const CONTENT: &[u8] = b"Subject: x\r\n\r\n.dot\r\n..\r\n\r\nend\r\n";

/// Control: options, cuts.
pub fn run(data: &[u8]) {
    let ([options, seed], input) = control(data);
    parser(seed, input);
    talk(options, &cuts(seed, input));
}

/// All replies until an error, as they would be sent.
fn read(pieces: &[&[u8]]) -> (Vec<String>, bool) {
    let limits = Limits {
        reply_line: 64,
        reply_size: 1000,
        reply_lines: 8,
    };
    let mut parser = ReplyParser::new(limits);
    let mut replies = Vec::new();
    for mut piece in pieces.iter().copied() {
        loop {
            let (taken, result) = parser.next(piece);
            piece = &piece[taken..];
            match result {
                Ok(Some(reply)) => {
                    let mut wire = Vec::new();
                    reply.write_to(&mut wire);
                    replies.push(String::from_utf8(wire).expect("replies are UTF-8"));
                }
                Ok(None) => break,
                Err(_) => return (replies, true),
            }
        }
    }
    (replies, false)
}

fn parser(seed: u8, input: &[u8]) {
    let whole = read(&[input]);
    assert_eq!(read(&cuts(seed.max(1), input)), whole);
    for reply in &whole.0 {
        let again = read(&[reply.as_bytes()]);
        // What was cut to the limit may be longer now, by its enhanced code.
        assert!(again.0.len() <= 1);
    }
}

fn envelope(options: u8, number: usize) -> Envelope {
    let recipients = [
        "lois@aula.test",
        "jos\u{e9}@aula.test",
        "\"a b\"@[192.0.2.1]",
    ];
    Envelope {
        reverse_path: if number == 1 { "<>" } else { "<ana@aula.test>" }
            .parse()
            .unwrap(),
        recipients: recipients
            .iter()
            .take(1 + number % 3)
            .map(|address| Recipient {
                address: address.parse().unwrap(),
                original: Some("rfc822;a+2Bb@x.test".to_owned()),
                notify: None,
            })
            .collect(),
        size: CONTENT.len() as u64,
        body: match options >> 6 {
            0 | 1 => BodyType::EightBitMime,
            2 => BodyType::SevenBit,
            _ => BodyType::BinaryMime,
        },
        smtputf8: number == 2,
        envelope_id: Some("id+=\r\n\u{e9}".to_owned()),
        dsn_return: None,
    }
}

fn talk(options: u8, pieces: &[&[u8]]) {
    let now = Instant::now();
    let mut settings = Settings::new("out.test");
    settings.chunking = options & 1 == 0;
    settings.pipelining = options & 2 == 0;
    settings.limits = Limits {
        reply_line: 200,
        reply_size: 4000,
        reply_lines: 20,
    };
    let opening = Opening {
        peer: "mx.test".parse().unwrap(),
        tls: match options >> 2 & 3 {
            0 | 1 => TlsPolicy::Opportunistic,
            2 => TlsPolicy::None,
            _ => TlsPolicy::Required,
        },
        encrypted: false,
        authenticate: options & 16 != 0,
    };
    let mut talk = Talk {
        session: Session::new(Arc::new(settings), opening, now),
        now,
        options,
        sent: Vec::new(),
        begun: 0,
        recipients: None,
        closed: false,
    };
    for piece in pieces {
        talk.session.handle_input(now, piece);
        talk.settle();
    }
    talk.session.handle_eof();
    talk.settle();
    assert!(talk.closed && talk.session.is_closed());
    assert!(talk.recipients.is_none(), "a transaction without outcomes");
    only_crlf(&talk.sent);
}

struct Talk {
    session: Session,
    now: Instant,
    options: u8,
    sent: Vec<u8>,
    begun: usize,
    /// Of the transaction that runs.
    recipients: Option<usize>,
    closed: bool,
}

impl Talk {
    fn settle(&mut self) {
        let mut rounds = 0;
        loop {
            rounds += 1;
            assert!(rounds < 1000, "events without end");
            if let Some(out) = self.session.take_transmit() {
                self.sent.extend_from_slice(&out);
            }
            let Some(event) = self.session.poll_event() else {
                break;
            };
            assert!(!self.closed, "an event behind the last: {event:?}");
            self.event(event);
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Auth(prompt) => self.auth(prompt),
            Event::Closed(_) => self.closed = true,
            Event::Content => {
                let (head, tail) = CONTENT.split_at(CONTENT.len() / 2);
                for (piece, last) in [(head, false), (tail, true)] {
                    if self.session.wants_content() {
                        self.session.handle_content(self.now, piece, last);
                    }
                }
            }
            Event::Finished(outcomes) => {
                assert_eq!(Some(outcomes.len()), self.recipients.take());
                outcomes.iter().for_each(check);
            }
            Event::Ready if self.begun < 3 => {
                let envelope = envelope(self.options, self.begun);
                self.begun += 1;
                let count = envelope.recipients.len();
                // The server may have said more meanwhile, and the session is no longer idle.
                if self.session.begin(self.now, envelope).is_ok() {
                    self.recipients = Some(count);
                }
            }
            Event::Ready => self.session.quit(self.now),
            Event::StartTls => {
                self.session.handle_tls(self.now);
                assert!(self.session.is_encrypted());
            }
            Event::Unanswered => self.recipients = None,
            other => panic!("unknown event {other:?}"),
        }
    }

    fn auth(&mut self, prompt: AuthPrompt) {
        let step = match prompt {
            AuthPrompt::Accepted => return,
            AuthPrompt::Challenge(challenge) if challenge.first() == Some(&b'!') => {
                AuthStep::Cancel
            }
            AuthPrompt::Challenge(_) => AuthStep::Response(Secret::new(b"secret".to_vec())),
            AuthPrompt::Mechanisms(names) => {
                assert!(
                    names
                        .iter()
                        .all(|name| !name.contains(|c: char| c.is_whitespace()))
                );
                let initial = (self.options & 32 == 0).then(|| Secret::new(b"\0a\0b".to_vec()));
                match names.into_iter().find(|name| name == "PLAIN") {
                    None => AuthStep::Cancel,
                    Some(mechanism) => AuthStep::Start {
                        mechanism,
                        initial_response: initial,
                    },
                }
            }
        };
        self.session.handle_auth(self.now, step);
    }
}

fn check(outcome: &Outcome) {
    let expected = match outcome.status.class() {
        StatusClass::Success => Action::Relayed,
        StatusClass::Transient => Action::Delayed,
        StatusClass::Permanent => Action::Failed,
    };
    assert_eq!(outcome.action, expected, "{outcome:?}");
    assert!(!outcome.diagnostic.contains(['\r', '\n']), "{outcome:?}");
    assert!(outcome.diagnostic.len() < 8000);
    assert_eq!(
        outcome.status.to_string().parse::<EnhancedCode>(),
        Ok(outcome.status)
    );
}
