//! Plays a script against a session. The questions are its events: each has to be as the script
//! says, and is answered by a state (`selected`, `authenticated`, `logout`), by `challenge`, `idle`
//! or `tls`, or by `ok`, `no` and `bad`, which answer the command.

use std::collections::VecDeque;
use std::path::Path;

use imap_proto::encode::{push_continuation, push_status};
use imap_proto::{Command, Condition, Event, Limits, Session, State, Tag};
use testkit::transcript::{Script, Step};

struct Driver<'a> {
    session: Session,
    questions: VecDeque<(String, String)>,
    out: Vec<u8>,
    /// Of the command that goes on: APPEND, AUTHENTICATE, IDLE.
    tag: Option<Tag>,
    message: Vec<u8>,
    messages: VecDeque<Vec<u8>>,
    place: &'a Path,
}

pub(crate) fn run(place: &Path, script: &Script, cut: &dyn Fn(usize) -> usize) {
    let questions = script.steps.iter().filter_map(|step| match step {
        Step::Question { asked, answer } => Some((asked.clone(), answer.clone())),
        _ => None,
    });
    let mut driver = Driver {
        session: session(&script.settings),
        questions: questions.collect(),
        out: Vec::new(),
        tag: None,
        message: Vec::new(),
        messages: VecDeque::new(),
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
                driver.input(&bytes, cut);
            }
            Step::Server(line) => driver.expect(line),
            Step::Question { .. } => {}
            Step::Content(want) => {
                let got = driver.messages.pop_front().unwrap_or_default();
                assert_eq!(
                    got.escape_ascii().to_string(),
                    want.escape_ascii().to_string()
                );
            }
            Step::Ended(_) => assert_eq!(driver.session.state(), State::Logout, "{driver}"),
            other => panic!("{driver} {other:?}"),
        }
    }
    assert!(
        driver.questions.is_empty(),
        "{driver} {:?}",
        driver.questions
    );
    assert_eq!(driver.out.escape_ascii().to_string(), "", "{driver}");
    assert!(driver.messages.is_empty(), "{driver}");
}

fn session(settings: &[String]) -> Session {
    let mut limits = Limits::default();
    let mut state = State::NotAuthenticated;
    for line in settings {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        match name {
            "command" => limits.command = value.parse().unwrap(),
            "before-login" => limits.command_before_login = value.parse().unwrap(),
            "message" => limits.message = value.parse().unwrap(),
            "discard" => limits.discard = value.parse().unwrap(),
            "bad-commands" => limits.bad_commands = value.parse().unwrap(),
            "state" => state = self::state(value).unwrap(),
            _ => panic!("unknown setting {line}"),
        }
    }
    let mut session = Session::new(limits);
    session.set_state(state);
    session
}

fn state(name: &str) -> Option<State> {
    match name {
        "authenticated" => Some(State::Authenticated),
        "logout" => Some(State::Logout),
        "not-authenticated" => Some(State::NotAuthenticated),
        "selected" => Some(State::Selected),
        _ => None,
    }
}

impl Driver<'_> {
    fn input(&mut self, bytes: &[u8], cut: &dyn Fn(usize) -> usize) {
        let mut at = 0;
        while at < bytes.len() {
            let piece = &bytes[at..][..cut(at).min(bytes.len() - at)];
            at += piece.len();
            self.session.handle_input(piece);
            while let Some(event) = self.session.poll_event(&mut self.out) {
                self.event(event);
            }
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::AppendBegin(tag, append) => {
                let asked = format!("append {} {}", append.mailbox, append.size);
                self.tag = Some(tag);
                self.answer(&asked);
            }
            Event::AppendNext(append) => {
                self.messages.push_back(std::mem::take(&mut self.message));
                self.answer(&format!("append next {}", append.size));
            }
            Event::AppendData(data) => self.message.extend(data),
            Event::AppendEnd => {
                self.messages.push_back(std::mem::take(&mut self.message));
                self.answer("append end");
            }
            Event::AppendFailed => {
                self.message.clear();
                self.answer("append failed");
            }
            Event::AuthCancelled => self.answer("auth cancelled"),
            Event::AuthResponse(response) => {
                let response = response.expose().escape_ascii().to_string();
                self.answer(&format!("auth response [{response}]"));
            }
            Event::Close(reason) => self.answer(&format!("close {reason:?}")),
            Event::Command(tag, command) => {
                let asked = describe(&command);
                self.tag = Some(tag);
                self.answer(&asked);
            }
            Event::IdleDone => self.answer("idle done"),
            Event::IdleFailed => self.answer("idle failed"),
        }
    }

    fn answer(&mut self, asked: &str) {
        let next = self.questions.pop_front();
        let (want, answer) = next.unwrap_or_else(|| panic!("{self} unexpected: {asked}"));
        assert_eq!(want, asked, "{self}");
        let condition = match answer.as_str() {
            "bad" => Condition::Bad,
            "challenge" => {
                push_continuation(&mut self.out, "");
                return self.session.expect_auth();
            }
            "idle" => {
                push_continuation(&mut self.out, "idling");
                return self.session.expect_done();
            }
            "no" => Condition::No,
            "nothing" => return,
            "ok" => Condition::Ok,
            "tls" => {
                self.session.handle_tls();
                Condition::Ok
            }
            name => {
                let state = state(name).unwrap_or_else(|| panic!("{self} unknown answer {name}"));
                self.session.set_state(state);
                Condition::Ok
            }
        };
        let tag = self.tag.take();
        let tag = tag.as_ref().map(Tag::as_str);
        push_status(&mut self.out, tag, condition, None, "done");
    }

    fn expect(&mut self, want: &str) {
        let end = self.out.iter().position(|b| *b == b'\n');
        let end = end.unwrap_or_else(|| panic!("{self} nothing was said, expected {want}"));
        let line: Vec<u8> = self.out.drain(..=end).collect();
        let line = String::from_utf8(line).unwrap();
        let line = line.strip_suffix("\r\n").expect("CRLF");
        let fits = match want.strip_suffix('*') {
            Some(start) => line.starts_with(start),
            None => line == want,
        };
        assert!(fits, "{self} expected {want}, got {line}");
    }
}

/// The name, and of some commands what they say.
fn describe(command: &Command) -> String {
    let name = command.name();
    match command {
        Command::Authenticate { mechanism, initial } => {
            let initial = initial
                .as_ref()
                .map(|i| i.expose().escape_ascii().to_string());
            match initial {
                Some(initial) => format!("{name} {mechanism} [{initial}]"),
                None => format!("{name} {mechanism}"),
            }
        }
        Command::Fetch { uid, set, .. } | Command::Store { uid, set, .. } => {
            format!("{}{name} {set}", if *uid { "UID " } else { "" })
        }
        Command::Login { user, password } => {
            format!(
                "{name} {} {}",
                user.escape_ascii(),
                password.expose().escape_ascii()
            )
        }
        Command::Select { mailbox, .. } | Command::Delete(mailbox) => format!("{name} {mailbox}"),
        _ => name.to_owned(),
    }
}

impl std::fmt::Display for Driver<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.session.state();
        write!(f, "{}: {state:?}:", self.place.display())
    }
}
