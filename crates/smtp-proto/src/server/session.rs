mod auth;
mod commands;
mod transfer;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use self::auth::AuthState;
use self::transfer::{Incoming, Skip, Start};
use super::line::{Line, LineReader};
use super::{AuthStep, BodyType, CloseReason, Event, Offer, Settings, command};
use crate::{Refusal, Reply, ReplyCode};

/// Server side of one SMTP conversation. No I/O, no clock.
///
/// ```text
///             EHLO         MAIL, allowed      RCPT, DATA, allowed
///  Greeted ─────────▶ Ready ─────────▶ Mail ──────────────────▶ Data ──┐ CRLF.CRLF, or BDAT LAST:
///     ▲                ▲ │              │ BDAT ▶ Chunk ⇄ Between ──────┤ stored or refused
///     │ STARTTLS       │ │ AUTH         └─RSET, EHLO─┐                 │
///  Handshake ◀─────────┴─┘◀──────────────────────────┴─────────────────┘
/// ```
///
/// | command | when | answered |
/// |---|---|---|
/// | HELO EHLO HELP NOOP QUIT RSET VRFY | always | at once |
/// | STARTTLS | no transaction, offered, no TLS yet | at once; what came behind it is dropped |
/// | AUTH | Ready, offered, not yet logged in | by `handle_auth` |
/// | MAIL | Ready | by `handle_verdict` |
/// | RCPT | Mail | by `handle_verdict` |
/// | DATA BDAT | Mail with a recipient | by `handle_verdict`, then `handle_stored` |
///
/// The owner's loop: [`handle_input`](Self::handle_input) with what it has read; then
/// [`poll_event`](Self::poll_event) until there is none, answering the questions, and
/// `handle_input` again with what was not taken; when all is taken, send
/// [`poll_transmit`](Self::poll_transmit) and read on. So a batch of pipelined commands is answered
/// in one write.
pub struct Session {
    settings: Arc<Settings>,
    offer: Offer,
    state: State,
    reader: LineReader,
    out: Vec<u8>,
    content: Vec<u8>,
    events: VecDeque<Event>,
    deadline: Option<Instant>,
    hello: Hello,
    authenticated: bool,
    stopping: bool,
    errors: u32,
    idle_commands: u32,
}

/// What a listener says to a client for which there is no room, in place of a greeting: a session
/// is not made for it ([`Refusal::Overloaded`]).
pub const BUSY: &[u8] = b"421 4.3.2 Too busy; try again later\r\n";

/// What the client called itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Hello {
    #[default]
    None,
    Helo(Option<Box<str>>),
    Ehlo(Box<str>),
}

#[derive(Debug)]
enum State {
    /// No HELO or EHLO yet.
    Greeted,
    /// No transaction.
    Ready,
    /// MAIL was taken.
    Mail(Transaction),
    /// A chunk came, and the next one is awaited.
    Between(Incoming),
    /// Questions that wait for an answer.
    AskSender(Transaction),
    AskRecipient(Transaction),
    AskBegin(Transaction, Start),
    AskStored,
    /// Content comes by DATA.
    Data(Incoming),
    /// Content comes by BDAT.
    Chunk {
        incoming: Incoming,
        left: u64,
        last: bool,
    },
    /// The octets of a refused BDAT come.
    Skip(Box<Skip>),
    /// An AUTH exchange.
    Auth(AuthState),
    /// TLS is being set up.
    Handshake,
    Closed,
}

/// Between MAIL and the content.
#[derive(Debug, Clone, Copy)]
struct Transaction {
    body: BodyType,
    smtputf8: bool,
    recipients: usize,
    refused: usize,
}

impl Session {
    /// A new conversation; the greeting waits to be sent.
    pub fn new(settings: Arc<Settings>, offer: Offer, now: Instant) -> Self {
        let mut session = Self {
            deadline: Some(now + settings.limits.command_timeout),
            settings,
            offer,
            state: State::Greeted,
            reader: LineReader::default(),
            out: Vec::new(),
            content: Vec::new(),
            events: VecDeque::new(),
            hello: Hello::None,
            authenticated: false,
            stopping: false,
            errors: 0,
            idle_commands: 0,
        };
        Reply::greeting(&session.settings.hostname).write_to(&mut session.out);
        session
    }

    /// What the client called itself, if it said so.
    pub fn hello(&self) -> Option<&str> {
        match &self.hello {
            Hello::None | Hello::Helo(None) => None,
            Hello::Helo(Some(name)) | Hello::Ehlo(name) => Some(name),
        }
    }

    /// The client said EHLO.
    pub fn is_extended(&self) -> bool {
        matches!(self.hello, Hello::Ehlo(_))
    }

    /// TLS is on.
    pub fn is_encrypted(&self) -> bool {
        self.offer.encrypted
    }

    /// The client has logged in.
    pub fn is_authenticated(&self) -> bool {
        self.authenticated
    }

    /// [`handle_shutdown`](Self::handle_shutdown) was called.
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// The session is over.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// The content that came in since the owner last took it. It may be emptied at any time, and
    /// filled up front while [`Event::Begin`] waits for its answer. One call of `handle_input`
    /// adds at most twice the length of its input.
    pub fn content_mut(&mut self) -> &mut Vec<u8> {
        &mut self.content
    }

    /// Takes input; says how much of it was used. Where that is not all, a question waits for its
    /// answer, and the rest is to be handed in again behind it.
    pub fn handle_input(&mut self, now: Instant, input: &[u8]) -> usize {
        let mut used = 0;
        while let Some(rest) = input.get(used..).filter(|rest| !rest.is_empty()) {
            match self.step(now, rest) {
                Some(taken) => used += taken,
                None => return used,
            }
        }
        used
    }

    /// One line or run of content; `None` if a question waits.
    fn step(&mut self, now: Instant, input: &[u8]) -> Option<usize> {
        match &self.state {
            State::AskSender(_)
            | State::AskRecipient(_)
            | State::AskBegin(..)
            | State::AskStored
            | State::Auth(AuthState::Asked) => None,
            // What came with STARTTLS or behind the end is nobody's (RFC 3207 §4.2).
            State::Handshake | State::Closed => Some(input.len()),
            State::Data(_) => Some(self.data_input(now, input)),
            State::Chunk { .. } => Some(self.chunk_input(now, input)),
            State::Skip(_) => Some(self.skip_input(now, input)),
            State::Greeted
            | State::Ready
            | State::Mail(_)
            | State::Between(_)
            | State::Auth(AuthState::Answering | AuthState::Confirming) => {
                Some(self.line_input(now, input))
            }
        }
    }

    fn line_input(&mut self, now: Instant, input: &[u8]) -> usize {
        let limits = self.settings.limits;
        let in_auth = matches!(self.state, State::Auth(_));
        let (taken, line) = self.reader.next(input, |line| {
            if in_auth || command::is_auth(line) {
                limits.auth_line
            } else {
                limits.command_line
            }
        });
        match line {
            Line::Partial => return taken,
            Line::Endless => self.close(&Reply::line_too_long(), CloseReason::Errors),
            Line::TooLong if in_auth => self.auth_too_long(),
            Line::TooLong => self.reply(&Reply::line_too_long()),
            Line::Whole(line) if in_auth => self.auth_line(&line),
            Line::Whole(line) => self.command_line(now, &line),
        }
        self.expect_command(now);
        taken
    }

    /// The answer to [`Event::Sender`], [`Event::Recipient`] and [`Event::Begin`].
    pub fn handle_verdict(&mut self, now: Instant, verdict: Result<(), Refusal>) {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::AskSender(transaction) => self.sender_verdict(transaction, verdict),
            State::AskRecipient(transaction) => self.recipient_verdict(transaction, verdict),
            State::AskBegin(transaction, start) => {
                self.begin_verdict(now, transaction, start, verdict);
            }
            other => {
                self.state = other;
                return;
            }
        }
        self.expect_command(now);
    }

    fn sender_verdict(&mut self, transaction: Transaction, verdict: Result<(), Refusal>) {
        match verdict {
            Ok(()) => {
                self.state = State::Mail(transaction);
                self.reply(&Reply::sender_ok());
            }
            Err(refusal) => {
                self.state = State::Ready;
                self.events.push_back(Event::Reset);
                self.reply(&Reply::from(&refusal));
            }
        }
    }

    fn recipient_verdict(&mut self, mut transaction: Transaction, verdict: Result<(), Refusal>) {
        let reply = match verdict {
            Ok(()) => {
                transaction.recipients += 1;
                Reply::recipient_ok()
            }
            Err(refusal) => {
                transaction.refused += 1;
                Reply::from(&refusal)
            }
        };
        self.state = State::Mail(transaction);
        self.reply(&reply);
    }

    /// TLS is on: everything starts again (RFC 3207 §4.2), without a greeting.
    pub fn handle_tls(&mut self, now: Instant, offer: Offer) {
        if !matches!(self.state, State::Handshake) {
            return;
        }
        self.offer = offer;
        self.offer.encrypted = true;
        self.state = State::Greeted;
        self.hello = Hello::None;
        self.authenticated = false;
        self.reader.clear();
        self.expect_command(now);
    }

    /// A time-out of [`poll_timeout`](Self::poll_timeout) has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.close(&Reply::timed_out(), CloseReason::Timeout);
        }
    }

    /// The server stops: the session ends at the next point where nothing is lost, which may be
    /// now. A message that is coming in is taken to its end.
    pub fn handle_shutdown(&mut self) {
        self.stopping = true;
        self.stop_if_safe();
    }

    fn stop_if_safe(&mut self) {
        let safe = matches!(
            self.state,
            State::Greeted
                | State::Ready
                | State::Mail(_)
                | State::Between(_)
                | State::Auth(AuthState::Answering | AuthState::Confirming)
        );
        if self.stopping && safe {
            self.close(&Reply::shutting_down(), CloseReason::Shutdown);
        }
    }

    /// What is to be sent, until [`handle_transmitted`](Self::handle_transmitted).
    pub fn poll_transmit(&self) -> Option<&[u8]> {
        Some(self.out.as_slice()).filter(|out| !out.is_empty())
    }

    /// All that `poll_transmit` gave was sent.
    pub fn handle_transmitted(&mut self) {
        self.out.clear();
    }

    /// The next thing to do. Questions come behind what led to them.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When `handle_timeout` is to be called. None while a question waits, and during the TLS
    /// handshake: those are the owner's to bound.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// Gives back the memory of buffers that are empty, for when the client is silent.
    pub fn release_buffers(&mut self) {
        for buffer in [&mut self.out, &mut self.content] {
            if buffer.is_empty() && buffer.capacity() > KEPT {
                *buffer = Vec::new();
            }
        }
    }

    /// Sets the clock for the next command, or stops it where none is awaited.
    fn expect_command(&mut self, now: Instant) {
        self.stop_if_safe();
        let limits = &self.settings.limits;
        self.deadline = match &self.state {
            State::Greeted
            | State::Ready
            | State::Mail(_)
            | State::Between(_)
            | State::Auth(AuthState::Answering | AuthState::Confirming) => {
                Some(now + limits.command_timeout)
            }
            State::Skip(skip) => Some(skip.ends.min(now + limits.content_timeout)),
            State::Data(incoming) | State::Chunk { incoming, .. } => {
                Some(incoming.ends.min(now + limits.content_timeout))
            }
            _ => None,
        };
    }

    /// Answers a command. Refusals for good are counted, and too many of them end the session.
    fn reply(&mut self, reply: &Reply) {
        if reply.code() == ReplyCode::NOT_AVAILABLE {
            self.close(reply, CloseReason::Refused);
            return;
        }
        if reply.code().is_permanent() {
            self.errors += 1;
            if self.errors > self.settings.limits.errors {
                self.close(&Reply::too_many_errors(), CloseReason::Errors);
                return;
            }
        }
        reply.write_to(&mut self.out);
    }

    fn close(&mut self, reply: &Reply, reason: CloseReason) {
        if self.is_closed() {
            return;
        }
        reply.write_to(&mut self.out);
        if matches!(self.state, State::Auth(_)) {
            self.events.push_back(Event::Auth(AuthStep::Cancel));
        }
        self.state = State::Closed;
        self.deadline = None;
        self.reader.clear();
        self.content = Vec::new();
        self.events.push_back(Event::Closed(reason));
    }
}

/// Octets of an empty buffer that are not worth giving back.
const KEPT: usize = 512;

impl fmt::Debug for Session {
    /// Not the buffers: they hold people's mail and passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("state", &self.state)
            .field("hello", &self.hello)
            .field("errors", &self.errors)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_said_as_elsewhere() {
        let mut out = Vec::new();
        Reply::from(&Refusal::Overloaded).write_to(&mut out);
        assert_eq!(out, BUSY);
    }
}
