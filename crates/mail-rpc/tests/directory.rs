//! The directory client against a server on a real socket: pipelining, cache and invalidation.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are not seen as tests"
)]

use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{Stream, StreamExt};
use mail_rpc::directory::{Directory, Resolution};
use mail_rpc::pb::directory::v1 as pb;
use mail_rpc::transport::{Endpoint, bind, connect_lazy, routes_served};
use mail_types::EmailAddress;
use pb::directory_service_server::{DirectoryService, DirectoryServiceServer};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

/// Gives a new account id at each question, so that a cached answer can be told.
struct Fake {
    asked: Arc<AtomicU64>,
    changes: watch::Receiver<u64>,
}

type Boxed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl DirectoryService for Fake {
    type ResolveStream = Boxed<pb::ResolveResponse>;
    type WatchChangesStream = Boxed<pb::DirectoryChanged>;

    async fn resolve(
        &self,
        requests: Request<Streaming<pb::ResolveRequest>>,
    ) -> Result<Response<Self::ResolveStream>, Status> {
        let asked = self.asked.clone();
        let answers = requests.into_inner().map(move |request| {
            let request = request?;
            let n = asked.fetch_add(1, Ordering::SeqCst) + 1;
            let account = pb::Account {
                account_id: n,
                address: request.address,
                quota_bytes: 0,
            };
            let result = Some(pb::resolve_response::Result::Account(account));
            Ok(pb::ResolveResponse {
                id: request.id,
                result,
            })
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn watch_changes(
        &self,
        _: Request<pb::WatchChangesRequest>,
    ) -> Result<Response<Self::WatchChangesStream>, Status> {
        let changes = WatchStream::new(self.changes.clone());
        let changes = changes.map(|generation| Ok(pb::DirectoryChanged { generation }));
        Ok(Response::new(changes.boxed()))
    }
}

#[tokio::test]
async fn answers_are_cached_until_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::Unix(folder.path().join("directory.sock"));
    let asked = Arc::new(AtomicU64::new(0));
    let (change, changes) = watch::channel(0);
    let routes = Routes::new(DirectoryServiceServer::new(Fake {
        asked: asked.clone(),
        changes,
    }));
    // A runtime of its own, so that its end cuts the connections as the end of a process does.
    let server = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let socket = endpoint.clone();
    server.spawn(async move {
        let listener = bind(&socket, 0o600).await.unwrap();
        routes_served(listener, None, routes, std::future::pending())
            .await
            .unwrap();
    });

    let directory = Directory::start(
        connect_lazy(&endpoint, None).unwrap(),
        NonZeroUsize::new(10).unwrap(),
    );
    let ana: EmailAddress = "ana@aula.test".parse().unwrap();
    // Before the change feed is up nothing is cached; then one answer serves all.
    while directory.resolve(&ana).await.is_err() {}
    let mut last = id_of(&directory, &ana).await;
    loop {
        let now = id_of(&directory, &ana).await;
        if now == last {
            break;
        }
        last = now;
    }
    change.send(1).unwrap();
    while id_of(&directory, &ana).await == last {
        tokio::task::yield_now().await;
    }
    let many = (0..500).map(|n| {
        let address: EmailAddress = format!("user{n}@aula.test").parse().unwrap();
        let directory = directory.clone();
        async move { directory.resolve(&address).await.is_ok() }
    });
    let answers = futures_util::future::join_all(many).await;
    assert!(answers.into_iter().all(|ok| ok));

    // With the feed down nothing cached is believed.
    server.shutdown_background();
    while directory.resolve(&ana).await.is_ok() {
        tokio::task::yield_now().await;
    }
    drop(change);
}

async fn id_of(directory: &Directory, address: &EmailAddress) -> u64 {
    match directory.resolve(address).await.unwrap() {
        Resolution::Account(account) => account.id.get(),
        other => panic!("{other:?}"),
    }
}
