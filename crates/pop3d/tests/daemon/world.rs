//! The other daemons, faked: a directory with one person in it, and her INBOX.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use mail_rpc::pb::directory::v1 as dir;
use mail_rpc::pb::directory::v1::authentication_service_server::{
    AuthenticationService, AuthenticationServiceServer,
};
use mail_rpc::pb::mailbox::v1::mailbox_service_server::MailboxServiceServer;
use mail_rpc::transport::{Endpoint, bind, routes_served};
use tokio::sync::{Notify, mpsc};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

/// The mailbox as it is, and what is to go wrong.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) messages: Vec<(u32, Vec<u8>)>,
    pub(crate) locked: bool,
    pub(crate) expunge_fails: bool,
    /// This UID cannot be read.
    pub(crate) damaged: u32,
    /// What was asked for: UID, offset, length.
    pub(crate) fetched: Vec<(u32, u64, u64)>,
    /// Ranges of UIDs whose messages were asked for together.
    pub(crate) packed: Vec<Vec<u32>>,
    pub(crate) uid_validity: u32,
}

#[derive(Debug, Clone)]
pub(crate) struct Mailbox {
    state: Arc<Mutex<State>>,
    /// Ends the streams of those who watch.
    pub(crate) restart: Arc<Notify>,
}

impl Mailbox {
    fn new() -> Self {
        let state = State {
            messages: Vec::new(),
            locked: false,
            expunge_fails: false,
            damaged: 0,
            fetched: Vec::new(),
            packed: Vec::new(),
            uid_validity: 11,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            restart: Arc::default(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

pub(crate) struct World {
    pub(crate) mailbox: Mailbox,
}

impl World {
    pub(crate) async fn start(run: &Path) -> Self {
        let mailbox = Mailbox::new();
        let auth = Routes::new(AuthenticationServiceServer::new(Directory));
        serve(run, "directory-auth", auth).await;
        let routes = Routes::new(MailboxServiceServer::new(mailbox.clone()));
        serve(run, "mailbox", routes).await;
        Self { mailbox }
    }
}

async fn serve(run: &Path, name: &str, routes: Routes) {
    let endpoint = Endpoint::Unix(run.join(format!("{name}.sock")));
    let listener = bind(&endpoint, 0o600).await.unwrap();
    tokio::spawn(async move {
        let shutdown = std::future::pending();
        routes_served(listener, None, routes, shutdown)
            .await
            .unwrap();
    });
}

#[derive(Debug, Clone)]
struct Directory;

fn check(message: &[u8]) -> dir::authenticate_response::Result {
    if message == b"\0ana@aula.test\0two words" {
        return dir::authenticate_response::Result::Success(dir::AuthenticateSuccess {
            account: Some(dir::Account {
                account_id: 7,
                address: "ana@aula.test".to_owned(),
                quota_bytes: 0,
            }),
            ..dir::AuthenticateSuccess::default()
        });
    }
    dir::authenticate_response::Result::Failure(dir::AuthenticateFailure {
        reason: dir::authenticate_failure::Reason::BadCredentials.into(),
        detail: String::new(),
    })
}

#[tonic::async_trait]
impl AuthenticationService for Directory {
    type AuthenticateStream = ReceiverStream<Result<dir::AuthenticateResponse, Status>>;

    /// PLAIN alone.
    async fn authenticate(
        &self,
        request: Request<Streaming<dir::AuthenticateRequest>>,
    ) -> Result<Response<Self::AuthenticateStream>, Status> {
        use dir::authenticate_request::Message;
        use dir::authenticate_response::Result as Answer;
        let mut requests = request.into_inner();
        let (responses, stream) = mpsc::channel(16);
        tokio::spawn(async move {
            while let Some(Ok(request)) = requests.next().await {
                let result = match request.message {
                    Some(Message::Start(start)) => {
                        assert_eq!(
                            (start.mechanism.as_str(), start.service.as_str()),
                            ("PLAIN", "pop")
                        );
                        match start.initial_response {
                            Some(initial) => check(&initial),
                            None => Answer::Challenge(Vec::new().into()),
                        }
                    }
                    Some(Message::Response(response)) => check(&response),
                    None => return,
                };
                let result = Some(result);
                let _ = responses
                    .send(Ok(dir::AuthenticateResponse { result }))
                    .await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn list_mechanisms(
        &self,
        _: Request<dir::ListMechanismsRequest>,
    ) -> Result<Response<dir::ListMechanismsResponse>, Status> {
        let mechanisms = vec!["PLAIN".to_owned()];
        Ok(Response::new(dir::ListMechanismsResponse { mechanisms }))
    }
}
