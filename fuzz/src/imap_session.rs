//! The IMAP server's session: cuts make no difference, what it says is well formed, and a client
//! that is told BYE gets no further.

use imap_proto::encode::{push_continuation, push_status};
use imap_proto::{Command, Condition, Event, Limits, Session, State, Tag, parse_command};

use crate::control;
use crate::cuts::cuts;

/// Control: options, cuts.
pub fn run(data: &[u8]) {
    let ([options, seed], input) = control(data);
    let whole = talk(options, &[input]);
    let pieces = talk(options, &cuts(seed.max(1), input));
    assert_eq!(whole.log, pieces.log);
    assert_eq!(
        whole.out.escape_ascii().to_string(),
        pieces.out.escape_ascii().to_string()
    );
    responses(&whole.out);
    let _ = parse_command(input);
}

struct Talk {
    session: Session,
    out: Vec<u8>,
    log: Vec<String>,
    append: Option<(Tag, u64)>,
    idle: Option<Tag>,
    auth: Option<Tag>,
    closed: bool,
    tls: bool,
}

fn talk(options: u8, pieces: &[&[u8]]) -> Talk {
    let mut session = Session::new(Limits {
        command: 2000,
        command_before_login: 500,
        message: 1000,
        discard: 3000,
        bad_commands: if options & 4 == 0 { 20 } else { 3 },
        ..Limits::default()
    });
    session.set_state(match options & 3 {
        0 => State::NotAuthenticated,
        1 => State::Authenticated,
        _ => State::Selected,
    });
    let mut talk = Talk {
        session,
        out: Vec::new(),
        log: Vec::new(),
        append: None,
        idle: None,
        auth: None,
        closed: false,
        tls: false,
    };
    for piece in pieces {
        // What is sent in one piece with STARTTLS is dropped, so that cuts matter from there on.
        if talk.tls {
            break;
        }
        talk.session.handle_input(piece);
        while let Some(event) = talk.session.poll_event(&mut talk.out) {
            assert!(!talk.closed, "an event behind the last: {event:?}");
            talk.event(event);
        }
    }
    talk
}

impl Talk {
    fn event(&mut self, event: Event) {
        let text = format!("{event:?}");
        match event {
            Event::AppendBegin(tag, append) => {
                assert!(append.size <= 1000);
                self.append = Some((tag, append.size));
            }
            Event::AppendData(data) => {
                let (_, left) = self.append.as_mut().expect("a message before");
                *left = left
                    .checked_sub(data.len() as u64)
                    .expect("no more than announced");
                // Where a message is cut depends on the input's cuts.
                let data = data.escape_ascii();
                match self.log.last_mut() {
                    Some(last) if last.starts_with("data") => last.push_str(&data.to_string()),
                    _ => self.log.push(format!("data {data}")),
                }
                return;
            }
            Event::AppendNext(append) => {
                let (_, left) = self.append.as_mut().expect("a message before");
                assert!(*left == 0 && append.size <= 1000);
                *left = append.size;
            }
            Event::AppendEnd => {
                let (tag, left) = self.append.take().expect("a message before");
                assert_eq!(left, 0);
                self.ok(&tag);
            }
            Event::AppendFailed => {
                self.append.take().expect("a message before");
            }
            Event::AuthCancelled => {
                let tag = self.auth.take().expect("an exchange");
                push_status(
                    &mut self.out,
                    Some(tag.as_str()),
                    Condition::Bad,
                    None,
                    "cancelled",
                );
            }
            Event::AuthResponse(_) => {
                let tag = self.auth.take().expect("an exchange");
                self.session.set_state(State::Authenticated);
                self.ok(&tag);
            }
            Event::Close(_) => {
                self.closed = true;
                assert_eq!(self.session.state(), State::Logout);
            }
            Event::Command(tag, command) => self.command(tag, &command),
            Event::IdleDone => {
                let tag = self.idle.take().expect("it idled");
                self.ok(&tag);
            }
            Event::IdleFailed => {
                let tag = self.idle.take().expect("it idled");
                push_status(
                    &mut self.out,
                    Some(tag.as_str()),
                    Condition::Bad,
                    None,
                    "expected DONE",
                );
            }
        }
        self.log.push(text);
    }

    fn command(&mut self, tag: Tag, command: &Command) {
        assert!(command.is_possible(self.session.state()));
        match command {
            Command::Authenticate { initial: None, .. } => {
                push_continuation(&mut self.out, "");
                self.session.expect_auth();
                self.auth = Some(tag);
                return;
            }
            Command::Authenticate { .. } | Command::Login { .. } => {
                self.session.set_state(State::Authenticated);
            }
            Command::Idle => {
                push_continuation(&mut self.out, "idling");
                self.session.expect_done();
                self.idle = Some(tag);
                return;
            }
            Command::Select { .. } => self.session.set_state(State::Selected),
            Command::Close | Command::Unselect => self.session.set_state(State::Authenticated),
            Command::StartTls => {
                self.ok(&tag);
                self.session.handle_tls();
                self.tls = true;
                return;
            }
            Command::Logout => self.session.set_state(State::Logout),
            _ => {}
        }
        self.ok(&tag);
    }

    fn ok(&mut self, tag: &Tag) {
        push_status(
            &mut self.out,
            Some(tag.as_str()),
            Condition::Ok,
            None,
            "done",
        );
    }
}

/// RFC 3501 §9 `continue-req`, `response-done` and untagged conditions.
fn responses(out: &[u8]) {
    let text = std::str::from_utf8(out).expect("responses are ASCII");
    assert!(text.is_empty() || text.ends_with("\r\n"));
    for line in text.split_terminator("\r\n") {
        assert!(!line.contains(|c: char| c.is_ascii_control()), "{line:?}");
        if line.starts_with("+ ") {
            continue;
        }
        let (tag, rest) = line.split_once(' ').expect("a tag");
        assert!(
            !tag.is_empty() && !tag.contains(['+', '(', ')', '{', '"', '\\', '%']),
            "{line:?}"
        );
        let condition = rest.split(' ').next();
        assert!(
            matches!(condition, Some("OK" | "NO" | "BAD" | "BYE")),
            "{line:?}"
        );
    }
}
