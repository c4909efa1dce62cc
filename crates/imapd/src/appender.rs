//! Messages that are complete and small: those of all sessions go down one long stream, so that a
//! message costs no call of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mail_rpc::pb::mailbox::v1 as pb;
use pb::append_response::Result as Answer;
use pb::mailbox_service_client::MailboxServiceClient;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::answer::may_be_done;

/// Messages that may wait for the stream; each has at most a chunk's octets.
const WAITING: usize = 32;

/// The client of the stream. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Appender(mpsc::Sender<Request>);

#[derive(Debug)]
struct Request {
    message: pb::AppendRequest,
    answer: Told,
}

type Told = oneshot::Sender<Result<Answer, Status>>;

/// Who waits, by token. Dropped with the stream: then it is not known what became of a message.
type Waiting = Arc<Mutex<HashMap<u64, Told>>>;

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Lost {
    /// The message never went to the store.
    Refused(Status),
    /// It may be stored.
    Unknown,
}

impl From<Status> for Lost {
    fn from(status: Status) -> Self {
        if may_be_done(&status) {
            Self::Unknown
        } else {
            Self::Refused(status)
        }
    }
}

impl Appender {
    /// Starts the client on the current runtime; its task ends with its last clone.
    pub(crate) fn start(client: MailboxServiceClient<Channel>) -> Self {
        let (requests, queue) = mpsc::channel(WAITING);
        tokio::spawn(run(client, queue));
        Self(requests)
    }

    /// Appends one message, whose beginning and end are in the request. The token is set here.
    pub(crate) async fn append(&self, message: pb::AppendRequest) -> Result<Answer, Lost> {
        let (answer, told) = oneshot::channel();
        let sent = self.0.send(Request { message, answer }).await;
        sent.map_err(|_| Lost::Refused(Status::unavailable("shutting down")))?;
        match told.await {
            Ok(told) => told.map_err(Lost::Refused),
            Err(_) => Err(Lost::Unknown),
        }
    }
}

/// Opens one stream after the other, each when there is a message for it and until it breaks.
async fn run(mut client: MailboxServiceClient<Channel>, mut queue: mpsc::Receiver<Request>) {
    let mut token = 0;
    while let Some(first) = queue.recv().await {
        let (messages, outgoing) = mpsc::channel(WAITING);
        let waiting = Waiting::default();
        // Sent before the stream is open: the server may answer only with its first message.
        let _ = pass_on(first, &mut token, &messages, &waiting).await;
        let answers = match client.append(ReceiverStream::new(outgoing)).await {
            Ok(answers) => answers,
            Err(status) => {
                refuse_all(&status, &waiting, &mut queue);
                continue;
            }
        };
        let reader = hand_out(answers.into_inner(), &waiting);
        let writer = async {
            while let Some(request) = queue.recv().await {
                let passed = pass_on(request, &mut token, &messages, &waiting).await;
                if passed.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = reader => {}
            () = writer => {}
        }
    }
}

/// What went wrong is told to each who waits, and to those who came meanwhile: one after the other
/// each of them would wait for another try.
fn refuse_all(status: &Status, waiting: &Waiting, queue: &mut mpsc::Receiver<Request>) {
    if !may_be_done(status) {
        for (_, told) in lock(waiting).drain() {
            // Who does not wait any more has lost the client.
            let _ = told.send(Err(status.clone()));
        }
    }
    while let Ok(request) = queue.try_recv() {
        let _ = request.answer.send(Err(status.clone()));
    }
}

async fn pass_on(
    request: Request,
    token: &mut u64,
    messages: &mpsc::Sender<pb::AppendRequest>,
    waiting: &Waiting,
) -> Result<(), ()> {
    *token += 1;
    lock(waiting).insert(*token, request.answer);
    let message = pb::AppendRequest {
        token: *token,
        ..request.message
    };
    messages.send(message).await.map_err(|_| ())
}

async fn hand_out(mut answers: Streaming<pb::AppendResponse>, waiting: &Waiting) {
    while let Ok(Some(response)) = answers.message().await {
        let waits = lock(waiting).remove(&response.token);
        if let (Some(waits), Some(answer)) = (waits, response.result) {
            // Who does not wait any more has lost the client.
            let _ = waits.send(Ok(answer));
        }
    }
}

fn lock(waiting: &Waiting) -> MutexGuard<'_, HashMap<u64, Told>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::net::TcpListener;
    use tonic::transport::Endpoint;

    use super::*;

    #[tokio::test]
    async fn all_are_refused_with_the_one_whose_stream_fails() {
        // Takes connections, and breaks them a moment later.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let tries = Arc::new(AtomicUsize::new(0));
        let counted = tries.clone();
        tokio::spawn(async move {
            while let Ok((_connection, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        let channel = Endpoint::from_shared(address).unwrap().connect_lazy();
        let appender = Appender::start(MailboxServiceClient::new(channel));
        let each = (0..8).map(|_| {
            let appender = appender.clone();
            tokio::spawn(async move { appender.append(pb::AppendRequest::default()).await })
        });
        for told in each.collect::<Vec<_>>() {
            assert!(told.await.unwrap().is_err());
        }
        assert!(tries.load(Ordering::Relaxed) <= 2, "{tries:?}");
    }
}
