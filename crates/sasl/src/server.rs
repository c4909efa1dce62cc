//! The server's side of an exchange.
//!
//! Feed it the client's messages with [`Exchange::handle_response`] and do what each [`Step`] says.

mod login;
mod plain;
mod scram;

use mail_types::Secret;

use crate::{MAX_MESSAGE, Mechanism, SaslError, ScramKeys};

/// One exchange.
#[derive(Debug)]
pub struct Exchange(State);

#[derive(Debug)]
enum State {
    Done,
    Login(login::Login),
    Plain(plain::Plain),
    Scram(scram::Scram),
}

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// Send this to the client and feed its response.
    Challenge(Vec<u8>),
    /// Check a password: the exchange is over, and the answer is yours.
    CheckPassword(Login),
    /// Look up the keys of this user and call [`Exchange::handle_keys`]. For an unknown user give
    /// invented ones that are the same each time, so that it cannot be told who exists.
    NeedKeys(Identity),
    /// The client knows the password; these octets go to it along with the success.
    Proved(Vec<u8>),
    /// The client does not know the password.
    Failed,
}

/// Who wants to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Whose credentials are shown.
    pub authentication: String,
    /// As whom the client wants to act, where that is said.
    pub authorization: Option<String>,
}

/// A name and a password to be checked, as they were sent: not yet prepared.
#[derive(Debug)]
pub struct Login {
    /// Who.
    pub identity: Identity,
    /// With which password.
    pub password: Secret<Vec<u8>>,
}

impl Exchange {
    /// Begins an exchange. `nonce` is random and printable without commas, at least 18 characters;
    /// only SCRAM uses it.
    pub fn new(mechanism: Mechanism, nonce: String) -> Self {
        Self(match mechanism {
            Mechanism::Login => State::Login(login::Login::Username),
            Mechanism::Plain => State::Plain(plain::Plain),
            Mechanism::ScramSha256 => State::Scram(scram::Scram::new(nonce)),
        })
    }

    /// The first step where the client sent no initial response: the challenge that asks for it.
    pub fn begin(&self) -> Step {
        match &self.0 {
            State::Login(_) => Step::Challenge(login::USERNAME.to_vec()),
            // Both begin with the client, which an empty challenge asks to speak (RFC 4422 §5.1).
            State::Done | State::Plain(_) | State::Scram(_) => Step::Challenge(Vec::new()),
        }
    }

    /// Takes the client's next message.
    pub fn handle_response(&mut self, response: &[u8]) -> Result<Step, SaslError> {
        if response.len() > MAX_MESSAGE {
            return Err(SaslError::TooLong);
        }
        let (state, step) = match std::mem::replace(&mut self.0, State::Done) {
            State::Done => return Err(SaslError::Unexpected),
            State::Login(login) => {
                let (next, step) = login.handle_response(response)?;
                (next.map_or(State::Done, State::Login), step)
            }
            State::Plain(plain) => (State::Done, plain.handle_response(response)?),
            State::Scram(scram) => {
                let (next, step) = scram.handle_response(response)?;
                (next.map_or(State::Done, State::Scram), step)
            }
        };
        self.0 = state;
        Ok(step)
    }

    /// Takes the keys that [`Step::NeedKeys`] asked for.
    pub fn handle_keys(&mut self, keys: ScramKeys) -> Result<Step, SaslError> {
        let State::Scram(scram) = std::mem::replace(&mut self.0, State::Done) else {
            return Err(SaslError::Unexpected);
        };
        let (next, challenge) = scram.handle_keys(keys)?;
        self.0 = State::Scram(next);
        Ok(Step::Challenge(challenge))
    }
}

#[cfg(test)]
mod tests;
