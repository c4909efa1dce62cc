//! One submission stream.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mail_rpc::CHUNK_SIZE;
use mail_rpc::pb::queue::v1 as pb;
use mail_types::{EnhancedCode, QueueId, StatusClass};
use queue_store::{Message, Op, StoreError};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::{Status, Streaming};
use tracing::{debug, error, info};

use super::upload::{Complete, IN_MEMORY, Share, Upload};
use crate::convert;
use crate::driver::Event;
use crate::queue::Queue;
use crate::scheduler::Accepted;

type Responses = mpsc::Sender<Result<pb::SubmitResponse, Status>>;
/// A place in the stream of answers: sending never waits, not even on the committer's thread.
type Slot = mpsc::OwnedPermit<Result<pb::SubmitResponse, Status>>;

/// What a message takes in memory besides its content, about.
const OVERHEAD: usize = 1024;

/// How long the directory may take before a message is accepted without its recipients' ways: they
/// are found later.
const RESOLVE_WAIT: Duration = Duration::from_secs(1);

/// Why a message is not taken: the status and a sentence.
pub(super) type Refusal = (EnhancedCode, String);

struct Intake {
    queue: Queue,
    responses: Responses,
    uploads: HashMap<u64, Open>,
}

/// A message that is coming in.
enum Open {
    /// It will be refused at its end; what still comes is thrown away.
    Refused(Refusal),
    Upload(Box<Upload>),
}

/// Reads the stream to its end. Messages that are not ended by then are forgotten.
pub(super) async fn run(
    queue: Queue,
    mut requests: Streaming<pb::SubmitRequest>,
    responses: Responses,
) {
    let shutdown = queue.shutdown.clone();
    let mut intake = Intake {
        queue,
        responses,
        uploads: HashMap::new(),
    };
    loop {
        let request = tokio::select! {
            // Those that have begun are finished; new ones are refused.
            () = shutdown.cancelled(), if intake.uploads.is_empty() => break,
            request = requests.message() => request,
        };
        match request {
            Ok(Some(request)) => {
                if let Err(status) = intake.handle(request).await {
                    // Nobody may read it any more.
                    let _ = intake.responses.send(Err(status)).await;
                    break;
                }
            }
            Ok(None) => break,
            Err(status) => {
                debug!(%status, "submission stream broke");
                break;
            }
        }
    }
    for (_, open) in intake.uploads.drain() {
        if let Open::Upload(upload) = open {
            upload.discard();
        }
    }
}

impl Intake {
    async fn handle(&mut self, request: pb::SubmitRequest) -> Result<(), Status> {
        if request.data.len() > CHUNK_SIZE {
            return Err(Status::invalid_argument(
                "a frame has at most 64 KiB of data",
            ));
        }
        let token = request.token;
        if request.abort {
            if let Some(Open::Upload(upload)) = self.uploads.remove(&token) {
                upload.discard();
            }
            return Ok(());
        }
        match request.envelope {
            Some(envelope) if request.end => self.whole(token, envelope, request.data).await,
            Some(envelope) => {
                let open = self.begin(envelope);
                if let Some(known) = self.uploads.insert(token, open) {
                    if let Open::Upload(upload) = known {
                        upload.discard();
                    }
                    return Err(Status::invalid_argument("the token is in use"));
                }
                self.piece(token, request.data, false).await
            }
            None => self.piece(token, request.data, request.end).await,
        }
    }

    /// A message in one frame: nearly all of them.
    async fn whole(
        &mut self,
        token: u64,
        envelope: pb::Envelope,
        data: Bytes,
    ) -> Result<(), Status> {
        let slot = self.slot().await?;
        let weight = u32::try_from(data.len() + OVERHEAD).unwrap_or(u32::MAX);
        // More than all there is would wait for ever.
        let most = self.queue.incoming_total;
        let incoming = self.queue.incoming.clone();
        let permit = incoming.acquire_many_owned(weight.min(most)).await;
        let permit = permit.map_err(|_| Status::unavailable("shutting down"))?;
        let message = match self.message(envelope) {
            Ok(message) => message,
            Err(refusal) => {
                refuse(slot, token, refusal);
                return Ok(());
            }
        };
        let complete = Complete {
            message,
            put_chunks: 0,
            tail: Some(data)
                .filter(|data| !data.is_empty())
                .into_iter()
                .collect(),
            share: Share::Whole { _permit: permit },
        };
        self.finish(token, slot, complete).await;
        Ok(())
    }

    fn begin(&self, envelope: pb::Envelope) -> Open {
        let message = match self.message(envelope) {
            Ok(message) => message,
            Err(refusal) => return Open::Refused(refusal),
        };
        let share = IN_MEMORY.saturating_mul(u32::try_from(CHUNK_SIZE).unwrap_or(u32::MAX));
        let Ok(permit) = self.queue.uploads.clone().try_acquire_many_owned(share) else {
            let why = "too much mail is coming in at the moment";
            return Open::Refused((EnhancedCode::SYSTEM_FULL, why.into()));
        };
        let committer = self.queue.committer.clone();
        Open::Upload(Box::new(Upload::new(committer, message, permit)))
    }

    async fn piece(&mut self, token: u64, data: Bytes, end: bool) -> Result<(), Status> {
        let Some(open) = self.uploads.get_mut(&token) else {
            return Err(Status::invalid_argument("no message with that token"));
        };
        if let Open::Upload(upload) = open
            && let Err(failure) = upload.push(data).await
        {
            if failure.is_fatal() {
                self.queue.shutdown.cancel();
            }
            let refused = Open::Refused(refusal(&failure));
            if let Open::Upload(upload) = std::mem::replace(open, refused) {
                upload.discard();
            }
        }
        if !end {
            return Ok(());
        }
        let slot = self.slot().await?;
        match self.uploads.remove(&token) {
            Some(Open::Upload(upload)) => {
                self.finish(token, slot, upload.end()).await;
            }
            Some(Open::Refused(refusal)) => refuse(slot, token, refusal),
            None => {}
        }
        Ok(())
    }

    /// Waits while `stream_window` answers are due or unread.
    async fn slot(&self) -> Result<Slot, Status> {
        let slot = self.responses.clone().reserve_owned().await;
        slot.map_err(|_| Status::cancelled("nobody reads the answers"))
    }

    fn message(&self, envelope: pb::Envelope) -> Result<Message, Refusal> {
        if self.queue.shutdown.is_cancelled() {
            return Err((EnhancedCode::SHUTTING_DOWN, "shutting down".into()));
        }
        if envelope.recipients.len() > self.queue.settings().max_recipients {
            let status = EnhancedCode::TOO_MANY_RECIPIENTS;
            return Err((status, "too many recipients".into()));
        }
        let id = self.queue.store.new_id().map_err(|failure| {
            if failure.is_fatal() {
                self.queue.shutdown.cancel();
            }
            refusal(&failure)
        })?;
        convert::message(id, envelope).map_err(|error| {
            let status = EnhancedCode::UNDEFINED_FAILURE.with_class(StatusClass::Permanent);
            (status, error.to_string())
        })
    }

    /// All is here: it finds its way. Where that has to wait for something, others come in meanwhile.
    async fn finish(&self, token: u64, slot: Slot, complete: Complete) {
        let queue = self.queue.clone();
        let mut finishing: Pin<Box<dyn Future<Output = ()> + Send>> =
            Box::pin(finish(queue, token, slot, complete));
        // Nearly always all ways are known, and another task would only cost.
        let begun = poll_fn(|cx| Poll::Ready(finishing.as_mut().poll(cx))).await;
        if begun.is_pending() {
            self.queue.tracker.spawn(finishing);
        }
    }
}

/// Finds the recipients' ways, makes the message durable, answers.
async fn finish(queue: Queue, token: u64, slot: Slot, complete: Complete) {
    let begun = Instant::now();
    let Complete {
        mut message,
        put_chunks,
        tail,
        share,
    } = complete;
    if let Share::Pieces(writing) = &share
        && let Err(failure) = writing.written().await
    {
        return failed(&queue, slot, token, message.id, &failure);
    }
    let resolving = timeout(RESOLVE_WAIT, queue.router.resolve(&message));
    let resolved = resolving.await.unwrap_or_default();
    let now = queue.clock.now().wall;
    let tail_octets: usize = tail.iter().map(Bytes::len).sum();
    message.size = u64::from(put_chunks) * CHUNK_SIZE as u64 + tail_octets as u64;
    message.accepted_at = now;
    resolved.apply(&mut message, now);
    let message = Arc::new(message);
    let content = match (put_chunks, tail.as_slice()) {
        (0, []) => Some(Bytes::new()),
        (0, [only]) => Some(only.clone()),
        _ => None,
    };
    let accepted = Accepted {
        message: message.clone(),
        content,
    };
    let insert = Op::Insert {
        message,
        put_chunks,
        tail,
    };
    let committer = queue.committer.clone();
    let done = move |result: Result<(), StoreError>| match result {
        Ok(()) => {
            accept(slot, token, &accepted.message, begun);
            queue.tell(Event::Accepted(accepted, Some(share)));
        }
        Err(failure) => failed(&queue, slot, token, accepted.message.id, &failure),
    };
    committer.submit(vec![insert], Box::new(done));
}

fn failed(queue: &Queue, slot: Slot, token: u64, id: QueueId, failure: &StoreError) {
    error!(qid = %id, %failure, "msg.refused");
    refuse(slot, token, refusal(failure));
    if failure.is_fatal() {
        // The record may be on disk, and then the message is whole: only the next start knows.
        queue.shutdown.cancel();
    } else {
        queue.committer.discard(id);
    }
}

fn accept(slot: Slot, token: u64, message: &Message, begun: Instant) {
    let id = message.id;
    let envelope = &message.envelope;
    metrics::counter!("queued_accepted_total").increment(1);
    metrics::histogram!("queued_accept_seconds").record(begun.elapsed().as_secs_f64());
    info!(
        qid = %id, sid = envelope.session_id, from = %envelope.reverse_path,
        recipients = message.recipients.len(), size = message.size, peer = envelope.origin.peer,
        "msg.accepted"
    );
    let accepted = pb::SubmitAccepted { queue_id: id.get() };
    let result = Some(pb::submit_response::Result::Accepted(accepted));
    slot.send(Ok(pb::SubmitResponse { token, result }));
}

fn refuse(slot: Slot, token: u64, (status, reason): Refusal) {
    metrics::counter!("queued_refused_total").increment(1);
    let refused = pb::SubmitRefused {
        status: Some(status.into()),
        reason,
    };
    let result = Some(pb::submit_response::Result::Refused(refused));
    slot.send(Ok(pb::SubmitResponse { token, result }));
}

fn refusal(failure: &StoreError) -> Refusal {
    match failure {
        StoreError::Full { .. } => (EnhancedCode::SYSTEM_FULL, "no room to store mail".into()),
        // The details are in our log; they are not for strangers.
        _ => (
            EnhancedCode::SYSTEM_FULL,
            "mail cannot be stored at the moment".into(),
        ),
    }
}
