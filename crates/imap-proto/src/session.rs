//! Server side of one IMAP conversation (RFC 3501): what the client sends becomes [`Event`]s.

use std::time::Duration;

use mail_types::Secret;
use memchr::memchr;

use crate::command::{Append, AppendNext, Command};
use crate::encode::{push_continuation, push_status};
use crate::limits::Limits;
use crate::parse::{AppendHead, parse_append, parse_command, parse_next};
use crate::response::{Code, Condition};
use crate::tag::Tag;

mod literal;

use literal::Literal;

/// Where the conversation is (RFC 3501 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// §3.1
    NotAuthenticated,
    /// §3.2
    Authenticated,
    /// §3.3
    Selected,
    /// §3.4
    Logout,
}

/// What the client wants. Whoever gets an event finishes it before asking for the next one:
/// commands are done in their order (RFC 3501 §5.5).
#[derive(Debug)]
pub enum Event {
    /// APPEND begins; its message follows in pieces.
    AppendBegin(Tag, Append),
    /// A piece of the message.
    AppendData(Vec<u8>),
    /// The message is complete, and another one of the same APPEND follows in pieces (RFC 3502).
    AppendNext(AppendNext),
    /// The message is complete, and with it the command.
    AppendEnd,
    /// The command is not what it promised to be: the message is to be forgotten. It is answered.
    AppendFailed,
    /// The client gave up the SASL exchange. It is to be answered.
    AuthCancelled,
    /// The decoded SASL response.
    AuthResponse(Secret<Vec<u8>>),
    /// The connection is to be closed; the client is told.
    Close(CloseReason),
    /// A command that is possible in the state.
    Command(Tag, Command),
    /// The client ended IDLE.
    IdleDone,
    /// The client sent another line than DONE, which ends IDLE with BAD.
    IdleFailed,
}

/// Why a conversation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// Too many wrong commands in a row.
    BadCommands,
    /// More octets without asking than are worth reading.
    TooMuch,
}

/// What the next octets are.
#[derive(Debug)]
enum Input {
    /// A command, so far complete up to a line's beginning.
    Line,
    /// The octets of a literal inside a command.
    Literal(u64),
    /// The message of APPEND.
    Message { tag: Tag, left: u64 },
    /// What follows the message of APPEND.
    MessageEnd { tag: Tag },
    /// Octets that are thrown away; the command is answered already.
    Discard(u64),
    /// The rest of a line that is too long, of which so many octets more are read.
    SkipLine(u64),
    /// A SASL response.
    Auth,
    /// DONE.
    Idle,
}

/// The conversation. Give it what comes with [`Session::handle_input`], and take events until there
/// is none; answers are written by whoever handles the events.
#[derive(Debug)]
pub struct Session {
    state: State,
    limits: Limits,
    input: Input,
    /// Not looked at yet.
    buffer: Vec<u8>,
    taken: usize,
    /// The command's lines and literals so far.
    command: Vec<u8>,
    bad_commands: u32,
}

impl Session {
    /// A conversation at its beginning. The greeting is the caller's.
    pub fn new(limits: Limits) -> Self {
        Self {
            state: State::NotAuthenticated,
            limits,
            input: Input::Line,
            buffer: Vec::new(),
            taken: 0,
            command: Vec::new(),
            bad_commands: 0,
        }
    }

    /// Where the conversation is.
    pub fn state(&self) -> State {
        self.state
    }

    /// A login, SELECT, CLOSE or LOGOUT has changed it.
    pub fn set_state(&mut self, state: State) {
        self.state = state;
    }

    /// How long the client may be silent from now on.
    pub fn patience(&self) -> Duration {
        match (&self.input, self.state) {
            (Input::Line | Input::Idle, State::Authenticated | State::Selected)
                if self.command.is_empty() && self.buffer.is_empty() =>
            {
                self.limits.idle_timeout
            }
            (_, State::NotAuthenticated) => self.limits.login_timeout,
            _ => self.limits.command_timeout,
        }
    }

    /// True in the middle of a command, but for the message of APPEND, which may take its time.
    pub fn is_in_command(&self) -> bool {
        match self.input {
            Input::Line => !self.command.is_empty() || !self.buffer.is_empty(),
            Input::Literal(_) | Input::Discard(_) | Input::SkipLine(_) => true,
            Input::Message { .. } | Input::MessageEnd { .. } | Input::Auth | Input::Idle => false,
        }
    }

    /// What the client may use.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Takes what the client sent.
    pub fn handle_input(&mut self, bytes: &[u8]) {
        if self.state != State::Logout {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// TLS is on: whatever was sent before does not count (RFC 3501 §6.2.1).
    pub fn handle_tls(&mut self) {
        self.buffer = Vec::new();
        self.taken = 0;
        self.command.clear();
        self.input = Input::Line;
    }

    /// The next line is a SASL response.
    pub fn expect_auth(&mut self) {
        self.input = Input::Auth;
    }

    /// The client idles; the next line ends that.
    pub fn expect_done(&mut self) {
        self.input = Input::Idle;
    }

    /// The next event, or `None` if more input is needed. What the conversation itself has to say
    /// is appended to `out`.
    pub fn poll_event(&mut self, out: &mut Vec<u8>) -> Option<Event> {
        loop {
            let (progress, event) = self.step(out);
            if event.is_some() {
                return event;
            }
            if !progress {
                self.tidy();
                return None;
            }
        }
    }

    /// Forgets what was taken, and gives memory back where the client is silent.
    fn tidy(&mut self) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        if self.buffer.is_empty() {
            self.buffer = Vec::new();
        }
        if self.command.is_empty() {
            self.command = Vec::new();
        }
    }

    fn rest(&self) -> &[u8] {
        self.buffer.get(self.taken..).unwrap_or_default()
    }

    /// One piece of input: whether there was one, and what it is.
    fn step(&mut self, out: &mut Vec<u8>) -> (bool, Option<Event>) {
        if self.state == State::Logout {
            return (false, None);
        }
        match &mut self.input {
            Input::Line => self.line(out),
            Input::SkipLine(_) => self.skip_line(out),
            Input::Literal(left) => {
                let rest = self.buffer.get(self.taken..).unwrap_or_default();
                let len = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                self.command
                    .extend_from_slice(rest.get(..len).unwrap_or_default());
                self.taken += len;
                *left -= len as u64;
                let done = *left == 0;
                if done {
                    self.input = Input::Line;
                }
                (done, None)
            }
            Input::Discard(left) => {
                let available = self.buffer.len() - self.taken;
                let len = usize::try_from(*left).unwrap_or(usize::MAX).min(available);
                self.taken += len;
                *left -= len as u64;
                let done = *left == 0;
                if done {
                    self.input = Input::SkipLine(self.limits.discard);
                }
                (done, None)
            }
            Input::Message { .. } => self.message(),
            Input::MessageEnd { .. } => self.message_end(out),
            Input::Auth => self.auth(out),
            Input::Idle => self.idle(),
        }
    }

    fn limit(&self) -> usize {
        match self.state {
            State::NotAuthenticated => self.limits.command_before_login,
            _ => self.limits.command,
        }
    }

    /// How much of a line that is too long is read: who is not logged in gets little.
    fn skipped(&self) -> u64 {
        match self.state {
            State::NotAuthenticated => 4 * self.limits.command_before_login as u64,
            _ => self.limits.discard,
        }
    }

    /// Takes a line with its end off the input, if it is complete.
    fn take_line(&mut self) -> Option<Vec<u8>> {
        let end = memchr(b'\n', self.rest())?;
        let line = self.rest().get(..=end)?.to_vec();
        self.taken += line.len();
        Some(line)
    }

    /// How many octets of the line are here, and whether that is all of it.
    fn line_len(&self) -> (usize, bool) {
        match memchr(b'\n', self.rest()) {
            Some(end) => (end + 1, true),
            None => (self.rest().len(), false),
        }
    }

    /// However the line is cut, it is read to its end if that is not too far away.
    fn skip_line(&mut self, out: &mut Vec<u8>) -> (bool, Option<Event>) {
        let (len, is_whole) = self.line_len();
        self.taken += len;
        if let Input::SkipLine(left) = &mut self.input {
            *left = left.saturating_sub((len - usize::from(is_whole)) as u64);
            if *left == 0 {
                return (true, Some(self.far_too_much(out, "the line does not end")));
            }
        }
        if is_whole {
            self.input = Input::Line;
        }
        (is_whole, None)
    }

    /// Ends with a client that sends more without asking than is worth reading.
    fn far_too_much(&mut self, out: &mut Vec<u8>, text: &str) -> Event {
        push_status(out, None, Condition::Bye, None, text);
        self.state = State::Logout;
        Event::Close(CloseReason::TooMuch)
    }

    /// A command's next line.
    fn line(&mut self, out: &mut Vec<u8>) -> (bool, Option<Event>) {
        let (len, is_whole) = self.line_len();
        let room = self.limit().saturating_sub(self.command.len());
        if len <= room && !is_whole {
            return (false, None);
        }
        let rest = self.buffer.get(self.taken..).unwrap_or_default();
        let taken = rest.get(..len.min(room)).unwrap_or_default();
        self.command.extend_from_slice(taken);
        if len > room {
            // What is here of it is for its tag; the line itself is skipped.
            self.input = Input::SkipLine(self.skipped());
            return (true, self.bad(out, "the command is too long"));
        }
        self.taken += len;
        match Literal::at_end(&self.command) {
            Some(literal) => (true, self.literal(literal, out)),
            None => (true, self.complete(out)),
        }
    }

    /// A literal is announced: decide before a single octet of it is read.
    fn literal(&mut self, literal: Literal, out: &mut Vec<u8>) -> Option<Event> {
        if self.state != State::NotAuthenticated {
            match parse_append(&self.command) {
                Ok(AppendHead::Message(append)) => return self.append(append, literal, out),
                Ok(AppendHead::Other) => {}
                Err(error) => {
                    let text = error.to_string();
                    return self.refuse(literal, out, Condition::Bad, None, &text);
                }
            }
        }
        if literal.size > (self.limit() - self.command.len().min(self.limit())) as u64 {
            let code = Some(&Code::TooBig);
            return self.refuse(
                literal,
                out,
                Condition::No,
                code,
                "the literal is too large",
            );
        }
        if literal.synchronising {
            push_continuation(out, "go on");
        }
        self.input = Input::Literal(literal.size);
        None
    }

    fn append(&mut self, append: Append, literal: Literal, out: &mut Vec<u8>) -> Option<Event> {
        if append.size > self.limits.message {
            let code = Some(&Code::TooBig);
            return self.refuse(
                literal,
                out,
                Condition::No,
                code,
                "the message is too large",
            );
        }
        let Some(tag) = self.tag() else {
            return self.refuse(literal, out, Condition::Bad, None, "expected a tag");
        };
        if literal.synchronising {
            push_continuation(out, "go on");
        }
        self.command.clear();
        self.input = Input::Message {
            tag: tag.clone(),
            left: append.size,
        };
        Some(Event::AppendBegin(tag, append))
    }

    /// Answers a command at a literal that will not be read. A client that asked does not send it;
    /// one that did not is read past it, if that is not too far (RFC 7888 §4).
    fn refuse(
        &mut self,
        literal: Literal,
        out: &mut Vec<u8>,
        condition: Condition,
        code: Option<&Code<'_>>,
        text: &str,
    ) -> Option<Event> {
        let tag = self.tag();
        self.command.clear();
        push_status(out, tag.as_ref().map(Tag::as_str), condition, code, text);
        if literal.synchronising {
            return self.count_bad(out);
        }
        if literal.size > self.skipped() {
            return Some(self.far_too_much(out, "the literal is far too large"));
        }
        self.input = Input::Discard(literal.size);
        self.count_bad(out)
    }

    fn message(&mut self) -> (bool, Option<Event>) {
        let rest = self.buffer.get(self.taken..).unwrap_or_default();
        let Input::Message { tag, left } = &mut self.input else {
            return (false, None);
        };
        if *left == 0 {
            self.input = Input::MessageEnd { tag: tag.clone() };
            return (true, None);
        }
        let len = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
        if len == 0 {
            return (false, None);
        }
        let piece = rest.get(..len).unwrap_or_default().to_vec();
        *left -= len as u64;
        self.taken += len;
        (true, Some(Event::AppendData(piece)))
    }

    fn message_end(&mut self, out: &mut Vec<u8>) -> (bool, Option<Event>) {
        let (len, is_whole) = self.line_len();
        let is_too_long = len > self.limit();
        if !is_whole && !is_too_long {
            return (false, None);
        }
        let Input::MessageEnd { tag } = std::mem::replace(&mut self.input, Input::Line) else {
            return (false, None);
        };
        if is_too_long {
            self.input = Input::SkipLine(self.limits.discard);
            let (tag, text) = (Some(tag.as_str()), "the command is too long");
            push_status(out, tag, Condition::Bad, None, text);
            return (true, Some(Event::AppendFailed));
        }
        let line = self.take_line().unwrap_or_default();
        if line.trim_ascii().is_empty() {
            self.bad_commands = 0;
            return (true, Some(Event::AppendEnd));
        }
        let literal = Literal::at_end(&line);
        let next = match parse_next(&line) {
            Ok(next) if next.size <= self.limits.message => Ok(next),
            Ok(_) => Err((
                Condition::No,
                Some(Code::TooBig),
                "the message is too large",
            )),
            Err(_) => Err((
                Condition::Bad,
                None,
                "expected the command's end or another message",
            )),
        };
        let (condition, code, text) = match (next, &literal) {
            (Ok(next), Some(literal)) => return (true, Some(self.next(tag, next, literal, out))),
            (Ok(_), None) => (Condition::Bad, None, "expected a literal"),
            (Err(refusal), _) => refusal,
        };
        push_status(out, Some(tag.as_str()), condition, code.as_ref(), text);
        // The answer to the rest of that message would only confuse.
        if let Some(literal) = literal
            && !literal.synchronising
        {
            self.input = Input::Discard(literal.size.min(self.limits.discard));
        }
        (true, Some(Event::AppendFailed))
    }

    fn next(&mut self, tag: Tag, next: AppendNext, literal: &Literal, out: &mut Vec<u8>) -> Event {
        if literal.synchronising {
            push_continuation(out, "go on");
        }
        self.input = Input::Message {
            tag,
            left: next.size,
        };
        Event::AppendNext(next)
    }

    fn auth(&mut self, out: &mut Vec<u8>) -> (bool, Option<Event>) {
        if self.line_len().0 > self.limits.command_before_login {
            return (true, Some(self.far_too_much(out, "the line is too long")));
        }
        let Some(line) = self.take_line() else {
            return (false, None);
        };
        self.input = Input::Line;
        let text = line.trim_ascii_end();
        let response = if text == b"*" {
            None
        } else {
            literal::decode_base64(text)
        };
        let event = response.map_or(Event::AuthCancelled, |response| {
            Event::AuthResponse(Secret::new(response))
        });
        (true, Some(event))
    }

    fn idle(&mut self) -> (bool, Option<Event>) {
        if self.line_len().0 > self.limit() {
            self.input = Input::SkipLine(self.skipped());
            return (true, Some(Event::IdleFailed));
        }
        let Some(line) = self.take_line() else {
            return (false, None);
        };
        let done = line.trim_ascii().eq_ignore_ascii_case(b"DONE");
        self.input = Input::Line;
        let event = if done {
            Event::IdleDone
        } else {
            Event::IdleFailed
        };
        (true, Some(event))
    }

    /// A command is here whole.
    fn complete(&mut self, out: &mut Vec<u8>) -> Option<Event> {
        let command = std::mem::take(&mut self.command);
        let line = trim_end(&command);
        let Some((tag, rest)) = split_tag(line) else {
            return self.bad(out, "expected a tag and a command");
        };
        match parse_command(rest) {
            Ok(parsed) if parsed.is_possible(self.state) => {
                self.bad_commands = 0;
                Some(Event::Command(tag, parsed))
            }
            Ok(parsed) => {
                let text = format!("{} is not possible now", parsed.name());
                push_status(out, Some(tag.as_str()), Condition::Bad, None, &text);
                self.count_bad(out)
            }
            Err(error) => {
                let text = error.to_string();
                push_status(out, Some(tag.as_str()), Condition::Bad, None, &text);
                self.count_bad(out)
            }
        }
    }

    fn tag(&self) -> Option<Tag> {
        let line = self.command.split(|byte| *byte == b' ').next()?;
        Tag::parse(line)
    }

    /// A command that is wrong before it is complete.
    fn bad(&mut self, out: &mut Vec<u8>, text: &str) -> Option<Event> {
        let tag = self.tag();
        self.command.clear();
        push_status(
            out,
            tag.as_ref().map(Tag::as_str),
            Condition::Bad,
            None,
            text,
        );
        self.count_bad(out)
    }

    fn count_bad(&mut self, out: &mut Vec<u8>) -> Option<Event> {
        self.bad_commands += 1;
        if self.bad_commands < self.limits.bad_commands {
            return None;
        }
        push_status(out, None, Condition::Bye, None, "too many wrong commands");
        self.state = State::Logout;
        Some(Event::Close(CloseReason::BadCommands))
    }
}

fn trim_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn split_tag(line: &[u8]) -> Option<(Tag, &[u8])> {
    let at = memchr(b' ', line)?;
    let (tag, rest) = line.split_at_checked(at)?;
    Some((Tag::parse(tag)?, rest.get(1..)?))
}

#[cfg(test)]
mod tests;
