//! The client's side of an exchange.

mod scram;

use mail_types::Secret;

use crate::{MAX_MESSAGE, Mechanism, SaslError};

/// One exchange.
#[derive(Debug)]
pub struct Exchange {
    username: String,
    password: Secret<Vec<u8>>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// All was said; nothing is to be proved.
    Done,
    /// The server said something wrong. No success makes up for it.
    Failed,
    LoginName,
    LoginPassword,
    Plain,
    Scram(scram::Scram),
}

impl Exchange {
    /// Begins an exchange. The password is prepared
    /// ([`prepare_password`](crate::prepare_password)); `nonce` is random and printable without
    /// commas, at least 18 characters; only SCRAM uses it.
    pub fn new(
        mechanism: Mechanism,
        username: String,
        password: Secret<Vec<u8>>,
        nonce: String,
    ) -> Self {
        let state = match mechanism {
            Mechanism::Login => State::LoginName,
            Mechanism::Plain => State::Plain,
            Mechanism::ScramSha256 => State::Scram(scram::Scram::Start { nonce }),
        };
        Self {
            username,
            password,
            state,
        }
    }

    /// The initial response, where the mechanism has one and the protocol can carry it. Where it
    /// cannot, the same comes from [`Exchange::handle_challenge`] with the empty challenge.
    pub fn initial_response(&mut self) -> Option<Vec<u8>> {
        if matches!(self.state, State::LoginName) {
            return None;
        }
        self.handle_challenge(b"").ok()
    }

    /// Answers the server's next challenge.
    pub fn handle_challenge(&mut self, challenge: &[u8]) -> Result<Vec<u8>, SaslError> {
        if challenge.len() > MAX_MESSAGE {
            return Err(SaslError::TooLong);
        }
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Done | State::Failed => Err(SaslError::Unexpected),
            State::LoginName => {
                self.state = State::LoginPassword;
                Ok(self.username.clone().into_bytes())
            }
            State::LoginPassword => {
                self.state = State::Done;
                Ok(self.password.expose().clone())
            }
            State::Plain => {
                self.state = State::Done;
                let name = self.username.as_bytes();
                Ok([b"\0", name, b"\0", self.password.expose()].concat())
            }
            State::Scram(scram) => {
                let (next, response) =
                    scram.handle_challenge(&self.username, &self.password, challenge)?;
                self.state = State::Scram(next);
                Ok(response)
            }
        }
    }

    /// Takes the data that came with the server's success; call it in any case: a server that
    /// cannot prove that it knows the password is not the one (RFC 5802 §3).
    pub fn handle_success(&mut self, data: Option<&[u8]>) -> Result<(), SaslError> {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Scram(scram) => scram.handle_success(data),
            State::Done => Ok(()),
            State::Failed | State::LoginName | State::LoginPassword | State::Plain => {
                Err(SaslError::Unexpected)
            }
        }
    }
}

#[cfg(test)]
mod tests;
