//! The agent's stream to queued: tasks in, reports out.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use daemon_kit::Context;
use mail_rpc::pb::queue::v1 as pb;
use mail_rpc::transport::Endpoint;
use mail_types::{EnhancedCode, Outcome, ReversePath};
use pb::delivery_agent_service_client::DeliveryAgentServiceClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use tracing::{debug, info, warn};

use crate::budget::Budget;
use crate::delivery::{Mail, Recipient, deliver};
use crate::stores::Stores;

/// Reports that may wait for the stream.
const REPORTS: usize = 1024;
/// How long to wait before attaching again, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(2);
/// How long queued may take to hear the last reports.
const GOODBYE: Duration = Duration::from_secs(5);

type Client = DeliveryAgentServiceClient<Channel>;

/// Attaches again and again until shutdown; then finishes what it has.
pub(crate) async fn run(
    context: &Context,
    stores: &Stores,
    endpoint: &Endpoint,
) -> anyhow::Result<()> {
    let client = DeliveryAgentServiceClient::new(context.channel(endpoint)?)
        .max_decoding_message_size(16 * 1024 * 1024);
    let config = context.config();
    let agent = Agent {
        context: context.clone(),
        stores: stores.clone(),
        client,
        budget: Budget::new(config.localdeliver.max_memory.bytes() / 2),
    };
    let mut pause = FIRST_PAUSE;
    while !context.shutdown().is_cancelled() {
        match agent.attach().await {
            Ok(true) => pause = FIRST_PAUSE,
            Ok(false) => {}
            Err(status) => debug!(%status, "cannot attach to queued"),
        }
        tokio::select! {
            () = context.shutdown().cancelled() => {}
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LAST_PAUSE),
        }
    }
    Ok(())
}

#[derive(Clone)]
struct Agent {
    context: Context,
    stores: Stores,
    client: Client,
    budget: Budget,
}

impl Agent {
    /// One stream from its beginning to its end; true if it worked.
    async fn attach(&self) -> Result<bool, Status> {
        let (reports, outgoing) = mpsc::channel(REPORTS);
        let hello = pb::agent_message::Message::Hello(self.hello());
        // The channel is empty and both ends are here.
        let _ = reports.try_send(pb::AgentMessage {
            message: Some(hello),
        });
        let stream = self
            .client
            .clone()
            .attach(ReceiverStream::new(outgoing))
            .await?;
        info!("attached to queued");
        let mut tasks = stream.into_inner();
        let work = TaskTracker::new();
        let worked = self.take_tasks(&mut tasks, &reports, &work).await;
        work.close();
        work.wait().await;
        // Without senders the stream's end tells queued that this is all.
        drop(reports);
        let rest = async { while let Ok(Some(_)) = tasks.message().await {} };
        if tokio::time::timeout(GOODBYE, rest).await.is_err() {
            debug!("queued did not end the stream");
        }
        Ok(worked)
    }

    fn hello(&self) -> pb::AgentHello {
        let config = self.context.config();
        pb::AgentHello {
            transport: pb::Transport::Local.into(),
            name: "localdeliver".to_owned(),
            max_tasks: config.localdeliver.max_tasks.max(1),
            max_bytes: config.localdeliver.max_memory.bytes() / 2,
        }
    }

    async fn take_tasks(
        &self,
        tasks: &mut Streaming<pb::QueueMessage>,
        reports: &mpsc::Sender<pb::AgentMessage>,
        work: &TaskTracker,
    ) -> bool {
        let mut worked = false;
        loop {
            let message = tokio::select! {
                () = self.context.shutdown().cancelled() => return worked,
                message = tasks.message() => message,
            };
            match message {
                Ok(Some(message)) => {
                    worked = true;
                    if let Some(pb::queue_message::Message::Task(task)) = message.message {
                        work.spawn(self.clone().work(task, reports.clone()));
                    }
                    // A delivery takes no time; one that is cancelled is simply finished.
                }
                Ok(None) => return worked,
                Err(status) => {
                    warn!(%status, "the stream to queued broke");
                    return worked;
                }
            }
        }
    }

    async fn work(self, task: pb::Task, reports: mpsc::Sender<pb::AgentMessage>) {
        let task_id = task.task_id;
        let outcomes = self.outcomes(task).await;
        let report = pb::TaskReport {
            task_id,
            outcomes,
            destination_down: false,
        };
        let message = Some(pb::agent_message::Message::Report(report));
        if reports.send(pb::AgentMessage { message }).await.is_err() {
            // The task is sent again, and its key tells that it is done.
            debug!(task_id, "the stream broke before the report");
        }
    }

    async fn outcomes(&self, task: pb::Task) -> Vec<pb::RecipientOutcome> {
        let _room = self.budget.take(task.size).await;
        let content = match task.content.clone() {
            Some(content) => Ok(content),
            None => self.read_content(&task).await,
        };
        let reverse_path = ReversePath::try_from(task.reverse_path.unwrap_or_default());
        let (content, reverse_path) = match (content, reverse_path) {
            (Ok(content), Ok(reverse_path)) => (content, reverse_path),
            (Err(status), _) => return unable(&task.recipients, &status.to_string()),
            (_, Err(error)) => return unable(&task.recipients, &error.to_string()),
        };
        let mail = Mail {
            queue_id: task.queue_id,
            reverse_path,
            content,
            bounce_over_quota: self.context.config().localdeliver.bounce_over_quota,
        };
        let all = task
            .recipients
            .into_iter()
            .map(|recipient| self.one(&mail, recipient));
        futures_util::future::join_all(all).await
    }

    async fn one(&self, mail: &Mail, recipient: pb::TaskRecipient) -> pb::RecipientOutcome {
        match Recipient::try_from(recipient.clone()) {
            Ok(recipient) => deliver(&self.stores, mail, &recipient).await,
            Err(error) => failed(&recipient, &error.to_string()),
        }
    }

    async fn read_content(&self, task: &pb::Task) -> Result<Bytes, Status> {
        let request = pb::ReadContentRequest {
            queue_id: task.queue_id,
        };
        let mut chunks = self
            .client
            .clone()
            .read_content(request)
            .await?
            .into_inner();
        let size = usize::try_from(task.size).unwrap_or(0);
        let mut content = BytesMut::with_capacity(size);
        while let Some(chunk) = chunks.message().await? {
            content.extend_from_slice(&chunk.data);
            if content.len() > size {
                break;
            }
        }
        if content.len() != size {
            return Err(Status::data_loss(
                "the content has not the size that the task says",
            ));
        }
        Ok(content.freeze())
    }
}

/// Nothing could be tried: all recipients wait.
fn unable(recipients: &[pb::TaskRecipient], why: &str) -> Vec<pb::RecipientOutcome> {
    warn!(why, "msg.deferred");
    recipients
        .iter()
        .map(|recipient| failed(recipient, why))
        .collect()
}

fn failed(recipient: &pb::TaskRecipient, why: &str) -> pb::RecipientOutcome {
    let outcome = Outcome::local(EnhancedCode::SYSTEM_TROUBLE, why);
    pb::RecipientOutcome {
        index: recipient.index,
        outcome: Some((&outcome).into()),
        ..pb::RecipientOutcome::default()
    }
}
