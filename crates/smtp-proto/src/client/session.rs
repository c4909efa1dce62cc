mod opening;
mod transaction;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mail_types::{Domain, EnhancedCode, Outcome};

use self::opening::AuthState;
use self::transaction::{Pace, Progress, Step, Transaction};
use super::{
    AuthPrompt, Cause, Envelope, Event, Extensions, Failure, Opening, ReplyParser, Settings, Stage,
};
use crate::server::BodyType;
use crate::{Reply, ReplyCode};

/// Client side of one SMTP conversation. No I/O, no clock.
///
/// ```text
///  Greeting ▶ Ehlo ──▶ StartTls ▶ Handshake ──▶ Ehlo
///               │ 5yz     │ refused, not required │
///               ▼         ▼                       │        begin
///              Helo ───▶ Auth… ◀──────────────────┘  ┌───────────────┐
///                          └──────────────────────▶ Idle ◀─────▶ Transaction
///                                                    └─quit▶ Quitting ▶ Closed
/// ```
///
/// The owner's loop: send [`poll_transmit`](Self::poll_transmit), read into
/// [`handle_input`](Self::handle_input) while sending, do what [`poll_event`](Self::poll_event)
/// says. Where sending fails, what the server said before is still to be read, since it may say
/// why; then [`handle_eof`](Self::handle_eof).
pub struct Session {
    settings: Arc<Settings>,
    opening: Opening,
    state: State,
    parser: ReplyParser,
    out: Vec<u8>,
    events: VecDeque<Event>,
    deadline: Option<Instant>,
    offered: Extensions,
    /// What the server called itself when it answered EHLO or HELO.
    name: String,
    /// A transaction came to its end on this connection.
    used: bool,
    /// The server may think that a transaction is open.
    dirty: bool,
}

#[derive(Debug)]
enum State {
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    /// The owner sets TLS up.
    Handshake,
    Auth(AuthState),
    Idle,
    Transaction(Box<Transaction>),
    Quitting,
    Closed,
}

impl Session {
    /// A new conversation on a connection that was just made.
    pub fn new(settings: Arc<Settings>, opening: Opening, now: Instant) -> Self {
        Self {
            deadline: Some(now + settings.timeouts.greeting),
            parser: ReplyParser::new(settings.limits),
            settings,
            opening,
            state: State::Greeting,
            out: Vec::new(),
            events: VecDeque::new(),
            offered: Extensions::default(),
            name: String::new(),
            used: false,
            dirty: false,
        }
    }

    /// The server's name.
    pub fn peer(&self) -> &Domain {
        &self.opening.peer
    }

    /// What the server calls itself (RFC 5321 §4.1.1.1); empty before it answered EHLO or HELO. Two
    /// hosts of one name are mostly one that talks to itself.
    pub fn server_name(&self) -> &str {
        &self.name
    }

    /// What the server offers as things stand.
    pub fn extensions(&self) -> &Extensions {
        &self.offered
    }

    /// TLS is on.
    pub fn is_encrypted(&self) -> bool {
        self.opening.encrypted
    }

    /// A transaction may begin.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// The session is over.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// The owner is to hand in content.
    pub fn wants_content(&self) -> bool {
        matches!(&self.state, State::Transaction(t) if t.content_is_open())
    }

    /// Takes what the server sent, all of it.
    pub fn handle_input(&mut self, now: Instant, mut input: &[u8]) {
        // What comes before or during the handshake in the clear was not said by whom we will
        // talk to (RFC 3207 §6).
        while !matches!(self.state, State::Handshake | State::Closed) {
            let (taken, result) = self.parser.next(input);
            input = input.get(taken..).unwrap_or_default();
            match result {
                Ok(Some(reply)) => self.handle_reply(now, reply),
                Ok(None) => return,
                Err(error) => return self.fail(error.into()),
            }
        }
    }

    /// The server closed the connection, or it broke.
    pub fn handle_eof(&mut self) {
        match self.state {
            State::Closed => {}
            State::Quitting => self.close(None),
            _ => self.fail(Cause::Lost),
        }
    }

    /// A time-out of [`poll_timeout`](Self::poll_timeout) has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            match self.state {
                State::Closed => {}
                State::Quitting => self.close(None),
                _ => self.fail(Cause::Timeout),
            }
        }
    }

    /// Begins a transaction. Only when idle; else nothing happens and the envelope comes back.
    pub fn begin(&mut self, now: Instant, envelope: Envelope) -> Result<(), Box<Envelope>> {
        if !self.is_idle() {
            return Err(Box::new(envelope));
        }
        if let Some(outcome) = self.cannot_take(&envelope) {
            let outcomes = vec![outcome; envelope.recipients.len()];
            self.events.push_back(Event::Finished(outcomes));
            return Ok(());
        }
        let pace = Pace {
            reset: self.dirty,
            pipelining: self.settings.pipelining && self.offered.pipelining,
        };
        let binary = envelope.body == BodyType::BinaryMime;
        let chunking = self.offered.chunking && (binary || self.settings.chunking);
        self.dirty = true;
        self.state = State::Transaction(Box::new(Transaction::new(envelope, pace, chunking)));
        self.pump(now);
        Ok(())
    }

    /// Hands in content while [`wants_content`](Self::wants_content); best when all before it has
    /// been sent, so that no more than one piece waits.
    pub fn handle_content(&mut self, now: Instant, data: &[u8], last: bool) {
        if let State::Transaction(transaction) = &mut self.state {
            match transaction.push_content(data, last, &mut self.out) {
                Ok(()) => self.arm(now),
                Err(_) => self.fail(Cause::Content),
            }
        }
    }

    /// The content cannot be had any more. The server must not take the half of it for the whole,
    /// so that the connection has to be cut.
    pub fn abort_content(&mut self) {
        if matches!(self.state, State::Transaction(_)) {
            self.out.clear();
            self.fail(Cause::Content);
        }
    }

    /// Ends an idle session; any other is ended at once.
    pub fn quit(&mut self, now: Instant) {
        if self.is_idle() {
            self.out.extend_from_slice(b"QUIT\r\n");
            self.state = State::Quitting;
            self.deadline = Some(now + self.settings.timeouts.quit);
        } else {
            self.close(None);
        }
    }

    /// What is to be sent, until [`handle_transmitted`](Self::handle_transmitted).
    pub fn poll_transmit(&self) -> Option<&[u8]> {
        Some(self.out.as_slice()).filter(|out| !out.is_empty())
    }

    /// Takes what is to be sent, so that it can be sent while input is handled.
    pub fn take_transmit(&mut self) -> Option<Vec<u8>> {
        (!self.out.is_empty()).then(|| std::mem::take(&mut self.out))
    }

    /// All that `poll_transmit` gave was sent.
    pub fn handle_transmitted(&mut self) {
        self.out.clear();
    }

    /// The next thing to do or know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When `handle_timeout` is to be called. None while the session waits for its owner.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// What the server is known not to take is not sent to it.
    fn cannot_take(&self, envelope: &Envelope) -> Option<Outcome> {
        let (status, diagnostic) = match self.offered.size {
            Some(Some(limit)) if envelope.size > limit => (
                EnhancedCode::MESSAGE_TOO_LARGE,
                format!(
                    "the message has {} octets, {} takes at most {limit}",
                    envelope.size,
                    self.peer()
                ),
            ),
            _ if envelope.needs_smtputf8() && !self.offered.smtputf8 => (
                EnhancedCode::NON_ASCII_ADDRESS,
                format!(
                    "the message needs SMTPUTF8, which {} does not offer",
                    self.peer()
                ),
            ),
            // RFC 3030 §3: without BINARYMIME it would have to be recoded.
            _ if envelope.body == BodyType::BinaryMime
                && !(self.offered.binary_mime && self.offered.chunking) =>
            {
                (
                    EnhancedCode::BAD_CONTENT,
                    format!("the message is binary, which {} does not take", self.peer()),
                )
            }
            _ => return None,
        };
        Some(Outcome::local(status, diagnostic))
    }

    fn handle_reply(&mut self, now: Instant, reply: Reply) {
        if let State::Transaction(_) = self.state {
            return self.handle_transaction_reply(now, reply);
        }
        match self.state {
            State::Quitting => self.close(None),
            // RFC 5321 §3.8: it may say that at any time.
            _ if reply.code() == ReplyCode::NOT_AVAILABLE => self.fail(Cause::Refused(reply)),
            State::Greeting => self.handle_greeting(now, reply),
            State::Ehlo => self.handle_ehlo(now, reply),
            State::Helo => self.handle_helo(now, reply),
            State::StartTls => self.handle_starttls(now, reply),
            State::Auth(_) => self.handle_auth_reply(now, reply),
            State::Idle => self.fail(Cause::Unsolicited(reply)),
            State::Handshake | State::Closed | State::Transaction(_) => {}
        }
    }

    fn handle_transaction_reply(&mut self, now: Instant, reply: Reply) {
        let State::Transaction(transaction) = &mut self.state else {
            return;
        };
        if reply.code() == ReplyCode::NOT_AVAILABLE {
            return self.fail(Cause::Refused(reply));
        }
        let (progress, content) = transaction.receive(reply.clone(), &mut self.out);
        match progress {
            Progress::On => {
                if content {
                    self.events.push_back(Event::Content);
                }
                self.pump(now);
            }
            Progress::Early => {
                self.out.clear();
                self.fail(Cause::Refused(reply));
            }
            Progress::Unsolicited => self.fail(Cause::Unsolicited(reply)),
        }
    }

    fn pump(&mut self, now: Instant) {
        let State::Transaction(transaction) = &mut self.state else {
            return;
        };
        if transaction.pump(&self.offered, &mut self.out) {
            self.events.push_back(Event::Content);
        }
        if transaction.is_finished() {
            self.dirty = transaction.leaves_traces();
            self.used = true;
            // Nothing is pending: the server has answered all.
            let none = Outcome::local(EnhancedCode::SYSTEM_TROUBLE, "");
            let outcomes = transaction.outcomes(&self.opening.peer, &none);
            self.events.push_back(Event::Finished(outcomes));
            self.state = State::Idle;
        }
        self.arm(now);
    }

    /// Sets the time-out of what is awaited now.
    fn arm(&mut self, now: Instant) {
        let timeouts = &self.settings.timeouts;
        let wait: Option<Duration> = match &self.state {
            State::Greeting => Some(timeouts.greeting),
            State::Ehlo | State::Helo | State::StartTls => Some(timeouts.command),
            State::Auth(auth) => auth.awaits_server().then_some(timeouts.command),
            State::Transaction(transaction) if transaction.content_is_open() => {
                Some(timeouts.data_block)
            }
            State::Transaction(transaction) => Some(match transaction.awaited() {
                Some(Step::Data) => timeouts.data_start,
                Some(Step::End) => timeouts.data_end,
                _ => timeouts.command,
            }),
            State::Quitting => Some(timeouts.quit),
            State::Idle | State::Handshake | State::Closed => None,
        };
        self.deadline = wait.map(|wait| now + wait);
    }

    fn stage(&self) -> Stage {
        match self.state {
            State::Greeting => Stage::Greeting,
            State::Ehlo | State::Helo => Stage::Hello,
            State::StartTls | State::Handshake => Stage::Tls,
            State::Auth(_) => Stage::Auth,
            State::Idle | State::Quitting | State::Closed => Stage::Idle,
            State::Transaction(_) => Stage::Transaction,
        }
    }

    /// Ends the session; a transaction under way gets its outcomes first.
    fn fail(&mut self, cause: Cause) {
        let failure = Failure {
            stage: self.stage(),
            cause,
        };
        let polite = matches!(&failure.cause, Cause::Refused(r) if r.code() != ReplyCode::NOT_AVAILABLE)
            || matches!(
                failure.cause,
                Cause::TlsNotOffered | Cause::AuthNotOffered | Cause::AuthCancelled
            );
        if let State::Transaction(transaction) = &self.state {
            let gone = matches!(failure.cause, Cause::Lost | Cause::Refused(_));
            let event = if self.used && gone && transaction.is_unanswered() {
                Event::Unanswered
            } else {
                let pending = failure.outcome(&self.opening.peer);
                Event::Finished(transaction.outcomes(&self.opening.peer, &pending))
            };
            self.events.push_back(event);
        } else if polite {
            self.out.extend_from_slice(b"QUIT\r\n");
        }
        self.close(Some(failure));
    }

    fn close(&mut self, failure: Option<Failure>) {
        if !self.is_closed() {
            self.state = State::Closed;
            self.deadline = None;
            self.events.push_back(Event::Closed(failure));
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("peer", &self.opening.peer)
            .field("state", &self.state)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
