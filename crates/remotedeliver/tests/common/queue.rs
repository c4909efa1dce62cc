//! queued, as far as an agent sees it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mail_rpc::pb::common::v1 as common;
use mail_rpc::pb::queue::v1 as pb;
use mail_rpc::transport::{Endpoint, bind, connect_lazy, routes_served};
use pb::delivery_agent_service_server::{DeliveryAgentService, DeliveryAgentServiceServer};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

pub struct Queue {
    folder: tempfile::TempDir,
    attached: mpsc::Receiver<Agent>,
    agent: Option<Agent>,
    service: Service,
    stop: Option<oneshot::Sender<()>>,
    next: u64,
}

/// An agent that has attached.
pub struct Agent {
    pub hello: pb::AgentHello,
    tasks: mpsc::Sender<Result<pb::QueueMessage, Status>>,
    reports: mpsc::Receiver<pb::TaskReport>,
}

#[derive(Clone)]
struct Service {
    attached: mpsc::Sender<Agent>,
    contents: Arc<Mutex<HashMap<u64, Vec<Bytes>>>>,
}

impl Queue {
    pub async fn start() -> Self {
        let (sender, attached) = mpsc::channel(10);
        let service = Service {
            attached: sender,
            contents: Arc::default(),
        };
        let mut queue = Self {
            folder: tempfile::tempdir().unwrap(),
            attached,
            agent: None,
            service,
            stop: None,
            next: 0,
        };
        queue.serve().await;
        queue
    }

    async fn serve(&mut self) {
        let listener = bind(&Endpoint::Unix(self.socket()), 0o600).await.unwrap();
        let routes =
            tonic::service::Routes::new(DeliveryAgentServiceServer::new(self.service.clone()));
        let (stop, stopped) = oneshot::channel::<()>();
        self.stop = Some(stop);
        tokio::spawn(async move {
            let serving = routes_served(listener, None, routes, std::future::pending());
            tokio::select! {
                result = serving => result.unwrap(),
                _ = stopped => {}
            }
        });
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("queue-agent.sock")
    }

    pub fn channel(&self) -> Channel {
        connect_lazy(&Endpoint::Unix(self.socket()), None).unwrap()
    }

    /// Dies and comes back.
    pub async fn restart(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.agent = None;
        self.serve().await;
    }

    pub async fn agent(&mut self) -> &mut Agent {
        if self.agent.is_none() {
            let attached = tokio::time::timeout(Duration::from_secs(10), self.attached.recv());
            self.agent = Some(attached.await.expect("an agent attaches").unwrap());
        }
        self.agent.as_mut().unwrap()
    }

    /// A task for the domain of the first recipient.
    pub fn task(&mut self, recipients: &[&str], content: &[u8]) -> pb::Task {
        self.next += 1;
        let domain = recipients[0].rsplit_once('@').unwrap().1.to_owned();
        let recipient = |(index, address): (usize, &&str)| pb::TaskRecipient {
            index: u32::try_from(index).unwrap(),
            address: (*address).to_owned(),
            ..pb::TaskRecipient::default()
        };
        let inline = content.len() <= 65_536;
        if !inline {
            let chunks = content.chunks(65_536).map(Bytes::copy_from_slice).collect();
            self.service
                .contents
                .lock()
                .unwrap()
                .insert(self.next, chunks);
        }
        pb::Task {
            task_id: self.next,
            queue_id: self.next,
            reverse_path: Some(common::ReversePath {
                address: Some("ana@us.test".into()),
            }),
            recipients: recipients.iter().enumerate().map(recipient).collect(),
            destination: Some(pb::SmtpDestination {
                target: Some(pb::smtp_destination::Target::Domain(domain)),
            }),
            size: content.len() as u64,
            content: inline.then(|| Bytes::copy_from_slice(content)),
            attempt: 1,
            ..pb::Task::default()
        }
    }

    pub async fn send(&mut self, task: pb::Task) {
        self.tell(pb::queue_message::Message::Task(task)).await;
    }

    pub async fn tell(&mut self, message: pb::queue_message::Message) {
        let message = pb::QueueMessage {
            message: Some(message),
        };
        self.agent().await.tasks.send(Ok(message)).await.unwrap();
    }

    pub async fn report(&mut self) -> pb::TaskReport {
        let reports = &mut self.agent().await.reports;
        let report = tokio::time::timeout(Duration::from_secs(20), reports.recv());
        report.await.expect("a report in time").expect("a report")
    }

    /// A report, if one comes within the time.
    pub async fn try_report(&mut self, wait: Duration) -> Option<pb::TaskReport> {
        let reports = &mut self.agent().await.reports;
        tokio::time::timeout(wait, reports.recv())
            .await
            .ok()
            .flatten()
    }
}

#[tonic::async_trait]
impl DeliveryAgentService for Service {
    type AttachStream = ReceiverStream<Result<pb::QueueMessage, Status>>;
    type ReadContentStream = ReceiverStream<Result<pb::ContentChunk, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<pb::AgentMessage>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let mut messages = request.into_inner();
        let (tasks, mut handed_out) = mpsc::channel(10_000);
        let (out, receiver) = mpsc::channel(10_000);
        let (sender, reports) = mpsc::channel(10_000);
        let attached = self.attached.clone();
        tokio::spawn(async move {
            let Ok(Some(first)) = messages.message().await else {
                return;
            };
            let Some(pb::agent_message::Message::Hello(hello)) = first.message else {
                panic!("no hello");
            };
            let agent = Agent {
                hello,
                tasks,
                reports,
            };
            attached.send(agent).await.ok().unwrap();
            loop {
                let message = tokio::select! {
                    task = handed_out.recv() => {
                        let Some(task) = task else { return };
                        out.send(task).await.ok();
                        continue;
                    }
                    message = messages.message() => message,
                };
                // Either end closes the other, as queued does it.
                let Ok(Some(message)) = message else { return };
                if let Some(pb::agent_message::Message::Report(report)) = message.message {
                    // The test may have ended.
                    sender.send(report).await.ok();
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn read_content(
        &self,
        request: Request<pb::ReadContentRequest>,
    ) -> Result<Response<Self::ReadContentStream>, Status> {
        let id = request.into_inner().queue_id;
        let chunks = self.contents.lock().unwrap().get(&id).cloned();
        let chunks = chunks.ok_or(Status::not_found("no such message"))?;
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            for data in chunks {
                // An empty chunk stands for a queue that breaks off.
                let item = if data.is_empty() {
                    Err(Status::internal("broken"))
                } else {
                    Ok(pb::ContentChunk { data })
                };
                if sender.send(item).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

impl Queue {
    /// Content that breaks off in the middle.
    pub fn break_content(&mut self, id: u64) {
        let mut contents = self.service.contents.lock().unwrap();
        contents.get_mut(&id).unwrap()[1] = Bytes::new();
    }
}
