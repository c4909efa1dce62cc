//! Logins: carries SASL messages between a front end's client and directoryd, which alone knows
//! the credentials.

use std::time::Duration;

use bytes::Bytes;
use mail_types::{AccountId, EmailAddress};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::convert::ConvertError;
use crate::directory::Account;
use crate::pb::directory::v1 as pb;
use pb::authentication_service_client::AuthenticationServiceClient;

pub use pb::AuthenticateStart;
pub use pb::authenticate_failure::Reason as FailureReason;

/// How often and how soon directoryd is asked again while it may be starting.
const RESTART_TRIES: u32 = 20;
const RESTART_PAUSE: Duration = Duration::from_millis(50);

/// The client of `AuthenticationService`.
#[derive(Clone, Debug)]
pub struct Authenticator(AuthenticationServiceClient<Channel>);

/// What directoryd wants next.
#[derive(Debug)]
pub enum Step {
    /// Send this to the client, decoded, and answer with [`Exchange::respond`].
    Challenge(Exchange, Bytes),
    /// Not logged in; the detail is for the log.
    Failure(FailureReason, String),
    /// Logged in.
    Success(Login),
}

/// Who logged in.
#[derive(Debug, Clone)]
pub struct Login {
    /// The account.
    pub account: Account,
    /// Addresses besides the account's own that it may use as sender.
    pub sender_addresses: Vec<EmailAddress>,
    /// What the mechanism sends along with the success.
    pub additional_data: Option<Bytes>,
}

impl Login {
    /// The account's id.
    pub fn account_id(&self) -> AccountId {
        self.account.id
    }

    /// True if mail may be sent under that address.
    pub fn may_send_as(&self, address: &EmailAddress) -> bool {
        let wanted = address.folded();
        self.account.address.folded() == wanted
            || self
                .sender_addresses
                .iter()
                .any(|own| own.folded() == wanted)
    }
}

/// An exchange under way.
#[derive(Debug)]
pub struct Exchange {
    requests: mpsc::Sender<pb::AuthenticateRequest>,
    responses: Streaming<pb::AuthenticateResponse>,
}

/// directoryd could not be asked, or answered nonsense. Not the client's fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// It answered nonsense.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// It ended the exchange without a result.
    #[error("directoryd ended the exchange without a result")]
    Ended,
    /// It could not be asked.
    #[error("directoryd: {0}")]
    Rpc(#[from] Box<Status>),
}

impl From<Status> for AuthError {
    fn from(status: Status) -> Self {
        Self::Rpc(Box::new(status))
    }
}

impl Authenticator {
    /// Uses a channel to directoryd's authentication socket.
    pub fn new(channel: Channel) -> Self {
        Self(AuthenticationServiceClient::new(channel))
    }

    /// The mechanisms to offer, strongest first. A directoryd that starts anew just now is waited
    /// for: a session that offers no logins helps nobody.
    pub async fn mechanisms(
        &self,
        encrypted: bool,
        loopback: bool,
    ) -> Result<Vec<String>, AuthError> {
        let request = pb::ListMechanismsRequest {
            encrypted,
            loopback,
        };
        let mut tries = RESTART_TRIES;
        loop {
            match self.0.clone().list_mechanisms(request).await {
                Ok(answer) => return Ok(answer.into_inner().mechanisms),
                Err(status) if tries == 0 => return Err(status.into()),
                Err(_) => tries -= 1,
            }
            tokio::time::sleep(RESTART_PAUSE).await;
        }
    }

    /// Begins an exchange.
    pub async fn start(&self, start: AuthenticateStart) -> Result<Step, AuthError> {
        let (requests, queue) = mpsc::channel(1);
        let first = pb::authenticate_request::Message::Start(start);
        send(&requests, first).await?;
        let responses = self
            .0
            .clone()
            .authenticate(ReceiverStream::new(queue))
            .await?
            .into_inner();
        Exchange {
            requests,
            responses,
        }
        .next()
        .await
    }
}

impl Exchange {
    /// Sends the client's decoded response to the last challenge.
    pub async fn respond(self, response: Bytes) -> Result<Step, AuthError> {
        send(
            &self.requests,
            pb::authenticate_request::Message::Response(response),
        )
        .await?;
        self.next().await
    }

    async fn next(mut self) -> Result<Step, AuthError> {
        use pb::authenticate_response::Result as Answer;
        let answer = self.responses.message().await?.and_then(|m| m.result);
        match answer.ok_or(AuthError::Ended)? {
            Answer::Challenge(bytes) => Ok(Step::Challenge(self, bytes)),
            Answer::Failure(failure) => Ok(Step::Failure(failure.reason(), failure.detail)),
            Answer::Success(success) => login(success).map(Step::Success).map_err(Into::into),
        }
    }
}

async fn send(
    requests: &mpsc::Sender<pb::AuthenticateRequest>,
    message: pb::authenticate_request::Message,
) -> Result<(), AuthError> {
    let request = pb::AuthenticateRequest {
        message: Some(message),
    };
    requests.send(request).await.map_err(|_| AuthError::Ended)
}

fn login(success: pb::AuthenticateSuccess) -> Result<Login, ConvertError> {
    let account = success
        .account
        .ok_or(ConvertError::new("login"))?
        .try_into()?;
    let own = success
        .sender_addresses
        .iter()
        .map(|address| address.parse());
    let sender_addresses = own
        .collect::<Result<_, _>>()
        .map_err(|_| ConvertError::new("sender address"))?;
    Ok(Login {
        account,
        sender_addresses,
        additional_data: success.additional_data,
    })
}
