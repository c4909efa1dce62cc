use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mail_rpc::pb::directory::v1 as pb;
use mail_types::{EmailAddress, Secret};
use metrics::counter;
use pb::authenticate_failure::Reason;
use pb::authenticate_request::Message;
use pb::authenticate_response::Result as Answer;
use sasl::server::{Exchange, Identity, Login, Step};
use sasl::{Mechanism, ScramKeys, prepare_password, prepare_username};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tonic::{Status, Streaming};
use tracing::{error, info};

use super::{Shared, allowed};
use crate::directory_service;
use crate::names::qualified;
use crate::store::{Account, Credentials, Found, StoreError};

/// How long a front end may take for its client's next message; its own time-outs are shorter.
const RESPONSE_TIMEOUT: Duration = Duration::from_mins(10);

/// One login under way.
pub(super) struct Conversation {
    shared: Arc<Shared>,
    requests: Streaming<pb::AuthenticateRequest>,
    answers: mpsc::Sender<Result<pb::AuthenticateResponse, Status>>,
}

/// Who may be logging in.
struct User {
    name: EmailAddress,
    /// The account and its credentials, where there is one and it may be used.
    known: Option<(Account, Credentials)>,
}

/// What the log says of a login.
struct Subject {
    start: pb::AuthenticateStart,
    peer: IpAddr,
    /// As the client spelled it; empty until it is known.
    user: String,
}

/// How a login ends when it does not succeed.
struct Refusal {
    reason: Reason,
    detail: String,
}

/// How it ends when it does.
struct Success {
    account: Account,
    data: Option<Vec<u8>>,
}

impl Conversation {
    pub(super) fn new(
        shared: Arc<Shared>,
        requests: Streaming<pb::AuthenticateRequest>,
        answers: mpsc::Sender<Result<pb::AuthenticateResponse, Status>>,
    ) -> Self {
        Self {
            shared,
            requests,
            answers,
        }
    }

    /// Talks until there is a result, and gives it.
    pub(super) async fn run(mut self) {
        let shutdown = self.shared.context.shutdown().clone();
        let answer = tokio::select! {
            answer = self.answer() => answer,
            () = shutdown.cancelled() => {
                failure(Refusal::new(Reason::Temporary, "directoryd is ending"))
            }
        };
        // Where the front end is gone, its client is too.
        let _gone = self.answers.send(response(answer)).await;
    }

    async fn answer(&mut self) -> Answer {
        let start = match self.requests.message().await {
            Ok(Some(pb::AuthenticateRequest {
                message: Some(Message::Start(start)),
            })) => start,
            Ok(_) => return failure(Refusal::new(Reason::BadExchange, "no start")),
            Err(status) => return failure(Refusal::new(Reason::Cancelled, status.message())),
        };
        // What is no address is some stranger's.
        let peer = start.peer.parse().unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        let mut subject = Subject {
            start,
            peer,
            user: String::new(),
        };
        match self.talk(&mut subject).await {
            Ok(success) => self.succeed(&subject, success).await,
            Err(refusal) => self.refuse(&subject, refusal).await,
        }
    }

    async fn talk(&mut self, subject: &mut Subject) -> Result<Success, Refusal> {
        let start = &subject.start;
        let mechanism: Mechanism = start
            .mechanism
            .parse()
            .map_err(|_| Refusal::new(Reason::UnknownMechanism, &start.mechanism))?;
        if !allowed(
            mechanism,
            start.encrypted,
            subject.peer.to_canonical().is_loopback(),
        ) {
            return Err(Refusal::new(Reason::EncryptionRequired, ""));
        }
        let config = self.shared.context.config();
        let admitted =
            self.shared
                .throttle
                .admits(subject.peer, &config.directoryd, Instant::now());
        if !admitted {
            return Err(Refusal::new(Reason::TooManyFailures, ""));
        }
        let mut exchange = Exchange::new(mechanism, nonce());
        let mut step = match &start.initial_response {
            Some(response) => exchange.handle_response(response)?,
            None => exchange.begin(),
        };
        let mut proving: Option<User> = None;
        loop {
            step = match step {
                Step::Challenge(challenge) => {
                    let response = self.ask(challenge).await?;
                    exchange.handle_response(&response)?
                }
                Step::CheckPassword(login) => {
                    subject.user.clone_from(&login.identity.authentication);
                    return self.check_password(login).await;
                }
                Step::NeedKeys(identity) => {
                    subject.user.clone_from(&identity.authentication);
                    let (user, keys) = self.keys(&identity).await?;
                    proving = Some(user);
                    exchange.handle_keys(keys)?
                }
                Step::Proved(data) => {
                    let (account, _) = proving.and_then(|user| user.known).ok_or_else(wrong)?;
                    return Ok(Success {
                        account,
                        data: Some(data),
                    });
                }
                Step::Failed => return Err(wrong()),
            };
        }
    }

    async fn ask(&mut self, challenge: Vec<u8>) -> Result<Bytes, Refusal> {
        let cancelled = |detail: &str| Refusal::new(Reason::Cancelled, detail);
        self.answers
            .send(response(Answer::Challenge(challenge.into())))
            .await
            .map_err(|_| cancelled("the front end is gone"))?;
        match timeout(RESPONSE_TIMEOUT, self.requests.message()).await {
            Ok(Ok(Some(pb::AuthenticateRequest {
                message: Some(Message::Response(response)),
            }))) => Ok(response),
            Ok(Ok(Some(_))) => Err(Refusal::new(Reason::BadExchange, "no response")),
            Ok(Ok(None)) => Err(cancelled("")),
            Ok(Err(status)) => Err(cancelled(status.message())),
            Err(_late) => Err(cancelled("no response in time")),
        }
    }

    async fn check_password(&self, login: Login) -> Result<Success, Refusal> {
        let user = self.user(&login.identity).await?;
        let verifier = &self.shared.verifier;
        let (known, password) = match (user.known, prepare_password(login.password.expose())) {
            (Some(known), Ok(password)) => (known, password),
            // A password that nobody can have, or a user who does not exist: the same time.
            (_, prepared) => {
                verifier
                    .check_nobody(prepared.unwrap_or(Secret::new(Vec::new())))
                    .await
                    .map_err(temporary)?;
                return Err(wrong());
            }
        };
        let (account, credentials) = known;
        let id = account.id.get();
        if verifier
            .check(id, &credentials.argon2, password)
            .await
            .map_err(temporary)?
        {
            Ok(Success {
                account,
                data: None,
            })
        } else {
            Err(wrong())
        }
    }

    async fn keys(&self, identity: &Identity) -> Result<(User, ScramKeys), Refusal> {
        let mut user = self.user(identity).await?;
        if let Some((_, credentials)) = &mut user.known {
            let keys = credentials.scram.clone();
            return Ok((user, keys));
        }
        let reader = self.shared.store.reader().map_err(temporary)?;
        let config = self.shared.context.config();
        let keys = ScramKeys {
            salt: reader.invented_salt(&user.name).map_err(temporary)?,
            iterations: config.directoryd.scram_iterations.max(sasl::MIN_ITERATIONS),
            stored_key: Secret::new(rand::random()),
            server_key: Secret::new(rand::random()),
        };
        Ok((user, keys))
    }

    /// Looks up who that is. A name that cannot be an account's is one that does not exist.
    async fn user(&self, identity: &Identity) -> Result<User, Refusal> {
        let domain = &self.shared.context.config().server.domain;
        let parse = |text: &str| {
            let prepared = prepare_username(text.as_bytes()).ok()?;
            qualified(&prepared, domain).ok()
        };
        let name = parse(&identity.authentication).ok_or_else(wrong)?;
        // Nobody acts for others here; clients may still say whom they act as.
        let itself = match &identity.authorization {
            None => true,
            Some(other) => parse(other).is_some_and(|other| other.folded() == name.folded()),
        };
        // Before the look-up: with invented keys here and true ones without an authorization
        // identity, SCRAM would tell who exists.
        if !itself {
            return Err(wrong());
        }
        let (store, wanted) = (self.shared.store.clone(), name.clone());
        let lookup = move || -> Result<_, StoreError> {
            let reader = store.reader()?;
            let Found::Account(account) = reader.find(&wanted, None)? else {
                return Ok(None);
            };
            let credentials = reader.credentials(account.id)?;
            Ok(credentials.map(|credentials| (account, credentials)))
        };
        let known = spawn_blocking(lookup)
            .await
            .map_err(temporary)?
            .map_err(temporary)?;
        Ok(User { name, known })
    }

    async fn succeed(&self, subject: &Subject, success: Success) -> Answer {
        let Success { account, data } = success;
        let (store, who) = (self.shared.store.clone(), account.clone());
        let own = spawn_blocking(move || store.reader()?.sender_addresses(&who)).await;
        let sender_addresses = match own {
            Ok(Ok(own)) => own.iter().map(ToString::to_string).collect(),
            Ok(Err(error)) => return self.refuse(subject, temporary(error)).await,
            Err(error) => return self.refuse(subject, temporary(error)).await,
        };
        self.shared.throttle.succeeded(&account.address.folded());
        counter!("correo_logins_total", "result" => "ok").increment(1);
        let pb::AuthenticateStart {
            mechanism,
            service,
            session_id: sid,
            ..
        } = &subject.start;
        info!(sid, service, mechanism, peer = %subject.peer, user = %account.address, "login.ok");
        Answer::Success(pb::AuthenticateSuccess {
            account: Some(directory_service::account(&account)),
            sender_addresses,
            additional_data: data.map(Bytes::from),
        })
    }

    async fn refuse(&self, subject: &Subject, refusal: Refusal) -> Answer {
        counter!("correo_logins_total", "result" => refusal.reason.as_str_name()).increment(1);
        let pb::AuthenticateStart {
            mechanism,
            service,
            session_id: sid,
            ..
        } = &subject.start;
        let (peer, user) = (subject.peer, &subject.user);
        let (reason, detail) = (refusal.reason.as_str_name(), &refusal.detail);
        info!(sid, service, mechanism, %peer, user, reason, detail, "login.failed");
        if refusal.reason == Reason::BadCredentials {
            let config = self.shared.context.config();
            let account = qualified(user, &config.server.domain)
                .map_or_else(|_| user.clone(), |address| address.folded());
            let throttle = &self.shared.throttle;
            let delay = throttle.failed(peer, &account, &config.directoryd, Instant::now());
            sleep(delay).await;
        }
        failure(refusal)
    }
}

impl Refusal {
    fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
        }
    }
}

impl From<sasl::SaslError> for Refusal {
    fn from(error: sasl::SaslError) -> Self {
        Self::new(Reason::BadExchange, error.to_string())
    }
}

fn wrong() -> Refusal {
    Refusal::new(Reason::BadCredentials, "")
}

fn temporary(error: impl std::error::Error) -> Refusal {
    error!(%error, "a login cannot be checked");
    Refusal::new(Reason::Temporary, error.to_string())
}

fn failure(refusal: Refusal) -> Answer {
    Answer::Failure(pb::AuthenticateFailure {
        reason: refusal.reason.into(),
        detail: refusal.detail,
    })
}

#[expect(clippy::unnecessary_wraps, reason = "what the stream carries")]
fn response(answer: Answer) -> Result<pb::AuthenticateResponse, Status> {
    Ok(pb::AuthenticateResponse {
        result: Some(answer),
    })
}

/// 144 random bits, printable (RFC 5802 §7: printable ASCII without the comma).
fn nonce() -> String {
    use std::fmt::Write as _;
    let octets: [u8; 18] = rand::random();
    octets.iter().fold(String::new(), |mut text, octet| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{octet:02x}");
        text
    })
}
