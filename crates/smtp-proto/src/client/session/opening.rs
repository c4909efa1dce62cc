//! From the greeting to the first transaction: EHLO, STARTTLS, AUTH.

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail_types::Secret;

use super::super::{AuthStep, TlsPolicy};
use super::{AuthPrompt, Cause, Event, Extensions, Session, State};
use crate::{Reply, ReplyCode};

/// A command line's octets, CRLF included, that every server takes (RFC 5321 §4.5.3.1.4): a longer
/// initial response is sent by itself.
const COMMAND_LINE: usize = 512;

#[derive(Debug)]
pub(super) enum AuthState {
    /// The owner chooses, or answers what was begun.
    Owner { begun: bool },
    /// The server answers. An initial response that did not fit goes behind its empty challenge.
    Server { initial: Option<Secret<Vec<u8>>> },
    /// We gave up; the server confirms it.
    Cancelled,
}

impl AuthState {
    pub(super) fn awaits_server(&self) -> bool {
        !matches!(self, Self::Owner { .. })
    }
}

impl Session {
    /// TLS is on: everything starts again (RFC 3207 §4.2), without a greeting.
    pub fn handle_tls(&mut self, now: Instant) {
        if matches!(self.state, State::Handshake) {
            self.opening.encrypted = true;
            self.offered = Extensions::default();
            self.parser.clear();
            self.send_ehlo(now);
        }
    }

    /// The answer to an [`AuthPrompt`].
    pub fn handle_auth(&mut self, now: Instant, step: AuthStep) {
        let State::Auth(state @ AuthState::Owner { .. }) = &mut self.state else {
            return;
        };
        let begun = matches!(state, AuthState::Owner { begun: true });
        match step {
            AuthStep::Start {
                mechanism,
                initial_response,
            } => {
                let encoded = initial_response
                    .as_ref()
                    .map(|initial| encode(initial, true));
                let fits = |text: &String| mechanism.len() + text.len() + 8 <= COMMAND_LINE;
                self.out.extend_from_slice(b"AUTH ");
                self.out.extend_from_slice(mechanism.as_bytes());
                let initial = match encoded.filter(fits) {
                    Some(text) => {
                        self.out.push(b' ');
                        self.out.extend_from_slice(text.as_bytes());
                        None
                    }
                    None => initial_response,
                };
                self.out.extend_from_slice(b"\r\n");
                *state = AuthState::Server { initial };
            }
            AuthStep::Response(response) => {
                self.out
                    .extend_from_slice(encode(&response, false).as_bytes());
                self.out.extend_from_slice(b"\r\n");
                *state = AuthState::Server { initial: None };
            }
            // Nothing begun, nothing to confirm.
            AuthStep::Cancel if !begun => self.fail(Cause::AuthCancelled),
            AuthStep::Cancel => {
                self.out.extend_from_slice(b"*\r\n");
                *state = AuthState::Cancelled;
            }
        }
        self.arm(now);
    }

    pub(super) fn handle_greeting(&mut self, now: Instant, reply: Reply) {
        if is_positive(&reply) {
            self.send_ehlo(now);
        } else {
            self.fail(Cause::Refused(reply));
        }
    }

    pub(super) fn handle_ehlo(&mut self, now: Instant, reply: Reply) {
        if is_positive(&reply) {
            self.offered = Extensions::from_reply(&reply);
            self.note_name(&reply);
            self.secure(now);
        } else if reply.code().is_permanent() {
            // RFC 5321 §3.2: an old server; it may still know HELO.
            self.send(now, "HELO", State::Helo);
        } else {
            self.fail(Cause::Refused(reply));
        }
    }

    pub(super) fn handle_helo(&mut self, now: Instant, reply: Reply) {
        if is_positive(&reply) {
            self.offered = Extensions::default();
            self.note_name(&reply);
            self.secure(now);
        } else {
            self.fail(Cause::Refused(reply));
        }
    }

    pub(super) fn handle_starttls(&mut self, now: Instant, reply: Reply) {
        if is_positive(&reply) {
            self.parser.clear();
            self.state = State::Handshake;
            self.deadline = None;
            self.events.push_back(Event::StartTls);
        } else if self.opening.tls == TlsPolicy::Required {
            self.fail(Cause::Refused(reply));
        } else {
            self.log_in(now);
        }
    }

    pub(super) fn handle_auth_reply(&mut self, now: Instant, reply: Reply) {
        let State::Auth(state) = &mut self.state else {
            return;
        };
        match state {
            AuthState::Owner { .. } => self.fail(Cause::Unsolicited(reply)),
            AuthState::Cancelled => self.fail(Cause::AuthCancelled),
            AuthState::Server { initial } => {
                if reply.code() == ReplyCode::CHALLENGE {
                    if let Some(initial) = initial.take() {
                        *state = AuthState::Owner { begun: true };
                        return self.handle_auth(now, AuthStep::Response(initial));
                    }
                    self.challenge(now, &reply);
                } else if is_positive(&reply) {
                    self.events.push_back(Event::Auth(AuthPrompt::Accepted));
                    self.ready(now);
                } else {
                    self.fail(Cause::Refused(reply));
                }
            }
        }
    }

    fn challenge(&mut self, now: Instant, reply: &Reply) {
        self.state = State::Auth(AuthState::Owner { begun: true });
        let text = reply.lines().next().unwrap_or_default();
        // RFC 4954 §4: a lone "=" stands for nothing only in the other direction, but costs
        // nothing to be understood here.
        let decoded = match text.trim() {
            "" | "=" => Ok(Vec::new()),
            text => STANDARD.decode(text),
        };
        match decoded {
            Ok(challenge) => {
                self.events
                    .push_back(Event::Auth(AuthPrompt::Challenge(challenge)));
                self.arm(now);
            }
            Err(_) => self.handle_auth(now, AuthStep::Cancel),
        }
    }

    fn note_name(&mut self, reply: &Reply) {
        let line = reply.lines().next().unwrap_or_default();
        let name = line.split_ascii_whitespace().next().unwrap_or_default();
        name.clone_into(&mut self.name);
    }

    fn secure(&mut self, now: Instant) {
        let wanted = self.opening.tls != TlsPolicy::None && !self.opening.encrypted;
        if wanted && self.offered.starttls {
            self.out.extend_from_slice(b"STARTTLS\r\n");
            self.state = State::StartTls;
            self.arm(now);
        } else if wanted && self.opening.tls == TlsPolicy::Required {
            self.state = State::StartTls;
            self.fail(Cause::TlsNotOffered);
        } else {
            self.log_in(now);
        }
    }

    fn log_in(&mut self, now: Instant) {
        if !self.opening.authenticate {
            return self.ready(now);
        }
        self.state = State::Auth(AuthState::Owner { begun: false });
        if self.offered.auth.is_empty() {
            return self.fail(Cause::AuthNotOffered);
        }
        let mechanisms = self.offered.auth.clone();
        self.events
            .push_back(Event::Auth(AuthPrompt::Mechanisms(mechanisms)));
        self.arm(now);
    }

    fn ready(&mut self, now: Instant) {
        self.state = State::Idle;
        self.events.push_back(Event::Ready);
        self.arm(now);
    }

    fn send_ehlo(&mut self, now: Instant) {
        self.send(now, "EHLO", State::Ehlo);
    }

    fn send(&mut self, now: Instant, command: &str, state: State) {
        self.out.extend_from_slice(command.as_bytes());
        self.out.push(b' ');
        self.out.extend_from_slice(self.settings.hello.as_bytes());
        self.out.extend_from_slice(b"\r\n");
        self.state = state;
        self.arm(now);
    }
}

/// 2yz.
fn is_positive(reply: &Reply) -> bool {
    reply.code().get() < 300
}

/// RFC 4954 §4: an empty initial response is "=", an empty later one is an empty line.
fn encode(response: &Secret<Vec<u8>>, initial: bool) -> String {
    if initial && response.expose().is_empty() {
        "=".to_owned()
    } else {
        STANDARD.encode(response.expose())
    }
}
