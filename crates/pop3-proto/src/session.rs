use std::collections::BTreeSet;
use std::fmt::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mail_types::Secret;
use zeroize::Zeroize;

use crate::command::{Bad, Command};
use crate::content::ContentWriter;
use crate::reply::{AuthFailure, MaildropFailure};

mod transaction;

/// What one conversation may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Octets of a command with its line end; RFC 2449 §4 has 255, and names can be long.
    pub line: usize,
    /// Octets of a SASL response with its line end (RFC 5034 §4 refers to RFC 4422's sizes).
    pub sasl_line: usize,
    /// Commands that fail, all in all, before the session ends.
    pub errors: u32,
    /// Octets of answers that may wait to be sent before the next command is done, so that
    /// pipelined listings of a large maildrop do not pile up.
    pub output: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            line: 1024,
            sasl_line: 12 * 1024,
            errors: 20,
            output: 64 * 1024,
        }
    }
}

/// What the session is to know of its surroundings.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// TLS is on.
    pub encrypted: bool,
    /// STLS can be offered.
    pub tls_available: bool,
    /// Passwords may be sent as they are: under TLS, or from this host.
    pub plain_allowed: bool,
    /// SASL mechanisms to offer.
    pub mechanisms: Vec<String>,
}

/// A message of the maildrop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// Its UID in the mailbox.
    pub uid: u32,
    /// Octets, line ends as CRLF, dots not doubled.
    pub size: u64,
}

/// What the shell has to do.
#[derive(Debug)]
pub enum Event {
    /// Begin a SASL exchange; answer with [`Session::handle_auth`].
    Authenticate {
        /// The mechanism, upper case.
        mechanism: String,
        /// Decoded initial response.
        initial: Option<Secret<Vec<u8>>>,
    },
    /// The client's decoded response to the last challenge.
    AuthResponse(Secret<Vec<u8>>),
    /// The client gave up; the exchange is over.
    AuthCancelled,
    /// Delete these messages for good; answer with [`Session::handle_committed`].
    Commit(Vec<u32>),
    /// Open the maildrop; answer with [`Session::handle_maildrop`].
    OpenMaildrop,
    /// Read a message: call [`Session::handle_content`] for each piece, then
    /// [`Session::handle_content_end`] or [`Session::handle_content_failed`].
    Retrieve {
        /// Its UID.
        uid: u32,
        /// Its size.
        size: u64,
        /// For TOP: the beginning is likely to do.
        top: bool,
    },
    /// Send what is to be sent, do the handshake, and call [`Session::handle_tls`].
    StartTls,
}

/// How a SASL exchange goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthAnswer {
    /// A decoded challenge.
    Challenge(Vec<u8>),
    /// It failed.
    Failure(AuthFailure),
    /// It succeeded; additional data is sent as a last challenge (RFC 5034 §4).
    Success(Option<Vec<u8>>),
}

/// ```text
///            USER/PASS, AUTH          maildrop open
/// Authorization ────► Authenticating ────► Opening ────► Transaction ──QUIT──► Committing
///      ▲  │ STLS            │ failure         │ failure       │ RETR, TOP           │
///      └──┴─────────────────┴─────────────────┘               ▼                     ▼
///                                                         Retrieving              Closed
/// ```
#[derive(Debug)]
enum State {
    Authorization {
        user: Option<String>,
    },
    /// Waits for the shell, or for the client's next response.
    Authenticating {
        client_turn: bool,
    },
    /// The client has to acknowledge the data that came with the success.
    LastChallenge,
    StartingTls,
    Opening,
    Transaction(Maildrop),
    Retrieving(Maildrop, ContentWriter, bool),
    Committing,
    Closed,
}

#[derive(Debug, Default)]
struct Maildrop {
    messages: Vec<Message>,
    uid_validity: u32,
    deleted: BTreeSet<usize>,
    /// The place of the last message that RETR asked for, and of the one before.
    retrieved: (Option<usize>, Option<usize>),
}

/// Server side of one POP3 conversation (RFC 1939). Call [`Session::handle_input`] with what comes
/// while [`Session::wants_input`]; after each call take [`Session::poll_event`] until there is none, and
/// send [`Session::output`], which may make room for more events.
pub struct Session {
    state: State,
    settings: Settings,
    limits: Limits,
    input: Vec<u8>,
    /// The rest of a line that is too long is on its way.
    skipping: bool,
    output: Vec<u8>,
    event: Option<Event>,
    errors: u32,
}

impl fmt::Debug for Session {
    /// Without what waits: it may hold passwords and mail.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("state", &self.state)
            .field("errors", &self.errors)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Begins with the greeting.
    pub fn new(settings: Settings, limits: Limits) -> Self {
        let mut session = Self {
            state: State::Authorization { user: None },
            settings,
            limits,
            input: Vec::new(),
            skipping: false,
            output: Vec::new(),
            event: None,
            errors: 0,
        };
        session.say("+OK Correo POP3 server ready");
        session
    }

    /// True if the shell should read on: nothing waits for an answer of its own.
    pub fn wants_input(&self) -> bool {
        self.event.is_none() && !self.is_busy() && !self.is_closed()
    }

    /// True if the connection is to be closed once the output is sent.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// True once a login has succeeded.
    pub fn is_authenticated(&self) -> bool {
        matches!(
            self.state,
            State::Transaction(_) | State::Retrieving(..) | State::Committing
        )
    }

    /// What is to be sent; empty if nothing. Answers to pipelined commands stand behind each other up
    /// to [`Limits::output`] octets.
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// All of [`Session::output`] is sent. Commands that waited for room are done now, so there may be
    /// more.
    pub fn handle_sent(&mut self) {
        let len = self.output.len();
        self.output.clear();
        if len >= self.limits.output {
            self.advance();
        }
    }

    /// [`Session::output`] and [`Session::handle_sent`] in one.
    pub fn take_output(&mut self) -> Vec<u8> {
        let output = self.output.clone();
        self.handle_sent();
        output
    }

    /// Gives memory back, for a client that is silent.
    pub fn handle_silence(&mut self) {
        if self.output.is_empty() {
            self.output = Vec::new();
        }
    }

    /// What is to be done.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.event.take();
        if matches!(event, Some(Event::AuthCancelled)) {
            // Nothing is answered to it.
            self.advance();
        }
        event
    }

    /// Takes what the client sent. Lines behind one that needs an answer of the shell wait.
    pub fn handle_input(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        self.advance();
    }

    /// The daemon ends.
    pub fn handle_shutdown(&mut self) {
        if !self.is_closed() {
            self.say("-ERR [SYS/TEMP] the server is shutting down");
            self.state = State::Closed;
        }
    }

    /// TLS is on. Whatever was sent before it does not count (RFC 2595 §4).
    pub fn handle_tls(&mut self, mechanisms: Vec<String>) {
        self.input.clear();
        self.skipping = false;
        self.settings.encrypted = true;
        self.settings.plain_allowed = true;
        self.settings.mechanisms = mechanisms;
        self.state = State::Authorization { user: None };
    }

    /// The answer to [`Event::Authenticate`] and [`Event::AuthResponse`].
    pub fn handle_auth(&mut self, answer: AuthAnswer) {
        match answer {
            AuthAnswer::Challenge(challenge) => {
                self.challenge(&challenge);
                self.state = State::Authenticating { client_turn: true };
            }
            AuthAnswer::Failure(failure) => {
                self.state = State::Authorization { user: None };
                self.fail(failure.text());
            }
            AuthAnswer::Success(Some(data)) => {
                self.challenge(&data);
                self.state = State::LastChallenge;
            }
            AuthAnswer::Success(None) => self.open(),
        }
        self.advance();
    }

    /// The answer to [`Event::OpenMaildrop`]: the messages in order, and the mailbox's UIDVALIDITY.
    pub fn handle_maildrop(&mut self, maildrop: Result<(u32, Vec<Message>), MaildropFailure>) {
        match maildrop {
            Ok((uid_validity, messages)) => {
                let text = format!("+OK {} messages", messages.len());
                self.state = State::Transaction(Maildrop {
                    messages,
                    uid_validity,
                    ..Maildrop::default()
                });
                self.say(&text);
            }
            Err(failure) => {
                self.state = State::Authorization { user: None };
                self.say(failure.text());
            }
        }
        self.advance();
    }

    /// The answer to [`Event::Commit`].
    pub fn handle_committed(&mut self, done: bool) {
        // RFC 1939 §6: the session ends whether it worked or not.
        self.say(if done {
            "+OK bye"
        } else {
            "-ERR [SYS/TEMP] some messages are not deleted"
        });
        self.state = State::Closed;
    }

    fn open(&mut self) {
        self.state = State::Opening;
        self.event = Some(Event::OpenMaildrop);
    }

    fn is_busy(&self) -> bool {
        matches!(
            self.state,
            State::Authenticating { client_turn: false }
                | State::StartingTls
                | State::Opening
                | State::Retrieving(..)
                | State::Committing
        )
    }

    /// Does the lines that are here, until one needs the shell.
    fn advance(&mut self) {
        let mut done = 0;
        while self.wants_input() && self.output.len() < self.limits.output {
            let rest = self.input.get(done..).unwrap_or_default();
            let Some(end) = memchr::memchr(b'\n', rest) else {
                break;
            };
            let mut line = rest.get(..end).unwrap_or_default().to_vec();
            done += end + 1;
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            if std::mem::take(&mut self.skipping) || line.len() + 2 > self.line_limit() {
                self.too_long();
            } else {
                self.line(&line);
            }
            // Passwords do not stay in memory longer than they must.
            line.zeroize();
        }
        if let Some(gone) = self.input.get_mut(..done) {
            gone.zeroize();
        }
        self.input.drain(..done);
        let waits = memchr::memchr(b'\n', &self.input).is_some();
        if self.wants_input() && !waits && self.input.len() > self.line_limit() {
            self.input.clear();
            self.skipping = true;
        }
        if self.input.is_empty() {
            self.input = Vec::new();
        }
    }

    fn line_limit(&self) -> usize {
        match self.state {
            // AUTH has an initial response.
            State::Authorization { .. } | State::Authenticating { .. } | State::LastChallenge => {
                self.limits.sasl_line
            }
            _ => self.limits.line,
        }
    }

    fn too_long(&mut self) {
        if matches!(
            self.state,
            State::Authenticating { .. } | State::LastChallenge
        ) {
            self.state = State::Authorization { user: None };
            self.event = Some(Event::AuthCancelled);
        }
        self.fail("-ERR the line is too long");
    }

    fn line(&mut self, line: &[u8]) {
        match self.state {
            State::Authenticating { .. } => return self.sasl_response(line),
            State::LastChallenge => return self.last_response(line),
            _ => {}
        }
        let command = match Command::parse(line) {
            Ok(command) => command,
            Err(Bad::Arguments) => return self.fail("-ERR wrong arguments"),
            Err(Bad::Unknown) => return self.fail("-ERR unknown command"),
        };
        if matches!(command, Command::Capa) {
            return self.capabilities();
        }
        if matches!(self.state, State::Transaction(_)) {
            self.transaction(&command);
        } else {
            self.authorization(command);
        }
    }

    fn authorization(&mut self, command: Command) {
        let user = match &mut self.state {
            State::Authorization { user } => user.take(),
            _ => None,
        };
        match command {
            Command::Quit => {
                self.say("+OK bye");
                self.state = State::Closed;
            }
            Command::Noop => self.say("+OK"),
            Command::Stls => self.start_tls(),
            Command::User(_) | Command::Pass(_) if !self.settings.plain_allowed => {
                self.fail(AuthFailure::EncryptionRequired.text());
            }
            Command::User(name) => {
                self.state = State::Authorization { user: Some(name) };
                self.say("+OK");
            }
            Command::Pass(mut password) => {
                if let Some(name) = user {
                    // RFC 4616 §2; NUL cannot be in a name or password.
                    let message = format!("\0{name}\0{password}").into_bytes();
                    self.authenticate("PLAIN".to_owned(), Some(message));
                } else {
                    self.fail("-ERR USER first");
                }
                password.zeroize();
            }
            Command::Auth(None) => self.list_mechanisms(),
            Command::Auth(Some((mechanism, initial))) => self.auth(mechanism, initial.as_deref()),
            _ => self.fail("-ERR log in first"),
        }
    }

    fn start_tls(&mut self) {
        if self.settings.encrypted {
            return self.fail("-ERR TLS is on already");
        }
        if !self.settings.tls_available {
            return self.fail("-ERR TLS is not available");
        }
        self.say("+OK begin TLS");
        self.state = State::StartingTls;
        self.event = Some(Event::StartTls);
    }

    fn auth(&mut self, mechanism: String, initial: Option<&str>) {
        if !self.settings.mechanisms.contains(&mechanism) {
            let known = matches!(mechanism.as_str(), "LOGIN" | "PLAIN");
            let failure = if known && !self.settings.plain_allowed {
                AuthFailure::EncryptionRequired
            } else {
                AuthFailure::UnknownMechanism
            };
            return self.fail(failure.text());
        }
        let initial = match initial {
            None => None,
            // RFC 5034 §4: an initial response of no octets.
            Some("=") => Some(Vec::new()),
            Some(text) => match STANDARD.decode(text) {
                Ok(bytes) => Some(bytes),
                Err(_) => return self.fail(AuthFailure::BadExchange.text()),
            },
        };
        self.authenticate(mechanism, initial);
    }

    fn authenticate(&mut self, mechanism: String, initial: Option<Vec<u8>>) {
        let initial = initial.map(Secret::new);
        self.state = State::Authenticating { client_turn: false };
        self.event = Some(Event::Authenticate { mechanism, initial });
    }

    fn sasl_response(&mut self, line: &[u8]) {
        if line == b"*" {
            self.state = State::Authorization { user: None };
            self.event = Some(Event::AuthCancelled);
            return self.fail(AuthFailure::Cancelled.text());
        }
        if let Ok(response) = STANDARD.decode(line) {
            self.state = State::Authenticating { client_turn: false };
            self.event = Some(Event::AuthResponse(Secret::new(response)));
        } else {
            self.state = State::Authorization { user: None };
            self.event = Some(Event::AuthCancelled);
            self.fail(AuthFailure::BadExchange.text());
        }
    }

    fn last_response(&mut self, line: &[u8]) {
        if line.is_empty() {
            self.open();
        } else {
            self.state = State::Authorization { user: None };
            self.fail(AuthFailure::Cancelled.text());
        }
    }

    fn list_mechanisms(&mut self) {
        let mut text = String::from("+OK\r\n");
        for mechanism in &self.settings.mechanisms {
            let _ = write!(text, "{mechanism}\r\n");
        }
        text.push('.');
        self.say(&text);
    }

    /// RFC 2449 §5 and §6, RFC 2595 §4, RFC 5034 §6.
    fn capabilities(&mut self) {
        let mut text = String::from(
            "+OK\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nEXPIRE NEVER\r\n",
        );
        if self.settings.plain_allowed {
            text.push_str("USER\r\n");
        }
        if !self.settings.mechanisms.is_empty() {
            let _ = write!(text, "SASL {}\r\n", self.settings.mechanisms.join(" "));
        }
        // RFC 2595 §8: in the authorization state only.
        let before_login = matches!(self.state, State::Authorization { .. });
        if before_login && self.settings.tls_available && !self.settings.encrypted {
            text.push_str("STLS\r\n");
        }
        text.push_str("IMPLEMENTATION Correo\r\n.");
        self.say(&text);
    }

    fn challenge(&mut self, challenge: &[u8]) {
        let text = format!("+ {}", STANDARD.encode(challenge));
        self.say(&text);
    }

    fn say(&mut self, text: &str) {
        self.output.extend_from_slice(text.as_bytes());
        self.output.extend_from_slice(b"\r\n");
    }

    fn fail(&mut self, text: &str) {
        self.say(text);
        self.errors += 1;
        if self.errors >= self.limits.errors {
            self.say("-ERR too many errors");
            self.state = State::Closed;
        }
    }
}

#[cfg(test)]
mod tests;
