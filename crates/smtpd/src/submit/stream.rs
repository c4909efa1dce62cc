use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use mail_rpc::pb::queue::v1::submission_service_client::SubmissionServiceClient;
use mail_rpc::pb::queue::v1::submit_response::Result as Answer;
use mail_rpc::pb::queue::v1::{SubmitRefused, SubmitRequest, SubmitResponse};
use mail_types::{EnhancedCode, QueueId};
use smtp_proto::Refusal;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use tracing::{debug, warn};

use super::lock;

/// Frames of at most 64 KiB that wait for queued before senders wait: some MiB a stream.
const FRAMES: usize = 32;

type Waiting = HashMap<u64, oneshot::Sender<Result<QueueId, Refusal>>>;

/// One stream, from its opening until it breaks.
#[derive(Debug)]
pub(super) struct Stream {
    requests: mpsc::Sender<SubmitRequest>,
    /// Who waits for an answer; `None` once the stream is over.
    waiting: Mutex<Option<Waiting>>,
    next_token: AtomicU64,
}

impl Stream {
    /// Opens a stream; `over` is called once it is over, with whether it ever answered.
    pub(super) fn open(
        client: SubmissionServiceClient<Channel>,
        over: impl FnOnce(bool) + Send + 'static,
    ) -> Arc<Self> {
        let (requests, queue) = mpsc::channel(FRAMES);
        let stream = Arc::new(Self {
            requests,
            waiting: Mutex::new(Some(Waiting::new())),
            next_token: AtomicU64::new(1),
        });
        let running = stream.clone();
        tokio::spawn(async move {
            let worked = running.run(client, queue).await;
            // Nobody may wait on it any more before another stream is opened.
            let waiting = lock(&running.waiting).take();
            for (_, answer) in waiting.into_iter().flatten() {
                let _ = answer.send(Err(Refusal::QueueUnavailable));
            }
            over(worked);
        });
        stream
    }

    async fn run(
        &self,
        mut client: SubmissionServiceClient<Channel>,
        queue: mpsc::Receiver<SubmitRequest>,
    ) -> bool {
        let responses = match client.submit(ReceiverStream::new(queue)).await {
            Ok(response) => response.into_inner(),
            Err(status) => {
                warn!(error = status.message(), "queued cannot be reached");
                return false;
            }
        };
        self.read(responses).await
    }

    async fn read(&self, mut responses: Streaming<SubmitResponse>) -> bool {
        let mut worked = false;
        loop {
            match responses.message().await {
                Ok(Some(response)) => {
                    worked = true;
                    self.answered(response);
                }
                Ok(None) => {
                    debug!("queued ended the stream");
                    return worked;
                }
                Err(status) => {
                    warn!(error = status.message(), "the stream to queued broke");
                    return worked;
                }
            }
        }
    }

    fn answered(&self, response: SubmitResponse) {
        let waiting = lock(&self.waiting)
            .as_mut()
            .and_then(|waiting| waiting.remove(&response.token));
        // Nobody waits where the client went away, which does not undo what queued has.
        if let Some(answer) = waiting {
            let _ = answer.send(result(response));
        }
    }

    pub(super) fn is_open(&self) -> bool {
        lock(&self.waiting).is_some()
    }

    /// A place for a message, or `None` if the stream is over.
    pub(super) fn register(&self) -> Option<(u64, oneshot::Receiver<Result<QueueId, Refusal>>)> {
        let token = self.next_token.fetch_add(1, Ordering::Relaxed);
        let (answer, receiver) = oneshot::channel();
        lock(&self.waiting).as_mut()?.insert(token, answer);
        Some((token, receiver))
    }

    pub(super) async fn send(&self, request: SubmitRequest) -> Result<(), Refusal> {
        let sent = self.requests.send(request).await;
        sent.map_err(|_| Refusal::QueueUnavailable)
    }

    /// Nobody waits for that message any more; `abort` if queued is to forget it too.
    pub(super) fn forget(&self, token: u64, abort: bool) {
        if let Some(waiting) = lock(&self.waiting).as_mut() {
            waiting.remove(&token);
        }
        if !abort {
            return;
        }
        let request = SubmitRequest {
            token,
            abort: true,
            ..SubmitRequest::default()
        };
        if let Err(mpsc::error::TrySendError::Full(request)) = self.requests.try_send(request) {
            let requests = self.requests.clone();
            tokio::spawn(async move {
                // An error means that the stream broke, which aborts too.
                let _ = requests.send(request).await;
            });
        }
    }
}

fn result(response: SubmitResponse) -> Result<QueueId, Refusal> {
    match response.result {
        Some(Answer::Accepted(accepted)) => Ok(accepted.queue_id.into()),
        Some(Answer::Refused(refused)) => Err(refusal(refused)),
        None => Err(Refusal::QueueUnavailable),
    }
}

fn refusal(refused: SubmitRefused) -> Refusal {
    let status = refused.status.map(EnhancedCode::try_from);
    match status {
        Some(Ok(EnhancedCode::SYSTEM_FULL)) => Refusal::QueueFull,
        Some(Ok(status)) => Refusal::Queue {
            status,
            text: refused.reason,
        },
        _ => Refusal::QueueUnavailable,
    }
}
