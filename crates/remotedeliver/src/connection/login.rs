//! Logging in to a smart host.

use mail_types::Secret;
use rand::Rng;
use rand::distr::Alphanumeric;
use sasl::Mechanism;
use sasl::client::Exchange;
use smtp_proto::client::{AuthPrompt, AuthStep};

use crate::live::Account;

/// The strongest first.
const MECHANISMS: [Mechanism; 3] = [Mechanism::ScramSha256, Mechanism::Plain, Mechanism::Login];
/// 142 bits.
const NONCE_LENGTH: usize = 24;

/// One login.
#[derive(Debug)]
pub(super) struct Login<'a> {
    account: &'a Account,
    exchange: Option<Exchange>,
    betrayed: bool,
}

impl<'a> Login<'a> {
    pub(super) fn new(account: &'a Account) -> Self {
        Self {
            account,
            exchange: None,
            betrayed: false,
        }
    }

    /// The server was content without having proved that it knows the password.
    pub(super) fn is_betrayed(&self) -> bool {
        self.betrayed
    }

    /// Answers the server. Without protection from listeners (`safe`) the password itself is not
    /// sent.
    pub(super) fn answer(&mut self, prompt: AuthPrompt, safe: bool) -> Option<AuthStep> {
        match prompt {
            AuthPrompt::Mechanisms(offered) => Some(self.start(&offered, safe)),
            AuthPrompt::Challenge(challenge) => {
                let response = self
                    .exchange
                    .as_mut()
                    .and_then(|exchange| exchange.handle_challenge(&challenge).ok());
                Some(response.map_or(AuthStep::Cancel, |response| {
                    AuthStep::Response(Secret::new(response))
                }))
            }
            AuthPrompt::Accepted => {
                let proved = self
                    .exchange
                    .as_mut()
                    .is_some_and(|exchange| exchange.handle_success(None).is_ok());
                self.betrayed = !proved;
                None
            }
        }
    }

    fn start(&mut self, offered: &[String], safe: bool) -> AuthStep {
        let fits = |mechanism: &Mechanism| {
            (safe || !mechanism.sends_password())
                && offered.iter().any(|name| name == mechanism.name())
        };
        let Some(mechanism) = MECHANISMS.into_iter().find(fits) else {
            return AuthStep::Cancel;
        };
        let nonce = rand::rng()
            .sample_iter(Alphanumeric)
            .take(NONCE_LENGTH)
            .map(char::from)
            .collect();
        let mut exchange = Exchange::new(
            mechanism,
            self.account.username.clone(),
            self.account.password.clone(),
            nonce,
        );
        let initial_response = exchange.initial_response().map(Secret::new);
        self.exchange = Some(exchange);
        AuthStep::Start {
            mechanism: mechanism.name().to_owned(),
            initial_response,
        }
    }
}
