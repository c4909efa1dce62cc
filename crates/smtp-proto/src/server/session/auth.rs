//! AUTH exchanges (RFC 4954).

use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mail_types::Secret;

use super::{Session, State};
use crate::server::{AuthAnswer, AuthStep, Event};
use crate::{AuthFailure, Reply};

/// Where an exchange is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AuthState {
    /// The owner was asked.
    Asked,
    /// The client's answer to a challenge is awaited.
    Answering,
    /// The client's empty answer to the data of a success is awaited.
    Confirming,
}

impl Session {
    /// RFC 4954 §4
    pub(super) fn auth(&mut self, mechanism: &str, initial: Option<&str>) {
        match self.state {
            State::Greeted => return self.reply(&Reply::bad_sequence("Send EHLO first")),
            State::Ready if self.authenticated => {
                return self.reply(&Reply::bad_sequence("Already authenticated"));
            }
            State::Ready => {}
            _ => return self.reply(&Reply::bad_sequence("Not within a transaction")),
        }
        let mechanism = mechanism.to_ascii_uppercase();
        if !self.offer.mechanisms.contains(&mechanism) {
            let reply = self.not_offered(&mechanism);
            return self.reply(&reply);
        }
        // A lone equals sign is an empty response; none at all is another thing.
        let initial_response = match initial.map(str::as_bytes).map(decode).transpose() {
            Ok(response) => response,
            Err(reply) => return self.reply(&reply),
        };
        self.state = State::Auth(AuthState::Asked);
        self.events.push_back(Event::Auth(AuthStep::Start {
            mechanism,
            initial_response,
        }));
    }

    /// RFC 4954 §4 and §6: a mechanism that sends passwords as they are may be had with TLS alone.
    fn not_offered(&self, mechanism: &str) -> Reply {
        let offered = &self.offer.mechanisms;
        let plain = offered.is_empty() || matches!(mechanism, "LOGIN" | "PLAIN");
        if plain && self.offer.starttls && !self.offer.encrypted {
            AuthFailure::EncryptionRequired.into()
        } else if offered.is_empty() {
            Reply::not_implemented()
        } else {
            AuthFailure::UnknownMechanism.into()
        }
    }

    /// A line of the client's within an exchange.
    pub(super) fn auth_line(&mut self, line: &[u8]) {
        let confirming = self.state_is(AuthState::Confirming);
        if line == b"*" {
            return self.auth_over(&AuthFailure::Cancelled.into());
        }
        match decode(line) {
            Err(reply) => self.auth_over(&reply),
            Ok(response) if confirming && response.expose().is_empty() => {
                self.auth_success();
            }
            Ok(_) if confirming => self.auth_over(&AuthFailure::BadExchange.into()),
            Ok(response) => {
                self.state = State::Auth(AuthState::Asked);
                self.events
                    .push_back(Event::Auth(AuthStep::Response(response)));
            }
        }
    }

    fn state_is(&self, wanted: AuthState) -> bool {
        matches!(&self.state, State::Auth(state) if *state == wanted)
    }

    pub(super) fn auth_too_long(&mut self) {
        self.auth_over(&Reply::auth_line_too_long());
    }

    /// The client's fault or wish.
    fn auth_over(&mut self, reply: &Reply) {
        self.state = State::Ready;
        self.events.push_back(Event::Auth(AuthStep::Cancel));
        self.reply(reply);
    }

    fn auth_success(&mut self) {
        self.state = State::Ready;
        self.authenticated = true;
        self.events.push_back(Event::Authenticated);
        self.reply(&Reply::authenticated());
    }

    /// The answer to [`Event::Auth`].
    pub fn handle_auth(&mut self, now: Instant, answer: AuthAnswer) {
        if !self.state_is(AuthState::Asked) {
            return;
        }
        match answer {
            AuthAnswer::Challenge(challenge) => self.challenge(&challenge, AuthState::Answering),
            AuthAnswer::Success(Some(data)) => self.challenge(&data, AuthState::Confirming),
            AuthAnswer::Success(None) => self.auth_success(),
            AuthAnswer::Failure(failure) => {
                self.state = State::Ready;
                self.reply(&failure.into());
            }
        }
        self.expect_command(now);
    }

    fn challenge(&mut self, challenge: &[u8], then: AuthState) {
        self.state = State::Auth(then);
        self.reply(&Reply::challenge(STANDARD.encode(challenge)));
    }
}

/// `initial-response / base64` of RFC 4954 §8.
fn decode(text: &[u8]) -> Result<Secret<Vec<u8>>, Reply> {
    let text = if text == b"=" { &[] } else { text };
    let decoded = STANDARD.decode(text).map_err(|_| Reply::bad_base64())?;
    Ok(Secret::new(decoded))
}
