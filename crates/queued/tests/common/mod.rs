//! A queue over real sockets, with a directory and delivery agents that do as they are told.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "each test uses its part, and fails by panicking"
)]

pub mod agent;
pub mod directory;
pub mod submit;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mail_rpc::directory::Directory;
use mail_rpc::pb::queue::v1 as pb;
use mail_rpc::pb::queue::v1::queue_admin_service_client::QueueAdminServiceClient;
use mail_rpc::transport::{Endpoint, bind, connect, connect_lazy, routes_served};
use queue_store::QueueStore;
use queued::queue::Queue;
use queued::routes::RouteTable;
use queued::settings::Settings;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport::Channel;

use agent::Agent;
use directory::FakeDirectory;
use submit::Submitter;

/// Waits in milliseconds where the real ones are minutes.
pub fn settings() -> Settings {
    Settings {
        hostname: "mx.aula.test".parse().unwrap(),
        retry_min: Duration::from_millis(50),
        retry_max: Duration::from_millis(400),
        lifetime: Duration::from_hours(1),
        min_attempts: 2,
        delay_warning: Duration::ZERO,
        destination_limit: 20,
        local_limit: 1000,
        task_recipients: 100,
        routing_limit: 16,
        memory: 1 << 20,
        incoming_memory: 8 << 20,
        stream_window: 256,
        max_recipients: 1000,
        alias_depth: 5,
        alias_width: 50,
        report_content: 64 * 1024,
        postmaster: None,
        routes: RouteTable::default(),
    }
}

pub struct Rig {
    folder: Arc<tempfile::TempDir>,
    pub queue: Queue,
    pub directory: FakeDirectory,
    pub shutdown: CancellationToken,
    pub tracker: TaskTracker,
}

impl Rig {
    pub async fn start(settings: Settings, store: Arc<dyn QueueStore>) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let directory = FakeDirectory::default();
        serve(&folder.path().join("directory.sock"), directory.routes()).await;
        Self::start_in(folder, directory, settings, store).await
    }

    /// Another queue on the same store, as after a restart.
    pub async fn restart(self, settings: Settings, store: Arc<dyn QueueStore>) -> Self {
        let (folder, directory) = (self.folder.clone(), self.directory.clone());
        Self::start_in(folder, directory, settings, store).await
    }

    async fn start_in(
        folder: Arc<tempfile::TempDir>,
        directory: FakeDirectory,
        settings: Settings,
        store: Arc<dyn QueueStore>,
    ) -> Self {
        let socket = Endpoint::Unix(folder.path().join("directory.sock"));
        let channel = connect_lazy(&socket, None).unwrap();
        let client = Directory::start(channel, NonZeroUsize::new(100).unwrap());
        let (shutdown, tracker) = (CancellationToken::new(), TaskTracker::new());
        let queue = Queue::start(
            settings,
            store,
            Arc::new(client),
            shutdown.clone(),
            tracker.clone(),
        )
        .unwrap();
        queue.restored().await;
        for (name, routes) in [
            ("submit.sock", queue.submission_routes()),
            ("agent.sock", queue.agent_routes()),
            ("admin.sock", queue.admin_routes()),
        ] {
            serve(&folder.path().join(name), routes).await;
        }
        Self {
            folder,
            queue,
            directory,
            shutdown,
            tracker,
        }
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub async fn submitter(&self) -> Submitter {
        Submitter::open(channel(&self.socket("submit.sock")).await).await
    }

    pub async fn agent(&self, transport: pb::Transport, max_tasks: u32) -> Agent {
        let channel = channel(&self.socket("agent.sock")).await;
        Agent::attach(channel, transport, max_tasks).await
    }

    pub async fn admin(&self) -> QueueAdminServiceClient<Channel> {
        QueueAdminServiceClient::new(channel(&self.socket("admin.sock")).await)
    }

    pub async fn count(&self) -> pb::CountResponse {
        let request = pb::CountRequest { selector: None };
        let count = self.admin().await.count(request).await;
        count.unwrap().into_inner()
    }

    /// Waits until nothing is in the queue.
    pub async fn empty(&self) {
        eventually("the queue is empty", async || {
            let count = self.count().await;
            count.incoming + count.active + count.deferred + count.held == 0
        })
        .await;
    }
}

pub async fn channel(socket: &Path) -> Channel {
    connect(&Endpoint::Unix(socket.to_owned()), None)
        .await
        .unwrap()
}

pub async fn serve(socket: &Path, routes: Routes) {
    let listener = bind(&Endpoint::Unix(socket.to_owned()), 0o600)
        .await
        .unwrap();
    tokio::spawn(async move {
        routes_served(listener, None, routes, std::future::pending())
            .await
            .unwrap();
    });
}

pub async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    for _ in 0..500 {
        if check().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it never came true that {what}");
}
