//! The other daemons, faked: a directory of a few people and a queue that remembers what it got.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};

use mail_rpc::pb::common::v1::EnhancedStatus;
use mail_rpc::pb::directory::v1::authentication_service_server::{
    AuthenticationService, AuthenticationServiceServer,
};
use mail_rpc::pb::directory::v1::directory_service_server::{
    DirectoryService, DirectoryServiceServer,
};
use mail_rpc::pb::directory::v1::{
    Account, Alias, AuthenticateFailure, AuthenticateRequest, AuthenticateResponse,
    AuthenticateSuccess, DirectoryChanged, ListMechanismsRequest, ListMechanismsResponse,
    NoSuchUser, NotLocal, ResolveRequest, ResolveResponse, Unavailable, WatchChangesRequest,
    authenticate_failure, authenticate_request, authenticate_response, resolve_response,
};
use mail_rpc::pb::queue::v1::submission_service_server::{
    SubmissionService, SubmissionServiceServer,
};
use mail_rpc::pb::queue::v1::{
    Envelope, SubmitAccepted, SubmitRefused, SubmitRequest, SubmitResponse, submit_response,
};
use mail_rpc::transport::{Endpoint, bind, routes_served};
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

/// What the queue got.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) envelope: Envelope,
    pub(crate) content: Vec<u8>,
    pub(crate) largest_frame: usize,
}

/// What the queue will say: an id, or a status.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Accept(u64),
    Refuse(u32, u32, u32),
    /// Breaks the stream.
    Break,
}

#[derive(Debug, Default)]
pub(crate) struct QueueState {
    pub(crate) stored: Vec<Stored>,
    pub(crate) answers: VecDeque<Answer>,
    pub(crate) aborted: usize,
    next_id: u64,
}

#[derive(Clone)]
pub(crate) struct Queue {
    state: Arc<Mutex<QueueState>>,
    down: watch::Sender<bool>,
}

pub(crate) struct World {
    pub(crate) queue: Queue,
    run: std::path::PathBuf,
}

impl World {
    pub(crate) async fn start(run: &Path) -> Self {
        let queue = Queue {
            state: Arc::default(),
            down: watch::Sender::new(false),
        };
        let world = Self {
            queue,
            run: run.to_owned(),
        };
        let directory = Routes::new(DirectoryServiceServer::new(Directory));
        world.serve("directory", directory).await;
        let auth = Routes::new(AuthenticationServiceServer::new(Directory));
        world.serve("directory-auth", auth).await;
        let queue = Routes::new(SubmissionServiceServer::new(world.queue.clone()));
        world.serve("queue-submit", queue).await;
        world
    }

    /// Breaks the streams and takes no new ones.
    pub(crate) fn stop_queue(&self) {
        self.queue.down.send_replace(true);
    }

    pub(crate) fn start_queue(&self) {
        self.queue.down.send_replace(false);
    }

    async fn serve(&self, name: &str, routes: Routes) {
        let path = self.run.join(format!("{name}.sock"));
        let endpoint = Endpoint::Unix(path);
        let listener = bind(&endpoint, 0o600).await.unwrap();
        tokio::spawn(async move {
            let shutdown = std::future::pending();
            routes_served(listener, None, routes, shutdown)
                .await
                .unwrap();
        });
    }
}

impl Queue {
    pub(crate) fn state(&self) -> std::sync::MutexGuard<'_, QueueState> {
        self.state.lock().unwrap()
    }

    fn answer(&self, token: u64, stored: Stored) -> Option<SubmitResponse> {
        let mut state = self.state();
        state.next_id += 1;
        let id = state.next_id;
        let answer = state.answers.pop_front().unwrap_or(Answer::Accept(id));
        state.stored.push(stored);
        let result = match answer {
            Answer::Accept(queue_id) => {
                submit_response::Result::Accepted(SubmitAccepted { queue_id })
            }
            Answer::Refuse(class, subject, detail) => {
                let status = EnhancedStatus {
                    class,
                    subject,
                    detail,
                };
                submit_response::Result::Refused(SubmitRefused {
                    status: Some(status),
                    reason: "not today".to_owned(),
                })
            }
            Answer::Break => return None,
        };
        Some(SubmitResponse {
            token,
            result: Some(result),
        })
    }
}

#[tonic::async_trait]
impl SubmissionService for Queue {
    type SubmitStream = ReceiverStream<Result<SubmitResponse, Status>>;

    async fn submit(
        &self,
        request: Request<Streaming<SubmitRequest>>,
    ) -> Result<Response<Self::SubmitStream>, Status> {
        let mut requests = request.into_inner();
        let (responses, stream) = mpsc::channel(16);
        let queue = self.clone();
        let mut down = self.down.subscribe();
        if *down.borrow() {
            return Err(Status::unavailable("down"));
        }
        let work = async move {
            let mut open: HashMap<u64, Stored> = HashMap::new();
            while let Some(Ok(request)) = requests.next().await {
                if request.abort {
                    assert!(open.remove(&request.token).is_some());
                    queue.state().aborted += 1;
                    continue;
                }
                if let Some(envelope) = request.envelope {
                    let stored = Stored {
                        envelope,
                        content: Vec::new(),
                        largest_frame: 0,
                    };
                    assert!(open.insert(request.token, stored).is_none());
                }
                let stored = open.get_mut(&request.token).unwrap();
                stored.content.extend_from_slice(&request.data);
                stored.largest_frame = stored.largest_frame.max(request.data.len());
                if request.end {
                    let stored = open.remove(&request.token).unwrap();
                    let Some(response) = queue.answer(request.token, stored) else {
                        return;
                    };
                    if responses.send(Ok(response)).await.is_err() {
                        return;
                    }
                }
            }
        };
        tokio::spawn(async move {
            tokio::select! {
                () = work => {}
                _ = down.wait_for(|down| *down) => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

#[derive(Debug, Clone)]
struct Directory;

const PEOPLE: &[&str] = &["ana", "lois", "anton", "root", "postmaster", "a", "b"];

fn account(name: &str) -> Account {
    Account {
        account_id: 7,
        address: format!("{name}@aula.test"),
        quota_bytes: 0,
    }
}

fn resolve(address: &str) -> resolve_response::Result {
    let address = address.to_lowercase();
    let Some(name) = address.strip_suffix("@aula.test") else {
        return resolve_response::Result::NotLocal(NotLocal {});
    };
    match name {
        "all" => resolve_response::Result::Alias(Alias {
            address: address.clone(),
            targets: vec!["ana@aula.test".into(), "x@other.test".into()],
        }),
        "lóis" => resolve_response::Result::Unavailable(Unavailable {
            reason: "faked".into(),
        }),
        name if PEOPLE.contains(&name) => resolve_response::Result::Account(account(name)),
        _ => resolve_response::Result::NoSuchUser(NoSuchUser {}),
    }
}

#[tonic::async_trait]
impl DirectoryService for Directory {
    type ResolveStream = ReceiverStream<Result<ResolveResponse, Status>>;
    type WatchChangesStream = ReceiverStream<Result<DirectoryChanged, Status>>;

    async fn resolve(
        &self,
        request: Request<Streaming<ResolveRequest>>,
    ) -> Result<Response<Self::ResolveStream>, Status> {
        let mut requests = request.into_inner();
        let (responses, stream) = mpsc::channel(16);
        tokio::spawn(async move {
            while let Some(Ok(request)) = requests.next().await {
                let response = ResolveResponse {
                    id: request.id,
                    result: Some(resolve(&request.address)),
                };
                if responses.send(Ok(response)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn watch_changes(
        &self,
        _: Request<WatchChangesRequest>,
    ) -> Result<Response<Self::WatchChangesStream>, Status> {
        let (changes, stream) = mpsc::channel(1);
        tokio::spawn(async move {
            let _ = changes.send(Ok(DirectoryChanged { generation: 1 })).await;
            changes.closed().await;
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

fn check(message: &[u8]) -> authenticate_response::Result {
    if message == b"\0ana\0secret" {
        return authenticate_response::Result::Success(AuthenticateSuccess {
            account: Some(account("ana")),
            sender_addresses: vec!["info@aula.test".into()],
            additional_data: None,
        });
    }
    authenticate_response::Result::Failure(AuthenticateFailure {
        reason: authenticate_failure::Reason::BadCredentials.into(),
        detail: String::new(),
    })
}

#[tonic::async_trait]
impl AuthenticationService for Directory {
    type AuthenticateStream = ReceiverStream<Result<AuthenticateResponse, Status>>;

    /// PLAIN alone.
    async fn authenticate(
        &self,
        request: Request<Streaming<AuthenticateRequest>>,
    ) -> Result<Response<Self::AuthenticateStream>, Status> {
        let mut requests = request.into_inner();
        let (responses, stream) = mpsc::channel(16);
        tokio::spawn(async move {
            while let Some(Ok(request)) = requests.next().await {
                let result = match request.message {
                    Some(authenticate_request::Message::Start(start)) => {
                        assert_eq!(start.mechanism, "PLAIN");
                        assert_eq!(start.service, "smtp");
                        match start.initial_response {
                            Some(initial) => check(&initial),
                            None => authenticate_response::Result::Challenge(Vec::new().into()),
                        }
                    }
                    Some(authenticate_request::Message::Response(response)) => check(&response),
                    None => return,
                };
                let response = AuthenticateResponse {
                    result: Some(result),
                };
                let _ = responses.send(Ok(response)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn list_mechanisms(
        &self,
        request: Request<ListMechanismsRequest>,
    ) -> Result<Response<ListMechanismsResponse>, Status> {
        let request = request.into_inner();
        let plain = request.encrypted || request.loopback;
        let mechanisms = if plain {
            vec!["PLAIN".to_owned()]
        } else {
            Vec::new()
        };
        Ok(Response::new(ListMechanismsResponse { mechanisms }))
    }
}
