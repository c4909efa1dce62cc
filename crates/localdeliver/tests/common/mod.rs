//! The daemon as a process, and a queue that hands it what a test wants delivered.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of several tests, which fail by panicking"
)]

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use mail_rpc::pb::common::v1 as common;
use mail_rpc::pb::mailbox::v1::mailbox_service_client::MailboxServiceClient;
use mail_rpc::pb::queue::v1 as pb;
use mail_rpc::transport::{Endpoint, bind, connect, routes_served};
use pb::delivery_agent_service_server::{DeliveryAgentService, DeliveryAgentServiceServer};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

/// A message for one account.
#[derive(Clone, Debug)]
pub struct Job {
    pub queue_id: u64,
    pub account: u64,
    pub quota: u64,
    pub content: Bytes,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    /// By queue id, of what is not reported or may be read again.
    contents: HashMap<u64, Bytes>,
    /// Status and how often it was reported, by queue id.
    reported: BTreeMap<u64, (String, u32)>,
    /// Every so many-th report is taken for lost: its task comes again.
    forget: u32,
    reports: u32,
}

/// A queue in memory. What was handed out returns to it when the stream breaks.
#[derive(Clone, Default)]
pub struct FakeQueue {
    state: Arc<Mutex<State>>,
    more: Arc<Notify>,
}

impl FakeQueue {
    pub fn push(&self, job: Job) {
        let mut state = self.state.lock().unwrap();
        state.contents.insert(job.queue_id, job.content.clone());
        state.waiting.push_back(job);
        self.more.notify_one();
    }

    pub fn forget_every(&self, nth: u32) {
        self.state.lock().unwrap().forget = nth;
    }

    /// Queue ids with their status and the number of reports.
    pub fn reported(&self) -> BTreeMap<u64, (String, u32)> {
        self.state.lock().unwrap().reported.clone()
    }

    pub fn count(&self) -> usize {
        self.state.lock().unwrap().reported.len()
    }

    fn take(&self) -> Option<Job> {
        self.state.lock().unwrap().waiting.pop_front()
    }

    fn note(&self, job: &Job, report: &pb::TaskReport) {
        let [outcome] = &report.outcomes[..] else {
            panic!("not one outcome")
        };
        let status = outcome.outcome.as_ref().unwrap().status.unwrap();
        let status = format!("{}.{}.{}", status.class, status.subject, status.detail);
        let mut state = self.state.lock().unwrap();
        state.reports += 1;
        if state.forget > 0 && state.reports.is_multiple_of(state.forget) {
            state.waiting.push_back(job.clone());
        }
        let entry = state.reported.entry(job.queue_id).or_default();
        *entry = (status, entry.1 + 1);
    }

    async fn run(
        self,
        mut reports: Streaming<pb::AgentMessage>,
        tasks: mpsc::Sender<Result<pb::QueueMessage, Status>>,
    ) {
        let hello = reports.message().await.unwrap().unwrap();
        let Some(pb::agent_message::Message::Hello(hello)) = hello.message else {
            panic!("no hello")
        };
        let mut out: HashMap<u64, Job> = HashMap::new();
        let mut next = 0;
        loop {
            while out.len() < hello.max_tasks as usize
                && let Some(job) = self.take()
            {
                next += 1;
                let message = Some(pb::queue_message::Message::Task(task(next, &job)));
                out.insert(next, job);
                let _ = tasks.send(Ok(pb::QueueMessage { message })).await;
            }
            let message = tokio::select! {
                message = reports.message() => message,
                () = self.more.notified() => continue,
            };
            let Ok(Some(message)) = message else { break };
            let Some(pb::agent_message::Message::Report(report)) = message.message else {
                panic!("a second hello")
            };
            let job = out.remove(&report.task_id).unwrap();
            self.note(&job, &report);
        }
        let mut state = self.state.lock().unwrap();
        state.waiting.extend(out.into_values());
        self.more.notify_one();
    }
}

fn task(task_id: u64, job: &Job) -> pb::Task {
    let recipient = pb::TaskRecipient {
        index: 3,
        address: "lois@aula.test".to_owned(),
        account_id: job.account,
        quota_bytes: job.quota,
        ..pb::TaskRecipient::default()
    };
    let is_small = job.content.len() <= 64 * 1024;
    pb::Task {
        task_id,
        queue_id: job.queue_id,
        reverse_path: Some(common::ReversePath {
            address: Some("ana@aula.test".to_owned()),
        }),
        recipients: vec![recipient],
        size: job.content.len() as u64,
        content: is_small.then(|| job.content.clone()),
        attempt: 1,
        ..pb::Task::default()
    }
}

type Boxed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl DeliveryAgentService for FakeQueue {
    type AttachStream = Boxed<pb::QueueMessage>;
    type ReadContentStream = Boxed<pb::ContentChunk>;

    async fn attach(
        &self,
        request: Request<Streaming<pb::AgentMessage>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (tasks, outgoing) = mpsc::channel(64);
        tokio::spawn(self.clone().run(request.into_inner(), tasks));
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }

    async fn read_content(
        &self,
        request: Request<pb::ReadContentRequest>,
    ) -> Result<Response<Self::ReadContentStream>, Status> {
        let id = request.into_inner().queue_id;
        let content = self.state.lock().unwrap().contents.get(&id).cloned();
        let content = content.ok_or_else(|| Status::not_found("no such message"))?;
        let chunks = (0..content.len()).step_by(64 * 1024).map(move |at| {
            let end = (at + 64 * 1024).min(content.len());
            let data = content.slice(at..end);
            Ok(pb::ContentChunk { data })
        });
        let chunks: Vec<_> = chunks.collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }
}

/// A home folder with a queue.
pub struct Rig {
    home: TempDir,
    pub queue: FakeQueue,
}

impl Rig {
    pub async fn start() -> Self {
        Self::with("").await
    }

    /// With more in the configuration.
    pub async fn with(config: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("run")).unwrap();
        let config = format!("[server]\nhostname = \"mx.aula.test\"\n{config}");
        std::fs::write(home.path().join("correo.toml"), config).unwrap();
        let queue = FakeQueue::default();
        let routes = Routes::new(DeliveryAgentServiceServer::new(queue.clone()));
        serve(&home.path().join("run/queue-agent.sock"), routes).await;
        Self { home, queue }
    }

    pub fn daemon(&self) -> Child {
        Command::new(env!("CARGO_BIN_EXE_localdeliver"))
            .arg("--home")
            .arg(self.home.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    pub fn socket(&self) -> PathBuf {
        self.home.path().join("run/mailbox.sock")
    }

    pub async fn channel(&self) -> Channel {
        for _ in 0..500 {
            if let Ok(channel) = connect(&Endpoint::Unix(self.socket()), None).await {
                return channel;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the daemon's socket never came")
    }

    pub async fn client(&self) -> MailboxServiceClient<Channel> {
        MailboxServiceClient::new(self.channel().await)
    }
}

async fn serve(socket: &Path, routes: Routes) {
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
    for _ in 0..3000 {
        if check().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came true that {what}");
}
