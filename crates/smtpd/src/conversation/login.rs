//! Logins: SASL messages go to directoryd and back.

use std::time::Instant;

use bytes::Bytes;
use mail_rpc::auth::{AuthError, AuthenticateStart, FailureReason, Step};
use smtp_proto::AuthFailure;
use smtp_proto::server::{AuthAnswer, AuthStep};
use tracing::{info, warn};

use super::{Conversation, LoginState};

impl Conversation {
    pub(super) async fn auth(&mut self, step: AuthStep) {
        let state = std::mem::take(&mut self.login);
        let step = match step {
            // Dropping the exchange tells directoryd.
            AuthStep::Cancel => return,
            AuthStep::Start {
                mechanism,
                initial_response,
            } => {
                let start = AuthenticateStart {
                    mechanism,
                    initial_response: initial_response
                        .map(|response| Bytes::copy_from_slice(response.expose())),
                    service: "smtp".to_owned(),
                    peer: self.client.peer.ip().to_string(),
                    encrypted: self.client.is_encrypted(),
                    session_id: self.client.sid.clone(),
                };
                self.shared.authenticator.start(start).await
            }
            AuthStep::Response(response) => match state {
                LoginState::Exchange(exchange) => {
                    exchange
                        .respond(Bytes::copy_from_slice(response.expose()))
                        .await
                }
                _ => Err(AuthError::Ended),
            },
        };
        let answer = self.auth_answer(step);
        self.session.handle_auth(Instant::now(), answer);
    }

    fn auth_answer(&mut self, step: Result<Step, AuthError>) -> AuthAnswer {
        match step {
            Ok(Step::Challenge(exchange, challenge)) => {
                self.login = LoginState::Exchange(Box::new(exchange));
                AuthAnswer::Challenge(challenge.to_vec())
            }
            Ok(Step::Success(mut login)) => {
                let data = login.additional_data.take().map(|data| data.to_vec());
                self.login = LoginState::Pending(Box::new(login));
                AuthAnswer::Success(data)
            }
            Ok(Step::Failure(reason, detail)) => {
                metrics::counter!("correo_logins_failed_total", "service" => "smtp").increment(1);
                let peer = self.client.peer.ip();
                info!(sid = self.client.sid, %peer, ?reason, detail, "login.failed");
                AuthAnswer::Failure(failure(reason))
            }
            Err(error) => {
                warn!(sid = self.client.sid, %error, "login not possible");
                AuthAnswer::Failure(AuthFailure::Temporary)
            }
        }
    }

    pub(super) fn authenticated(&mut self) {
        if let LoginState::Pending(login) = std::mem::take(&mut self.login) {
            metrics::counter!("correo_logins_total", "service" => "smtp").increment(1);
            let peer = self.client.peer.ip();
            info!(sid = self.client.sid, user = %login.account.address, %peer, "login.ok");
            self.login = LoginState::Done(login);
        }
    }
}

fn failure(reason: FailureReason) -> AuthFailure {
    match reason {
        FailureReason::BadCredentials => AuthFailure::BadCredentials,
        FailureReason::BadExchange => AuthFailure::BadExchange,
        FailureReason::Cancelled => AuthFailure::Cancelled,
        FailureReason::EncryptionRequired => AuthFailure::EncryptionRequired,
        FailureReason::TooManyFailures => AuthFailure::TooManyFailures,
        FailureReason::UnknownMechanism => AuthFailure::UnknownMechanism,
        FailureReason::Temporary | FailureReason::Unspecified => AuthFailure::Temporary,
    }
}
