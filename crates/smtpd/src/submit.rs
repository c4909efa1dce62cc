//! Handing messages to queued: a few long streams that all sessions share.

mod stream;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mail_rpc::CHUNK_SIZE;
use mail_rpc::pb::queue::v1::submission_service_client::SubmissionServiceClient;
use mail_rpc::pb::queue::v1::{Envelope, SubmitRequest};
use mail_types::QueueId;
use smtp_proto::Refusal;
use tokio::sync::oneshot;
use tonic::transport::Channel;

use self::stream::Stream;

/// Streams to queued. More than one, so that a large message does not hold up small ones on the
/// way; few, since each batch that queued makes durable comes from what waits on them.
const LANES: usize = 4;
/// How long queued may take to make a message durable. A client waits ten minutes for our answer
/// (RFC 5321 §4.5.3.2.6).
const ANSWER_TIMEOUT: Duration = Duration::from_mins(5);
/// The wait before a broken stream is opened again: doubles from the first to the last. queued is
/// back within a second where it restarts, and is not to be hammered where it does not.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// How often a message tries to find a stream; together as long as the longest pause.
const TRIES: u32 = 4;
/// Failures in a row that make clients hear of it before they send content.
const FAILURES_TO_TELL: u32 = 3;

/// The client of `SubmissionService`.
#[derive(Debug)]
pub(crate) struct Submitter {
    client: SubmissionServiceClient<Channel>,
    lanes: Vec<Arc<Mutex<Lane>>>,
    next: AtomicUsize,
}

/// One stream after the other.
#[derive(Debug, Default)]
struct Lane {
    stream: Option<Arc<Stream>>,
    failures: u32,
    not_before: Option<Instant>,
}

/// A message on its way. Dropped without its end, it is aborted.
#[derive(Debug)]
pub(crate) struct Upload {
    stream: Arc<Stream>,
    token: u64,
    answer: oneshot::Receiver<Result<QueueId, Refusal>>,
    /// The first frame takes it along.
    envelope: Option<Box<Envelope>>,
    ended: bool,
}

impl Submitter {
    /// Uses a channel to queued's submission socket.
    pub(crate) fn new(channel: Channel) -> Self {
        Self {
            client: SubmissionServiceClient::new(channel),
            lanes: (0..LANES).map(|_| Arc::default()).collect(),
            next: AtomicUsize::new(0),
        }
    }

    /// Fails if queued has been out of reach for a while, so that clients need not send content
    /// in vain.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let down = |lane: &Arc<Mutex<Lane>>| lock(lane).failures >= FAILURES_TO_TELL;
        if self.lanes.iter().all(down) {
            // Somebody has to notice when it is back.
            return self.lane_stream().map(drop);
        }
        Ok(())
    }

    /// Begins a message; waits a little where queued is just away. Nothing is sent before its
    /// first piece.
    pub(crate) async fn begin(&self, envelope: Box<Envelope>) -> Result<Upload, Refusal> {
        let mut tries = 0;
        loop {
            tries += 1;
            let place = self.lane_stream().and_then(|stream| {
                let (token, answer) = stream.register().ok_or(Refusal::QueueUnavailable)?;
                Ok((stream, token, answer))
            });
            match place {
                Ok((stream, token, answer)) => {
                    return Ok(Upload {
                        stream,
                        token,
                        answer,
                        envelope: Some(envelope),
                        ended: false,
                    });
                }
                Err(refusal) if tries == TRIES => return Err(refusal),
                Err(_) => tokio::time::sleep(LAST_PAUSE / TRIES).await,
            }
        }
    }

    fn lane_stream(&self) -> Result<Arc<Stream>, Refusal> {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % LANES;
        let shared = self.lanes.get(index).ok_or(Refusal::QueueUnavailable)?;
        let mut lane = lock(shared);
        if let Some(stream) = lane.stream.as_ref().filter(|stream| stream.is_open()) {
            return Ok(stream.clone());
        }
        if lane.not_before.is_some_and(|at| Instant::now() < at) {
            return Err(Refusal::QueueUnavailable);
        }
        let over = {
            let shared = Arc::downgrade(shared);
            move |worked| {
                if let Some(lane) = shared.upgrade() {
                    lock(&lane).broke(worked);
                }
            }
        };
        let stream = Stream::open(self.client.clone(), over);
        lane.stream = Some(stream.clone());
        Ok(stream)
    }
}

impl Lane {
    /// The stream is over. `worked` tells if it was of any use.
    fn broke(&mut self, worked: bool) {
        self.failures = if worked { 0 } else { self.failures + 1 };
        let pause = FIRST_PAUSE * 2u32.saturating_pow(self.failures.min(10));
        self.not_before = Some(Instant::now() + pause.min(LAST_PAUSE));
        self.stream = None;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is kept under these locks is whole at each step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Upload {
    /// Sends a piece of content; waits where queued is slower than the client.
    pub(crate) async fn send(&mut self, piece: Vec<u8>) -> Result<(), Refusal> {
        let mut rest = Bytes::from(piece);
        while !rest.is_empty() {
            let data = rest.split_to(rest.len().min(CHUNK_SIZE));
            self.frame(data, false).await?;
        }
        Ok(())
    }

    /// Sends the last piece, and waits until the message is durable.
    pub(crate) async fn finish(mut self, piece: Vec<u8>) -> Result<QueueId, Refusal> {
        let mut rest = Bytes::from(piece);
        while rest.len() > CHUNK_SIZE {
            let data = rest.split_to(CHUNK_SIZE);
            self.frame(data, false).await?;
        }
        self.frame(rest, true).await?;
        match tokio::time::timeout(ANSWER_TIMEOUT, &mut self.answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(Refusal::QueueUnavailable),
        }
    }

    async fn frame(&mut self, data: Bytes, end: bool) -> Result<(), Refusal> {
        let request = SubmitRequest {
            token: self.token,
            envelope: self.envelope.take().map(|envelope| *envelope),
            data,
            end,
            abort: false,
        };
        // Set first: a frame that was sent by half is not to be followed by an abort of its own.
        self.ended |= end;
        self.stream.send(request).await
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let begun = self.envelope.is_none();
        self.stream.forget(self.token, begun && !self.ended);
    }
}
