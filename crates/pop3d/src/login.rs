//! SASL messages between the client and directoryd.

use mail_rpc::auth::{
    AuthError, AuthenticateStart, Authenticator, Exchange, FailureReason, Login, Step,
};
use mail_types::Secret;
use pop3_proto::{AuthAnswer, AuthFailure};
use tracing::{info, warn};

/// Where the client is, for directoryd's log and limits.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) sid: String,
    pub(crate) peer: std::net::IpAddr,
}

/// The logins of one session.
#[derive(Debug)]
pub(crate) struct Logins {
    client: Client,
    exchange: Option<Exchange>,
    /// Who logged in.
    pub(crate) login: Option<Login>,
}

impl Logins {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            exchange: None,
            login: None,
        }
    }

    pub(crate) async fn begin(
        &mut self,
        authenticator: &Authenticator,
        mechanism: String,
        initial: Option<Secret<Vec<u8>>>,
        encrypted: bool,
    ) -> AuthAnswer {
        let start = AuthenticateStart {
            mechanism,
            initial_response: initial.map(|initial| initial.expose().clone().into()),
            service: "pop".to_owned(),
            peer: self.client.peer.to_string(),
            encrypted,
            session_id: self.client.sid.clone(),
        };
        let step = authenticator.start(start).await;
        self.answer(step)
    }

    pub(crate) async fn respond(&mut self, response: &Secret<Vec<u8>>) -> AuthAnswer {
        match self.exchange.take() {
            Some(exchange) => {
                let step = exchange.respond(response.expose().clone().into()).await;
                self.answer(step)
            }
            None => AuthAnswer::Failure(AuthFailure::BadExchange),
        }
    }

    pub(crate) fn sid(&self) -> &str {
        &self.client.sid
    }

    pub(crate) fn cancel(&mut self) {
        self.exchange = None;
    }

    fn answer(&mut self, step: Result<Step, AuthError>) -> AuthAnswer {
        let Client { sid, peer } = &self.client;
        match step {
            Ok(Step::Challenge(exchange, challenge)) => {
                self.exchange = Some(exchange);
                AuthAnswer::Challenge(challenge.to_vec())
            }
            Ok(Step::Success(login)) => {
                info!(sid, %peer, account = %login.account.address, "login.ok");
                metrics::counter!("correo_logins_total", "service" => "pop3").increment(1);
                let data = login.additional_data.as_ref().map(|data| data.to_vec());
                self.login = Some(login);
                AuthAnswer::Success(data)
            }
            Ok(Step::Failure(reason, detail)) => {
                info!(sid, %peer, ?reason, detail, "login.failed");
                metrics::counter!("correo_logins_failed_total", "service" => "pop3").increment(1);
                AuthAnswer::Failure(failure(reason))
            }
            Err(error) => {
                warn!(sid, %error, "login.failed");
                AuthAnswer::Failure(AuthFailure::Temporary)
            }
        }
    }
}

fn failure(reason: FailureReason) -> AuthFailure {
    match reason {
        FailureReason::BadCredentials => AuthFailure::BadCredentials,
        FailureReason::BadExchange => AuthFailure::BadExchange,
        FailureReason::Cancelled => AuthFailure::Cancelled,
        FailureReason::EncryptionRequired => AuthFailure::EncryptionRequired,
        FailureReason::Temporary | FailureReason::Unspecified => AuthFailure::Temporary,
        FailureReason::TooManyFailures => AuthFailure::TooManyFailures,
        FailureReason::UnknownMechanism => AuthFailure::UnknownMechanism,
    }
}
