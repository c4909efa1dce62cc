//! The SMTP server's session: replies are well formed and few, questions come in their order, what
//! is handed on as content has no line end but CRLF, and cuts of the input make no difference.

use std::sync::Arc;
use std::time::Instant;

use smtp_proto::server::{
    AuthAnswer, AuthStep, BareNewlines, BodyType, Event, Limits, Offer, Session, Settings,
};
use smtp_proto::{AuthFailure, Refusal};

use crate::control;
use crate::cuts::cuts;

const MESSAGE_SIZE: u64 = 2000;

/// Control: options, cuts, answers.
pub fn run(data: &[u8]) {
    let ([options, seed, answers], input) = control(data);
    let whole = Talk::run(options, answers, &[input]);
    let pieces = Talk::run(options, answers, &cuts(seed.max(1), input));
    assert_eq!(whole.log, pieces.log);
    assert_eq!(
        whole.said.escape_ascii().to_string(),
        pieces.said.escape_ascii().to_string()
    );
    assert!(whole.said.len() <= 64 * input.len() + 1024);
    replies(&whole.said);
}

struct Talk {
    session: Session,
    now: Instant,
    answers: u8,
    asked: u8,
    log: Vec<String>,
    said: Vec<u8>,
    content: Vec<u8>,
    /// Accepted recipients since an accepted sender.
    recipients: Option<usize>,
    binary: bool,
    begun: bool,
    closed: bool,
    /// What is sent in one piece with STARTTLS is dropped, so that cuts matter from there on.
    tls: bool,
}

impl Talk {
    fn run(options: u8, answers: u8, pieces: &[&[u8]]) -> Self {
        let now = Instant::now();
        let mechanisms = ["PLAIN", "LOGIN", "SCRAM-SHA-256"].map(str::to_owned);
        let settings = Settings {
            hostname: "mx.aula.test".into(),
            domain: "aula.test".parse().unwrap(),
            bare_newlines: match options & 1 {
                0 => BareNewlines::Normalise,
                _ => BareNewlines::Reject,
            },
            limits: Limits {
                message_size: MESSAGE_SIZE,
                recipients: 3,
                errors: if options & 2 == 0 { 20 } else { 2 },
                command_line: if options & 4 == 0 { 2048 } else { 64 },
                auth_line: if options & 4 == 0 { 12_288 } else { 100 },
                idle_commands: 20,
                ..Limits::default()
            },
        };
        let offer = Offer {
            encrypted: options & 64 != 0,
            starttls: options & 8 == 0,
            mechanisms: if options & 16 == 0 {
                Arc::new(mechanisms)
            } else {
                Arc::new([])
            },
        };
        let mut talk = Self {
            session: Session::new(Arc::new(settings), offer, now),
            now,
            answers,
            asked: 0,
            log: Vec::new(),
            said: Vec::new(),
            content: Vec::new(),
            recipients: None,
            binary: false,
            begun: false,
            closed: false,
            tls: false,
        };
        for piece in pieces {
            if !talk.tls {
                talk.input(piece);
            }
        }
        if options & 32 != 0 {
            talk.session.handle_shutdown();
            talk.settle();
        }
        talk.transmit();
        talk
    }

    fn input(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            let used = self.session.handle_input(self.now, piece);
            // A CR that was held back, and the last CR of a chunk, come on top.
            assert!(self.session.content_mut().len() <= 2 * used + 2);
            piece = &piece[used..];
            let any = self.settle();
            assert!(any || piece.is_empty(), "stands still: {:?}", self.session);
        }
        self.transmit();
    }

    fn transmit(&mut self) {
        if let Some(out) = self.session.poll_transmit() {
            self.said.extend_from_slice(out);
            self.session.handle_transmitted();
        }
    }

    fn settle(&mut self) -> bool {
        let mut any = false;
        while let Some(event) = self.session.poll_event() {
            any = true;
            assert!(!self.closed, "an event behind the last: {event:?}");
            self.log.push(format!("{event:?}"));
            self.event(event);
        }
        self.content.append(self.session.content_mut());
        any
    }

    /// One in four questions is answered by a refusal, by place.
    fn refuses(&mut self) -> bool {
        // The clock must not run into the machine while a question waits.
        assert!(self.session.poll_timeout().is_none());
        self.asked = self.asked.wrapping_add(1);
        let place = self.asked.wrapping_mul(37) ^ self.answers;
        self.answers != 0 && place.is_multiple_of(4)
    }

    fn verdict(&mut self) -> Result<(), Refusal> {
        if !self.refuses() {
            return Ok(());
        }
        Err(match self.asked % 5 {
            0 => Refusal::NoSuchUser,
            1 => Refusal::RelayDenied,
            2 => Refusal::AuthRequired,
            3 => Refusal::QueueFull,
            _ => Refusal::DirectoryUnavailable,
        })
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Sender(mail) => {
                assert!(self.recipients.is_none());
                self.binary = mail.body == BodyType::BinaryMime;
                assert_eq!(mail.path.to_string().parse(), Ok(mail.path));
                let verdict = self.verdict();
                if verdict.is_ok() {
                    self.recipients = Some(0);
                }
                self.session.handle_verdict(self.now, verdict);
            }
            Event::Recipient(rcpt) => {
                assert_eq!(rcpt.address.to_string().parse(), Ok(rcpt.address));
                let verdict = self.verdict();
                let count = self.recipients.as_mut().expect("a sender before");
                *count += usize::from(verdict.is_ok());
                assert!(*count <= 3);
                self.session.handle_verdict(self.now, verdict);
            }
            Event::Begin => {
                assert!(self.recipients.is_some_and(|count| count > 0) && !self.begun);
                assert!(self.content.is_empty() && self.session.content_mut().is_empty());
                let verdict = self.verdict();
                self.begun = verdict.is_ok();
                self.session.handle_verdict(self.now, verdict);
            }
            Event::Complete => {
                assert!(std::mem::take(&mut self.begun));
                self.content.append(self.session.content_mut());
                let content = std::mem::take(&mut self.content);
                assert!(content.len() as u64 <= MESSAGE_SIZE + 1);
                if !self.binary {
                    only_crlf(&content);
                }
                self.log.push(content.escape_ascii().to_string());
                let refuses = self.refuses();
                let stored = if refuses {
                    Err(Refusal::QueueFull)
                } else {
                    Ok(7.into())
                };
                self.session.handle_stored(self.now, stored);
            }
            Event::Auth(AuthStep::Cancel) => {}
            Event::Auth(step) => self.auth(&step),
            Event::Authenticated => assert!(self.session.is_authenticated()),
            Event::Discard => {
                self.session.content_mut().clear();
                self.content.clear();
            }
            Event::Reset => {
                self.session.content_mut().clear();
                self.content.clear();
                self.recipients = None;
                self.begun = false;
            }
            Event::StartTls => {
                self.recipients = None;
                let mechanisms = Arc::new(["PLAIN".to_owned()]);
                let offer = Offer {
                    encrypted: true,
                    starttls: true,
                    mechanisms,
                };
                self.session.handle_tls(self.now, offer);
                self.tls = true;
                assert!(self.session.hello().is_none() && !self.session.is_authenticated());
            }
            Event::Closed(_) => self.closed = true,
            other => panic!("unknown event {other:?}"),
        }
    }

    fn auth(&mut self, step: &AuthStep) {
        let response = match step {
            AuthStep::Start {
                initial_response, ..
            } => initial_response.as_ref(),
            AuthStep::Response(response) => Some(response),
            AuthStep::Cancel => return,
        };
        let refuses = self.refuses();
        let answer = match response.map(|response| response.expose().as_slice()) {
            _ if refuses => AuthAnswer::Failure(AuthFailure::BadCredentials),
            None | Some(b"") => AuthAnswer::Challenge(b"go on".to_vec()),
            Some([b'!', ..]) => AuthAnswer::Success(Some(b"proof".to_vec())),
            Some(_) => AuthAnswer::Success(None),
        };
        self.session.handle_auth(self.now, answer);
    }
}

pub(crate) fn only_crlf(content: &[u8]) {
    for (at, byte) in content.iter().enumerate() {
        match byte {
            b'\n' => assert!(at > 0 && content[at - 1] == b'\r', "a bare LF"),
            b'\r' => assert_eq!(content.get(at + 1), Some(&b'\n'), "a bare CR"),
            _ => {}
        }
    }
}

/// RFC 5321 §4.2.1.
fn replies(said: &[u8]) {
    let text = std::str::from_utf8(said).expect("replies are UTF-8");
    assert!(text.ends_with("\r\n"));
    let mut open: Option<&str> = None;
    for line in text.split_terminator("\r\n") {
        assert!(
            line.len() <= 1000 && !line.contains(|c: char| c.is_ascii_control()),
            "{line:?}"
        );
        let (code, rest) = line.split_at(3);
        assert!(
            code.parse::<u16>()
                .is_ok_and(|code| (200..600).contains(&code)),
            "{line:?}"
        );
        assert!(open.is_none_or(|open| open == code), "{line:?}");
        open = rest.starts_with('-').then_some(code);
        assert!(open.is_some() || rest.starts_with(' '), "{line:?}");
    }
    assert!(open.is_none(), "the last reply has no end");
}
