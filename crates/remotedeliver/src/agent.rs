//! The stream with queued: tasks come in, reports go out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mail_rpc::pb::queue::v1 as pb;
use mail_rpc::pb::queue::v1::delivery_agent_service_client::DeliveryAgentServiceClient;
use mail_types::{Action, EnhancedCode, Outcome, QueueId};
use pb::agent_message::Message as ToQueue;
use pb::queue_message::Message as FromQueue;
use rand::Rng;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tracing::{debug, info, warn};

use crate::deliver::{Deliverer, Delivery};
use crate::job::Job;

/// Waits between two attempts to reach queued: it may just be restarting, but must not be flooded
/// by its agents when it comes back.
const MIN_WAIT: Duration = Duration::from_millis(50);
const MAX_WAIT: Duration = Duration::from_secs(2);
/// How long queued may take to take the last reports at the end.
const LAST_REPORTS: Duration = Duration::from_secs(5);

/// What this agent says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Hello {
    pub(crate) name: String,
    pub(crate) max_tasks: u32,
    pub(crate) max_bytes: u64,
}

/// Serves queued until `shutdown`; attaches again whenever the stream breaks.
pub(crate) async fn run(
    channel: Channel,
    hello: Hello,
    deliverer: Arc<Deliverer>,
    shutdown: CancellationToken,
) {
    let mut wait = MIN_WAIT;
    while !shutdown.is_cancelled() {
        let attachment = Attachment {
            queue: DeliveryAgentServiceClient::new(channel.clone())
                .max_decoding_message_size(MAX_MESSAGE),
            deliverer: deliverer.clone(),
            stop: shutdown.child_token(),
            running: TaskTracker::new(),
            cancels: Arc::default(),
        };
        let since = Instant::now();
        match attachment.serve(&hello, &shutdown).await {
            Ok(()) => debug!("queued ended the stream"),
            // It is not there: it starts later, or restarts.
            Err(status) if status.code() == Code::Unavailable => {
                debug!(%status, "queued cannot be reached");
            }
            Err(status) => warn!(%status, "the stream with queued broke"),
        }
        if since.elapsed() > MAX_WAIT {
            wait = MIN_WAIT;
        }
        let jitter = rand::rng().random_range(0.5..1.5);
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(wait.mul_f64(jitter)) => {}
        }
        wait = (wait * 2).min(MAX_WAIT);
    }
}

/// A task carries at most 64 KiB of content, but may have hundreds of recipients.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

struct Attachment {
    queue: DeliveryAgentServiceClient<Channel>,
    deliverer: Arc<Deliverer>,
    /// Cancelled at the stream's end: what has not begun is queued's again.
    stop: CancellationToken,
    /// This stream's tasks.
    running: TaskTracker,
    /// To stop single tasks.
    cancels: Arc<Mutex<HashMap<u64, CancellationToken>>>,
}

type Reports = mpsc::Sender<pb::AgentMessage>;

impl Attachment {
    async fn serve(mut self, hello: &Hello, shutdown: &CancellationToken) -> Result<(), Status> {
        let capacity = usize::try_from(hello.max_tasks)
            .unwrap_or(usize::MAX)
            .clamp(1, 8192)
            + 1;
        let (reports, queue) = mpsc::channel(capacity);
        let message = ToQueue::Hello(pb::AgentHello {
            transport: pb::Transport::Smtp.into(),
            name: hello.name.clone(),
            max_tasks: hello.max_tasks,
            max_bytes: hello.max_bytes,
        });
        // There is room: the channel is new.
        let _ = reports.try_send(to_queue(message));
        let attach = self.queue.attach(ReceiverStream::new(queue));
        let mut tasks = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            attached = attach => attached?.into_inner(),
        };
        info!("attached to queued");
        let result = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            result = self.listen(&mut tasks, &reports) => result,
        };
        self.stop.cancel();
        self.running.close();
        if shutdown.is_cancelled() {
            // What is in its transaction gets its end and its report; server.grace bounds it.
            self.running.wait().await;
            drop(reports);
            let _ = tokio::time::timeout(LAST_REPORTS, drain(tasks)).await;
        }
        result
    }

    async fn listen(
        &self,
        tasks: &mut Streaming<pb::QueueMessage>,
        reports: &Reports,
    ) -> Result<(), Status> {
        while let Some(message) = tasks.message().await? {
            match message.message {
                Some(FromQueue::Task(task)) => self.start(task, reports.clone()),
                Some(FromQueue::Cancel(cancel)) => {
                    if let Some(token) = lock(&self.cancels).remove(&cancel.task_id) {
                        token.cancel();
                    }
                }
                None => warn!("queued sent an empty message; has it another version?"),
            }
        }
        Ok(())
    }

    fn start(&self, task: pb::Task, reports: Reports) {
        let task_id = task.task_id;
        let stop = self.stop.child_token();
        lock(&self.cancels).insert(task_id, stop.clone());
        let cancels = self.cancels.clone();
        let deliverer = self.deliverer.clone();
        let queue = self.queue.clone();
        let token = self.running.token();
        // On the daemon's tracker too: a task outlives its stream until its transaction is over.
        self.deliverer.tracker.spawn(async move {
            let report = perform(task, &queue, &deliverer, &stop).await;
            lock(&cancels).remove(&task_id);
            if let Some(report) = report {
                // The stream may have broken; the ledger remembers what must not be done again.
                let _ = reports.send(to_queue(ToQueue::Report(report))).await;
            }
            drop(token);
        });
    }
}

fn lock(
    cancels: &Mutex<HashMap<u64, CancellationToken>>,
) -> std::sync::MutexGuard<'_, HashMap<u64, CancellationToken>> {
    // Whole between any two statements.
    cancels.lock().unwrap_or_else(PoisonError::into_inner)
}

fn to_queue(message: ToQueue) -> pb::AgentMessage {
    pb::AgentMessage {
        message: Some(message),
    }
}

/// Reads until queued has taken everything and ends the stream; tasks that still come are its own
/// again.
async fn drain(mut tasks: Streaming<pb::QueueMessage>) {
    while let Ok(Some(_)) = tasks.message().await {}
}

/// Delivers one task. None: it goes back without a report.
async fn perform(
    task: pb::Task,
    queue: &DeliveryAgentServiceClient<Channel>,
    deliverer: &Deliverer,
    stop: &CancellationToken,
) -> Option<pb::TaskReport> {
    let task_id = task.task_id;
    let indices: Vec<u32> = task.recipients.iter().map(|r| r.index).collect();
    let qid = QueueId::from(task.queue_id);
    let delivery = match Job::new(task, queue).await {
        Ok(job) => {
            let started = Instant::now();
            let delivery = deliverer.deliver(&job, stop).await?;
            metrics::histogram!("correo_remote_attempt_seconds")
                .record(started.elapsed().as_secs_f64());
            tell(&job, &delivery);
            delivery
        }
        Err(error) => {
            warn!(%qid, %error, "a task that cannot be understood");
            let outcome = Outcome::local(EnhancedCode::SYSTEM_TROUBLE, error.to_string());
            Delivery {
                attempts: vec![outcome.into(); indices.len()],
                down: false,
            }
        }
    };
    let outcomes = indices.into_iter().zip(&delivery.attempts);
    Some(pb::TaskReport {
        task_id,
        outcomes: outcomes
            .map(|(index, attempt)| pb::RecipientOutcome {
                index,
                outcome: Some((&attempt.outcome).into()),
                reports_passed_on: attempt.reports_passed_on,
            })
            .collect(),
        destination_down: delivery.down,
    })
}

/// The log's and the metrics' lines.
fn tell(job: &Job, delivery: &Delivery) {
    let qid = job.queue_id;
    let recipients = job.envelope.recipients.iter();
    for (recipient, attempt) in recipients.zip(&delivery.attempts) {
        let outcome = &attempt.outcome;
        let to = &recipient.address;
        let status = outcome.status;
        let diagnostic = outcome.diagnostic.as_str();
        let attempt = job.attempt;
        let mx = outcome.remote_mta.as_ref().map(ToString::to_string);
        let mx = mx.as_deref().unwrap_or("-");
        let result = match outcome.action {
            Action::Relayed | Action::Delivered | Action::Expanded => {
                info!(%qid, %to, mx, %status, attempt, diagnostic, "msg.delivered");
                "delivered"
            }
            Action::Delayed => {
                info!(%qid, %to, mx, %status, attempt, diagnostic, "msg.deferred");
                "deferred"
            }
            Action::Failed => {
                info!(%qid, %to, mx, %status, attempt, diagnostic, "msg.failed");
                "failed"
            }
        };
        metrics::counter!("correo_remote_recipients_total", "result" => result).increment(1);
    }
}
