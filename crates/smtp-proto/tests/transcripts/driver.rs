//! Plays a script against a session, with a clock of its own.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use mail_types::EnhancedCode;
use smtp_proto::server::{
    AuthAnswer, AuthStep, BareNewlines, Event, Limits, Offer, Session, Settings,
};
use smtp_proto::{AuthFailure, Refusal};

use testkit::transcript::{Cut, Script, Step, unescape};

struct Driver<'a> {
    session: Session,
    now: Instant,
    offer: Offer,
    questions: VecDeque<(String, String)>,
    content: Vec<u8>,
    messages: VecDeque<Vec<u8>>,
    said: Vec<u8>,
    ended: Option<String>,
    place: &'a Path,
}

pub(crate) fn run(place: &Path, script: &Script, cut: Cut<'_>) {
    let (settings, offer) = settings(&script.settings);
    let now = Instant::now();
    let questions = script.steps.iter().filter_map(|step| match step {
        Step::Question { asked, answer } => Some((asked.clone(), answer.clone())),
        _ => None,
    });
    let mut driver = Driver {
        session: Session::new(Arc::new(settings), offer.clone(), now),
        now,
        offer,
        questions: questions.collect(),
        content: Vec::new(),
        messages: VecDeque::new(),
        said: Vec::new(),
        ended: None,
        place,
    };
    let mut steps = script.steps.iter().peekable();
    while let Some(step) = steps.next() {
        let mut bytes = Vec::new();
        match step {
            Step::Client(first) => {
                bytes.extend_from_slice(first);
                while let Some(Step::Client(more)) = steps.next_if(|s| matches!(s, Step::Client(_)))
                {
                    bytes.extend_from_slice(more);
                }
                driver.input(&bytes, cut);
            }
            other => driver.step(other),
        }
    }
    driver.finish();
}

fn settings(lines: &[String]) -> (Settings, Offer) {
    let mut settings = Settings {
        hostname: "mx.aula.test".into(),
        domain: "aula.test".parse().unwrap(),
        bare_newlines: BareNewlines::Normalise,
        limits: Limits::default(),
    };
    let mut offer = Offer::default();
    for line in lines {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        match name {
            "size" => settings.limits.message_size = value.parse().unwrap(),
            "recipients" => settings.limits.recipients = value.parse().unwrap(),
            "errors" => settings.limits.errors = value.parse().unwrap(),
            "line" => settings.limits.command_line = value.parse().unwrap(),
            "idle" => settings.limits.idle_commands = value.parse().unwrap(),
            "reject-bare" => settings.bare_newlines = BareNewlines::Reject,
            "starttls" => offer.starttls = true,
            "auth" => offer.mechanisms = value.split(' ').map(str::to_owned).collect(),
            _ => panic!("unknown setting {line}"),
        }
    }
    (settings, offer)
}

impl Driver<'_> {
    fn input(&mut self, bytes: &[u8], cut: Cut<'_>) {
        let mut at = 0;
        while at < bytes.len() {
            let mut piece = &bytes[at..][..cut(at).min(bytes.len() - at)];
            at += piece.len();
            loop {
                let used = self.session.handle_input(self.now, piece);
                piece = &piece[used..];
                let asked = self.events();
                assert!(asked || piece.is_empty(), "{self} stands still");
                if piece.is_empty() {
                    break;
                }
            }
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Client(_) | Step::Question { .. } => {}
            Step::Server(line) => self.expect(line),
            Step::Content(content) => {
                let got = self.messages.pop_front();
                let got = got.unwrap_or_else(|| panic!("{self} no content was handed on"));
                assert_eq!(
                    got.escape_ascii().to_string(),
                    content.escape_ascii().to_string()
                );
            }
            Step::Clock(time) => {
                self.now += *time;
                self.session.handle_timeout(self.now);
                self.events();
            }
            Step::Refuse(name) => {
                self.session.refuse_content(refusal(name));
                self.content.clear();
            }
            Step::Shutdown => {
                self.session.handle_shutdown();
                self.events();
            }
            Step::Ended(reason) => assert_eq!(self.ended.take().as_ref(), Some(reason), "{self}"),
        }
    }

    fn expect(&mut self, want: &str) {
        if let Some(out) = self.session.poll_transmit() {
            self.said.extend_from_slice(out);
            self.session.handle_transmitted();
        }
        let end = self.said.iter().position(|b| *b == b'\n');
        let end = end.unwrap_or_else(|| panic!("{self} nothing was said, expected {want}"));
        let line: Vec<u8> = self.said.drain(..=end).collect();
        let line = String::from_utf8(line).unwrap();
        let line = line.strip_suffix("\r\n").expect("CRLF");
        let fits = match want.strip_suffix('*') {
            Some(start) => line.starts_with(start),
            None => line == want,
        };
        assert!(fits, "{self} expected {want}, got {line}");
    }

    /// True if there was any.
    fn events(&mut self) -> bool {
        let mut any = false;
        while let Some(event) = self.session.poll_event() {
            any = true;
            self.event(event);
        }
        self.content.append(self.session.content_mut());
        any
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Sender(mail) => {
                let verdict = self.verdict(&format!("sender {}", mail.path));
                self.session.handle_verdict(self.now, verdict);
            }
            Event::Recipient(rcpt) => {
                let verdict = self.verdict(&format!("rcpt {}", rcpt.address));
                self.session.handle_verdict(self.now, verdict);
            }
            Event::Begin => {
                let verdict = self.verdict("begin");
                self.session.handle_verdict(self.now, verdict);
            }
            Event::Complete => {
                self.content.append(self.session.content_mut());
                self.messages.push_back(std::mem::take(&mut self.content));
                let answer = self.answer("stored");
                let stored = match answer.parse() {
                    Ok(id) => Ok(id),
                    Err(_) => Err(refusal(&answer)),
                };
                self.session.handle_stored(self.now, stored);
            }
            Event::Auth(AuthStep::Cancel) => {
                self.answer("auth cancelled");
            }
            Event::Auth(step) => self.auth(&step),
            Event::Authenticated => assert!(self.session.is_authenticated()),
            Event::Discard | Event::Reset => {
                self.session.content_mut().clear();
                self.content.clear();
            }
            Event::StartTls => {
                self.answer("tls");
                let mechanisms = self.offer.mechanisms.clone();
                let offer = Offer {
                    encrypted: true,
                    starttls: true,
                    mechanisms,
                };
                self.session.handle_tls(self.now, offer);
            }
            Event::Closed(reason) => self.ended = Some(reason.as_str().to_owned()),
            other => panic!("unknown event {other:?}"),
        }
    }

    fn auth(&mut self, step: &AuthStep) {
        let asked = match step {
            AuthStep::Start {
                mechanism,
                initial_response: Some(initial),
            } => format!("auth {mechanism} [{}]", initial.expose().escape_ascii()),
            AuthStep::Start { mechanism, .. } => format!("auth {mechanism}"),
            AuthStep::Response(response) => {
                format!("auth response [{}]", response.expose().escape_ascii())
            }
            AuthStep::Cancel => unreachable!("no question"),
        };
        let answer = self.answer(&asked);
        let answer = match answer.split_once(' ') {
            Some(("challenge", text)) => AuthAnswer::Challenge(unescape(text).unwrap()),
            Some(("success", text)) => AuthAnswer::Success(Some(unescape(text).unwrap())),
            _ => match answer.as_str() {
                "success" => AuthAnswer::Success(None),
                "challenge" => AuthAnswer::Challenge(Vec::new()),
                "bad-credentials" => AuthAnswer::Failure(AuthFailure::BadCredentials),
                "temporary" => AuthAnswer::Failure(AuthFailure::Temporary),
                _ => panic!("{self} unknown answer {answer}"),
            },
        };
        self.session.handle_auth(self.now, answer);
    }

    fn verdict(&mut self, asked: &str) -> Result<(), Refusal> {
        match self.answer(asked).as_str() {
            "accept" => Ok(()),
            other => Err(refusal(other)),
        }
    }

    fn answer(&mut self, asked: &str) -> String {
        let next = self.questions.pop_front();
        let (want, answer) = next.unwrap_or_else(|| panic!("{self} unexpected: {asked}"));
        // The clock must not run into the machine while a question waits.
        let is_question = asked != "auth cancelled";
        assert!(!is_question || self.session.poll_timeout().is_none());
        assert_eq!(want, asked, "{self}");
        answer
    }

    fn finish(self) {
        assert!(
            self.questions.is_empty(),
            "{self} not asked: {:?}",
            self.questions
        );
        assert!(
            self.messages.is_empty(),
            "{self} content that was not checked"
        );
        let rest = self.session.poll_transmit().unwrap_or_default();
        let rest = [self.said.as_slice(), rest].concat();
        assert_eq!(
            rest.escape_ascii().to_string(),
            "",
            "{self} said more than expected"
        );
    }
}

fn refusal(name: &str) -> Refusal {
    match name {
        "auth-required" => Refusal::AuthRequired,
        "directory-unavailable" => Refusal::DirectoryUnavailable,
        "expired" => Refusal::Queue {
            status: EnhancedCode::EXPIRED,
            text: "expired".into(),
        },
        "no-such-user" => Refusal::NoSuchUser,
        "overloaded" => Refusal::Overloaded,
        "queue-full" => Refusal::QueueFull,
        "queue-unavailable" => Refusal::QueueUnavailable,
        "relay-denied" => Refusal::RelayDenied,
        "sender-not-owned" => Refusal::SenderNotOwned,
        _ => panic!("unknown answer {name}"),
    }
}

impl std::fmt::Display for Driver<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {:?}:", self.place.display(), self.session)
    }
}
