use std::time::Duration;

use mail_rpc::pb::common::v1 as common;
use mail_rpc::pb::queue::v1 as pb;
use mail_types::{Action, EnhancedCode, Outcome};
use pb::delivery_agent_service_client::DeliveryAgentServiceClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

/// An agent that leaves everything to its test.
pub struct Agent {
    client: DeliveryAgentServiceClient<Channel>,
    messages: mpsc::Sender<pb::AgentMessage>,
    tasks: Streaming<pb::QueueMessage>,
}

impl Agent {
    pub async fn attach(channel: Channel, transport: pb::Transport, max_tasks: u32) -> Self {
        let mut client = DeliveryAgentServiceClient::new(channel);
        let (messages, outgoing) = mpsc::channel(1000);
        let hello = pb::AgentHello {
            transport: transport.into(),
            name: "test".into(),
            max_tasks,
            max_bytes: 64 << 20,
        };
        let message = Some(pb::agent_message::Message::Hello(hello));
        messages.send(pb::AgentMessage { message }).await.unwrap();
        let tasks = client.attach(ReceiverStream::new(outgoing)).await;
        Self {
            client,
            messages,
            tasks: tasks.unwrap().into_inner(),
        }
    }

    pub async fn message(&mut self) -> pb::queue_message::Message {
        let message = tokio::time::timeout(Duration::from_secs(10), self.tasks.message()).await;
        let message = message.expect("a message in time").unwrap().unwrap();
        message.message.unwrap()
    }

    pub async fn task(&mut self) -> pb::Task {
        match self.message().await {
            pb::queue_message::Message::Task(task) => task,
            pb::queue_message::Message::Cancel(_) => panic!("a cancellation"),
        }
    }

    /// True if no task comes for a while.
    pub async fn is_idle(&mut self, wait: Duration) -> bool {
        tokio::time::timeout(wait, self.tasks.message())
            .await
            .is_err()
    }

    /// Waits for the queue to end the stream.
    pub async fn end(&mut self) -> bool {
        let end = tokio::time::timeout(Duration::from_secs(10), self.tasks.message()).await;
        matches!(end, Ok(Ok(None)))
    }

    pub async fn report(&self, task: &pb::Task, outcome: &Outcome) {
        self.report_each(task, |_| outcome.clone(), false).await;
    }

    pub async fn report_each(
        &self,
        task: &pb::Task,
        outcome: impl Fn(u32) -> Outcome,
        destination_down: bool,
    ) {
        let outcomes = task
            .recipients
            .iter()
            .map(|recipient| pb::RecipientOutcome {
                index: recipient.index,
                outcome: Some(common::Outcome::from(&outcome(recipient.index))),
                ..pb::RecipientOutcome::default()
            });
        let report = pb::TaskReport {
            task_id: task.task_id,
            outcomes: outcomes.collect(),
            destination_down,
        };
        let message = Some(pb::agent_message::Message::Report(report));
        self.messages
            .send(pb::AgentMessage { message })
            .await
            .unwrap();
    }

    pub async fn read_content(&mut self, queue_id: u64) -> Vec<u8> {
        let request = pb::ReadContentRequest { queue_id };
        let mut chunks = self
            .client
            .read_content(request)
            .await
            .unwrap()
            .into_inner();
        let mut content = Vec::new();
        while let Some(chunk) = chunks.message().await.unwrap() {
            content.extend_from_slice(&chunk.data);
        }
        content
    }
}

pub fn delivered() -> Outcome {
    Outcome::local(EnhancedCode::OK, "stored")
}

pub fn later() -> Outcome {
    Outcome::local(EnhancedCode::NO_ANSWER, "no answer")
}

pub fn failed() -> Outcome {
    let mut outcome = Outcome::local(EnhancedCode::NO_SUCH_USER, "550 5.1.1 nobody here");
    outcome.remote_mta = Some("mx.remote.test".parse().unwrap());
    assert_eq!(outcome.action, Action::Failed);
    outcome
}

/// What a report says, without its line ends.
pub fn text(task: &pb::Task) -> String {
    String::from_utf8(task.content.clone().unwrap().to_vec()).unwrap()
}
