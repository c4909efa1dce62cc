//! Reading messages: a pipelined client of `MailboxService.Fetch`.
//!
//! Small requests of all sessions share one long stream, so that a message costs no call of its
//! own. A request whose answer may be large gets a stream to itself: there HTTP/2's flow control
//! holds the server back when the reader is slow, and nobody else waits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::CHUNK_SIZE;
use crate::lane::Backoff;
use crate::pb::mailbox::v1 as pb;
use pb::fetch_response::Item;
use pb::mailbox_service_client::MailboxServiceClient;

/// The most octets that an answer on the shared stream may have. Answers wait in memory until
/// their reader takes them, so this times the sessions bounds that memory.
const SHARED_BYTES: u64 = 256 * 1024;
/// The most messages of one request on the shared stream.
const SHARED_MESSAGES: u64 = 16;
/// The same where whole messages come packed: as many as localdeliver reads at a time.
const SHARED_PACKED: u64 = 256;
/// What a summary may take; longer ones are rare, and only cost a stream of their own.
const SUMMARY_BYTES: u64 = 8 * 1024;
/// How many requests may wait for the shared stream before askers wait themselves.
const REQUESTS: usize = 1024;

/// The client. Clones share the stream.
#[derive(Clone, Debug)]
pub struct Fetcher {
    client: MailboxServiceClient<Channel>,
    requests: mpsc::Sender<Request>,
}

#[derive(Debug)]
struct Request {
    message: pb::FetchRequest,
    items: mpsc::Sender<Result<Item, Status>>,
}

/// The answer: items in the order of the contract. The last one is `Item::Done`.
#[derive(Debug)]
pub struct Fetched(Source);

#[derive(Debug)]
enum Source {
    Own(Box<Streaming<pb::FetchResponse>>),
    Shared(mpsc::Receiver<Result<Item, Status>>),
}

impl Fetcher {
    /// Starts the client on the current runtime; its task ends with its last clone.
    pub fn start(channel: Channel) -> Self {
        let client = MailboxServiceClient::new(channel);
        let (requests, queue) = mpsc::channel(REQUESTS);
        tokio::spawn(run_shared(client.clone(), queue));
        Self { client, requests }
    }

    /// Asks for messages. The id is set here. `content_bytes` is how many octets of content the
    /// answer can have at most, which the caller knows from the mailbox's snapshot.
    pub async fn fetch(
        &self,
        message: pb::FetchRequest,
        content_bytes: u64,
    ) -> Result<Fetched, Status> {
        let messages = message.uids.as_ref().map_or(0, count);
        let summaries = if message.summary {
            messages.saturating_mul(SUMMARY_BYTES)
        } else {
            0
        };
        let bytes = content_bytes.saturating_add(summaries);
        // Of whole messages that come packed the octets alone count.
        let counted = !message.pieces.is_empty() && message.pieces.iter().all(is_whole);
        let most = if counted {
            SHARED_PACKED
        } else {
            SHARED_MESSAGES
        };
        if messages > most || bytes > SHARED_BYTES {
            return self.fetch_alone(message).await;
        }
        // Room for all that can come: the shared stream never waits for one reader.
        let items = if counted { 1 } else { 3 * messages };
        let room = content_bytes / CHUNK_SIZE as u64 + items + 2;
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let (items, receiver) = mpsc::channel(room);
        self.requests
            .send(Request { message, items })
            .await
            .map_err(|_| Status::unavailable("the client is shutting down"))?;
        Ok(Fetched(Source::Shared(receiver)))
    }

    async fn fetch_alone(&self, message: pb::FetchRequest) -> Result<Fetched, Status> {
        let requests = tokio_stream::once(message);
        let stream = self.client.clone().fetch(requests).await?.into_inner();
        Ok(Fetched(Source::Own(Box::new(stream))))
    }
}

impl Fetched {
    /// The next item; `None` behind the last one.
    pub async fn next(&mut self) -> Option<Result<Item, Status>> {
        match &mut self.0 {
            Source::Shared(items) => items.recv().await,
            Source::Own(stream) => match stream.next().await? {
                Ok(response) => response.item.map(Ok),
                Err(status) => Some(Err(status)),
            },
        }
    }
}

fn is_whole(piece: &pb::Piece) -> bool {
    piece.kind() == pb::piece::Kind::Section
        && piece.section() == pb::piece::Section::Whole
        && piece.path.is_empty()
        && piece.fields.is_empty()
        && !piece.fields_not
}

fn count(set: &pb::UidSet) -> u64 {
    let ranges = set.bounds.chunks(2);
    ranges
        .map(|range| match range {
            [low, high] => u64::from(high.saturating_sub(*low)) + 1,
            _ => 0,
        })
        .sum()
}

type Readers = Arc<Mutex<HashMap<u64, mpsc::Sender<Result<Item, Status>>>>>;

/// Sends requests down one stream after the other, each until it breaks.
async fn run_shared(mut client: MailboxServiceClient<Channel>, mut queue: mpsc::Receiver<Request>) {
    let mut backoff = Backoff::new();
    let mut next_id = 0;
    while let Some(first) = queue.recv().await {
        let (requests, outgoing) = mpsc::channel(REQUESTS);
        let readers = Readers::default();
        // Sent before the stream is open: the server may answer only with its first request.
        let _ = pass_on(first, &mut next_id, &requests, &readers).await;
        match client.fetch(ReceiverStream::new(outgoing)).await {
            Ok(responses) => {
                backoff.reset();
                let reader = hand_out(responses.into_inner(), &readers);
                let writer = async {
                    while let Some(request) = queue.recv().await {
                        if pass_on(request, &mut next_id, &requests, &readers)
                            .await
                            .is_err()
                        {
                            return;
                        }
                    }
                };
                tokio::select! {
                    () = reader => {}
                    () = writer => {}
                }
                fail_all(&readers, &Status::unavailable("the mailbox stream broke"));
            }
            Err(status) => {
                fail_all(&readers, &status);
                backoff.wait().await;
            }
        }
    }
}

async fn pass_on(
    request: Request,
    next_id: &mut u64,
    requests: &mpsc::Sender<pb::FetchRequest>,
    readers: &Readers,
) -> Result<(), ()> {
    *next_id += 1;
    let message = pb::FetchRequest {
        id: *next_id,
        ..request.message
    };
    lock(readers).insert(*next_id, request.items);
    requests.send(message).await.map_err(|_| ())
}

async fn hand_out(mut responses: Streaming<pb::FetchResponse>, readers: &Readers) {
    while let Ok(Some(response)) = responses.message().await {
        let Some(item) = response.item else { continue };
        let mut readers = lock(readers);
        let done = matches!(item, Item::Done(_));
        let Some(reader) = readers.get(&response.id) else {
            continue;
        };
        // Full means more came than the request can have as answer; gone means nobody waits.
        let kept = reader.try_send(Ok(item)).is_ok();
        if done || !kept {
            readers.remove(&response.id);
        }
    }
}

fn fail_all(readers: &Readers, status: &Status) {
    for (_, reader) in lock(readers).drain() {
        // A reader without room has lost items already and sees its channel end.
        let _ = reader.try_send(Err(status.clone()));
    }
}

fn lock(readers: &Readers) -> MutexGuard<'_, HashMap<u64, mpsc::Sender<Result<Item, Status>>>> {
    readers.lock().unwrap_or_else(PoisonError::into_inner)
}
