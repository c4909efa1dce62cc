//! Logins: runs the server's side of SASL for the front ends.

mod conversation;

use std::sync::Arc;

use daemon_kit::Context;
use mail_rpc::pb::directory::v1 as pb;
use pb::authentication_service_server::AuthenticationService;
use sasl::Mechanism;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::store::Store;
use crate::throttle::Throttle;
use crate::verifier::Verifier;
use conversation::Conversation;

/// Serves `AuthenticationService`.
#[derive(Debug)]
pub(crate) struct Service(pub(crate) Arc<Shared>);

/// What all logins share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) context: Context,
    pub(crate) store: Store,
    pub(crate) throttle: Throttle,
    pub(crate) verifier: Verifier,
}

#[tonic::async_trait]
impl AuthenticationService for Service {
    type AuthenticateStream = ReceiverStream<Result<pb::AuthenticateResponse, Status>>;

    async fn authenticate(
        &self,
        request: Request<Streaming<pb::AuthenticateRequest>>,
    ) -> Result<Response<Self::AuthenticateStream>, Status> {
        let (answers, stream) = mpsc::channel(1);
        let conversation = Conversation::new(self.0.clone(), request.into_inner(), answers);
        self.0.context.spawn(conversation.run());
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn list_mechanisms(
        &self,
        request: Request<pb::ListMechanismsRequest>,
    ) -> Result<Response<pb::ListMechanismsResponse>, Status> {
        let pb::ListMechanismsRequest {
            encrypted,
            loopback,
        } = request.into_inner();
        let mechanisms = Mechanism::ALL
            .into_iter()
            .filter(|mechanism| allowed(*mechanism, encrypted, loopback))
            .map(|mechanism| mechanism.name().to_owned())
            .collect();
        Ok(Response::new(pb::ListMechanismsResponse { mechanisms }))
    }
}

/// A password itself travels only where nobody can listen.
fn allowed(mechanism: Mechanism, encrypted: bool, loopback: bool) -> bool {
    encrypted || loopback || !mechanism.sends_password()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_need_a_safe_way() {
        let offered = |encrypted, loopback| {
            let all = Mechanism::ALL.into_iter();
            all.filter(|mechanism| allowed(*mechanism, encrypted, loopback))
                .count()
        };
        assert_eq!(offered(false, false), 1);
        assert!(allowed(Mechanism::ScramSha256, false, false));
        assert_eq!(offered(true, false), 3);
        assert_eq!(offered(false, true), 3);
    }
}
