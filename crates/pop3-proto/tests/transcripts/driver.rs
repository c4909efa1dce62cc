//! Plays a script against a session.

use std::collections::VecDeque;
use std::path::Path;

use pop3_proto::{
    AuthAnswer, AuthFailure, Event, Limits, MaildropFailure, Message, Session, Settings,
};

use testkit::transcript::{Script, Step, unescape};

struct Driver<'a> {
    session: Session,
    questions: VecDeque<(String, String)>,
    said: Vec<u8>,
    mechanisms: Vec<String>,
    /// How content is cut.
    cut: &'a dyn Fn(usize) -> usize,
    place: &'a Path,
}

pub(crate) fn run(place: &Path, script: &Script, cut: &dyn Fn(usize) -> usize) {
    let (settings, limits) = settings(&script.settings);
    let questions = script.steps.iter().filter_map(|step| match step {
        Step::Question { asked, answer } => Some((asked.clone(), answer.clone())),
        _ => None,
    });
    let mut driver = Driver {
        mechanisms: settings.mechanisms.clone(),
        session: Session::new(settings, limits),
        questions: questions.collect(),
        said: Vec::new(),
        cut,
        place,
    };
    let mut steps = script.steps.iter().peekable();
    while let Some(step) = steps.next() {
        match step {
            Step::Client(first) => {
                let mut bytes = first.clone();
                while let Some(Step::Client(more)) = steps.next_if(|s| matches!(s, Step::Client(_)))
                {
                    bytes.extend_from_slice(more);
                }
                driver.input(&bytes);
            }
            Step::Server(line) => driver.expect(line),
            Step::Shutdown => driver.session.handle_shutdown(),
            Step::Ended(_) => assert!(
                driver.session.is_closed(),
                "{} is not closed",
                driver.name()
            ),
            Step::Question { .. } => {}
            other => panic!("{} has {other:?}", driver.name()),
        }
    }
    driver.finish();
}

fn settings(lines: &[String]) -> (Settings, Limits) {
    let mut settings = Settings {
        encrypted: false,
        tls_available: true,
        plain_allowed: true,
        mechanisms: vec!["SCRAM-SHA-256".to_owned(), "PLAIN".to_owned()],
    };
    let mut limits = Limits::default();
    for line in lines {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        match name {
            "line" => limits.line = value.parse().unwrap(),
            "sasl-line" => limits.sasl_line = value.parse().unwrap(),
            "errors" => limits.errors = value.parse().unwrap(),
            "no-tls" => settings.tls_available = false,
            "no-plain" => settings.plain_allowed = false,
            "encrypted" => settings.encrypted = true,
            "auth" => {
                settings.mechanisms = value.split_ascii_whitespace().map(str::to_owned).collect();
            }
            _ => panic!("unknown setting {line}"),
        }
    }
    (settings, limits)
}

impl Driver<'_> {
    fn name(&self) -> String {
        format!("{}: {:?}:", self.place.display(), self.session)
    }

    /// What comes once the session has ended is not read, as with a shell.
    fn input(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() && !self.session.is_closed() {
            assert!(self.session.wants_input(), "{} stands still", self.name());
            let piece = &bytes[at..][..(self.cut)(at).min(bytes.len() - at)];
            at += piece.len();
            self.session.handle_input(piece);
            self.work();
        }
    }

    fn work(&mut self) {
        loop {
            self.take_output();
            match self.session.poll_event() {
                Some(event) => self.event(event),
                None => break,
            }
        }
        self.take_output();
    }

    fn take_output(&mut self) {
        loop {
            let output = self.session.take_output();
            if output.is_empty() {
                return;
            }
            self.said.extend(output);
        }
    }

    fn expect(&mut self, want: &str) {
        self.take_output();
        let end = self.said.iter().position(|b| *b == b'\n');
        let end =
            end.unwrap_or_else(|| panic!("{} nothing was said, expected {want}", self.name()));
        let line: Vec<u8> = self.said.drain(..=end).collect();
        let line = String::from_utf8(line).unwrap();
        let line = line.strip_suffix("\r\n").expect("CRLF");
        let fits = match want.strip_suffix('*') {
            Some(start) => line.starts_with(start),
            None => line == want,
        };
        assert!(fits, "{} expected {want}, got {line}", self.name());
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Authenticate { mechanism, initial } => {
                let initial =
                    initial.map(|octets| format!(" [{}]", octets.expose().escape_ascii()));
                let asked = format!("auth {mechanism}{}", initial.unwrap_or_default());
                let answer = self.auth(&asked);
                self.session.handle_auth(answer);
            }
            Event::AuthResponse(octets) => {
                let answer = self.auth(&format!("response [{}]", octets.expose().escape_ascii()));
                self.session.handle_auth(answer);
            }
            Event::AuthCancelled => {
                self.answer("cancelled");
            }
            Event::OpenMaildrop => {
                let maildrop = maildrop(&self.answer("maildrop"));
                self.session.handle_maildrop(maildrop);
            }
            Event::Retrieve { uid, top, .. } => {
                let answer =
                    self.answer(&format!("{} {uid}", if top { "top" } else { "retrieve" }));
                self.content(&answer);
            }
            Event::Commit(uids) => {
                let uids: Vec<_> = uids.iter().map(u32::to_string).collect();
                let done = self.answer(&format!("commit {}", uids.join(" "))) == "done";
                self.session.handle_committed(done);
            }
            Event::StartTls => {
                self.answer("tls");
                self.session.handle_tls(self.mechanisms.clone());
            }
        }
    }

    fn content(&mut self, answer: &str) {
        if answer == "fails" {
            return self.session.handle_content_failed();
        }
        let (text, breaks) = match answer.strip_suffix(" breaks") {
            Some(text) => (text, true),
            None => (answer, false),
        };
        let bytes = unescape(text).unwrap();
        let mut at = 0;
        while at < bytes.len() {
            let piece = &bytes[at..][..(self.cut)(at).min(bytes.len() - at)];
            at += piece.len();
            if !self.session.handle_content(piece) {
                break;
            }
        }
        if breaks {
            self.session.handle_content_failed();
        } else {
            self.session.handle_content_end();
        }
    }

    fn auth(&mut self, asked: &str) -> AuthAnswer {
        let answer = self.answer(asked);
        match answer.split_once(' ') {
            Some(("challenge", text)) => AuthAnswer::Challenge(unescape(text).unwrap()),
            Some(("success", text)) => AuthAnswer::Success(Some(unescape(text).unwrap())),
            _ => match answer.as_str() {
                "success" => AuthAnswer::Success(None),
                "challenge" => AuthAnswer::Challenge(Vec::new()),
                "bad-credentials" => AuthAnswer::Failure(AuthFailure::BadCredentials),
                "bad-exchange" => AuthAnswer::Failure(AuthFailure::BadExchange),
                "too-many" => AuthAnswer::Failure(AuthFailure::TooManyFailures),
                "temporary" => AuthAnswer::Failure(AuthFailure::Temporary),
                _ => panic!("{} unknown answer {answer}", self.name()),
            },
        }
    }

    fn answer(&mut self, asked: &str) -> String {
        let next = self.questions.pop_front();
        let (want, answer) = next.unwrap_or_else(|| panic!("{} unexpected: {asked}", self.name()));
        assert_eq!(want, asked, "{}", self.name());
        answer
    }

    fn finish(mut self) {
        self.take_output();
        assert!(
            self.questions.is_empty(),
            "{} not asked: {:?}",
            self.name(),
            self.questions
        );
        let rest = self.said.escape_ascii().to_string();
        assert_eq!(rest, "", "{} said more than expected", self.name());
    }
}

/// `in-use`, `temporary`, or messages as `UID:SIZE`.
fn maildrop(answer: &str) -> Result<(u32, Vec<Message>), MaildropFailure> {
    let message = |text: &str| {
        let (uid, size) = text.split_once(':').unwrap();
        Message {
            uid: uid.parse().unwrap(),
            size: size.parse().unwrap(),
        }
    };
    match answer {
        "in-use" => Err(MaildropFailure::InUse),
        "temporary" => Err(MaildropFailure::Temporary),
        _ => Ok((11, answer.split_ascii_whitespace().map(message).collect())),
    }
}
