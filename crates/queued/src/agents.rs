//! Delivery agents attach, get tasks and report.

use std::sync::Arc;

use mail_rpc::convert::ConvertError;
use mail_rpc::pb::queue::v1 as pb;
use mail_rpc::pb::queue::v1::delivery_agent_service_server::DeliveryAgentService;
use mail_types::QueueId;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::warn;

use crate::driver::Event;
use crate::queue::Queue;
use crate::read;
use crate::scheduler::{AgentId, Attempt, Lane};

/// The most tasks of one agent: the channel to it has room for all of them and as many
/// cancellations.
const MAX_TASKS: u32 = 8192;

#[derive(Debug)]
pub(crate) struct Agents(Queue);

impl Agents {
    pub(crate) fn new(queue: Queue) -> Self {
        Self(queue)
    }
}

#[tonic::async_trait]
impl DeliveryAgentService for Agents {
    type AttachStream = ReceiverStream<Result<pb::QueueMessage, Status>>;
    type ReadContentStream = ReceiverStream<Result<pb::ContentChunk, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<pb::AgentMessage>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let messages = request.into_inner();
        // The hello may come later than the call is answered: an agent may wait for the answer's
        // head before it says anything.
        let (tasks, receiver) = mpsc::channel(2 * MAX_TASKS as usize);
        let queue = self.0.clone();
        self.0.tracker.spawn(serve(queue, messages, tasks));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn read_content(
        &self,
        request: Request<pb::ReadContentRequest>,
    ) -> Result<Response<Self::ReadContentStream>, Status> {
        let id = QueueId::from(request.into_inner().queue_id);
        let chunks = read::stream(&self.0, id, |data| pb::ContentChunk { data }).await?;
        Ok(Response::new(ReceiverStream::new(chunks)))
    }
}

type Tasks = mpsc::Sender<Result<pb::QueueMessage, Status>>;

async fn serve(queue: Queue, mut messages: Streaming<pb::AgentMessage>, tasks: Tasks) {
    let id = match attach(&queue, &mut messages, &tasks).await {
        Ok(Some(id)) => id,
        Ok(None) => return,
        Err(status) => {
            // The agent may be gone already.
            let _ = tasks.send(Err(status)).await;
            return;
        }
    };
    let result = listen(&queue, id, &mut messages, &tasks).await;
    if let Err(status) = result {
        warn!(agent = id, %status, "agent's stream broke");
        // The agent may be gone already.
        let _ = tasks.try_send(Err(status));
    }
    queue.tell(Event::Detach(id));
}

async fn attach(
    queue: &Queue,
    messages: &mut Streaming<pb::AgentMessage>,
    tasks: &Tasks,
) -> Result<Option<AgentId>, Status> {
    let first = tokio::select! {
        () = queue.shutdown.cancelled() => return Ok(None),
        () = tasks.closed() => return Ok(None),
        message = messages.message() => message?,
    };
    let Some(first) = first else {
        return Ok(None);
    };
    let Some(pb::agent_message::Message::Hello(hello)) = first.message else {
        return Err(Status::invalid_argument("an agent says hello first"));
    };
    let lane = match hello.transport() {
        pb::Transport::Local => Lane::Local,
        pb::Transport::Smtp => Lane::Smtp,
        pb::Transport::Unspecified => {
            return Err(Status::invalid_argument("unknown transport"));
        }
    };
    let (reply, id) = oneshot::channel();
    queue.tell(Event::Attach {
        lane,
        max_tasks: hello.max_tasks.clamp(1, MAX_TASKS) as usize,
        max_octets: usize::try_from(hello.max_bytes).unwrap_or(usize::MAX),
        name: hello.name,
        messages: tasks.clone(),
        reply,
    });
    Ok(id.await.ok())
}

/// Takes reports until the agent goes or the queue is drained.
async fn listen(
    queue: &Queue,
    agent: AgentId,
    messages: &mut Streaming<pb::AgentMessage>,
    tasks: &Tasks,
) -> Result<(), Status> {
    // An agent that reports faster than the driver takes it is not read meanwhile.
    let room = Arc::new(Semaphore::new(MAX_TASKS as usize));
    loop {
        let message = tokio::select! {
            () = queue.drained.cancelled() => return Ok(()),
            () = tasks.closed() => return Ok(()),
            message = messages.message() => message?,
        };
        let Some(message) = message else {
            return Ok(());
        };
        let Some(pb::agent_message::Message::Report(report)) = message.message else {
            return Err(Status::invalid_argument(
                "an agent says hello once, then reports",
            ));
        };
        let permit = room.clone().acquire_owned().await;
        let permit = permit.map_err(|error| Status::internal(error.to_string()))?;
        queue.tell(Event::TaskReport {
            permit,
            agent,
            task: report.task_id,
            destination_down: report.destination_down,
            attempts: attempts(report.outcomes)?,
        });
    }
}

fn attempts(outcomes: Vec<pb::RecipientOutcome>) -> Result<Vec<Attempt>, ConvertError> {
    let attempts = outcomes.into_iter().map(|attempt| {
        let outcome = attempt.outcome.ok_or(ConvertError::new("outcome"))?;
        Ok(Attempt {
            index: attempt.index,
            outcome: outcome.try_into()?,
            reports_passed_on: attempt.reports_passed_on,
        })
    });
    attempts.collect()
}
