//! What an address leads to: a pipelined client of `DirectoryService` with a cache that a change
//! in the directory empties at once.
//!
//! A cached answer is only used while the change feed is up, and an answer that was asked for
//! before a change is not kept: a change counts from the moment it is told, everywhere.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use lru::LruCache;
use mail_types::{AccountId, EmailAddress};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::convert::ConvertError;
use crate::lane::Backoff;
use crate::pb::directory::v1 as pb;
use pb::directory_service_client::DirectoryServiceClient;

/// A mailbox of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Its own address, as it was created.
    pub address: EmailAddress,
    /// Bytes; 0 is no limit.
    pub quota_bytes: u64,
}

/// What an address is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// A mailbox of ours.
    Account(Account),
    /// A name for other addresses, which are to be resolved in turn.
    Alias(Arc<[EmailAddress]>),
    /// The domain is ours, the user is not there.
    NoSuchUser,
    /// The domain is not ours.
    NotLocal,
}

/// The directory cannot say now; the same question may be answered later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the directory does not answer: {0}")]
pub struct DirectoryUnavailable(String);

/// The client. Clones share the stream and the cache.
#[derive(Clone, Debug)]
pub struct Directory {
    shared: Arc<Shared>,
    questions: mpsc::Sender<Question>,
}

#[derive(Debug)]
struct Shared {
    cache: Mutex<Cache>,
}

#[derive(Debug)]
struct Cache {
    entries: LruCache<String, Resolution>,
    /// Counts what emptied the cache.
    generation: u64,
    /// The change feed is up.
    trusted: bool,
}

#[derive(Debug)]
struct Question {
    address: String,
    answer: oneshot::Sender<Result<Resolution, DirectoryUnavailable>>,
}

type Pending = Arc<Mutex<HashMap<u64, oneshot::Sender<Result<Resolution, DirectoryUnavailable>>>>>;

/// How many questions may wait for the stream before askers wait themselves.
const QUESTIONS: usize = 1024;
/// How long an answer may take: a client of ours waits for it in the middle of a command.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

impl Directory {
    /// Starts the client on the current runtime; its tasks end with its last clone. `capacity` is
    /// the most addresses that are cached.
    pub fn start(channel: Channel, capacity: NonZeroUsize) -> Self {
        let cache = Cache {
            entries: LruCache::new(capacity),
            generation: 0,
            trusted: false,
        };
        let shared = Arc::new(Shared {
            cache: Mutex::new(cache),
        });
        let (questions, queue) = mpsc::channel(QUESTIONS);
        let client = DirectoryServiceClient::new(channel);
        tokio::spawn(answer_questions(client.clone(), queue));
        tokio::spawn(follow_changes(client, Arc::downgrade(&shared)));
        Self { shared, questions }
    }

    /// Says what the address is.
    pub async fn resolve(
        &self,
        address: &EmailAddress,
    ) -> Result<Resolution, DirectoryUnavailable> {
        let key = address.folded();
        let generation = {
            let mut cache = self.shared.lock();
            if cache.trusted
                && let Some(known) = cache.entries.get(&key)
            {
                return Ok(known.clone());
            }
            cache.generation
        };
        let (answer, wait) = oneshot::channel();
        let question = Question {
            address: address.to_string(),
            answer,
        };
        let gone = || DirectoryUnavailable("the client is shutting down".to_owned());
        self.questions.send(question).await.map_err(|_| gone())?;
        let slow = |_| DirectoryUnavailable("no answer in time".to_owned());
        let resolution = timeout(ANSWER_TIMEOUT, wait)
            .await
            .map_err(slow)?
            .map_err(|_| gone())??;
        let mut cache = self.shared.lock();
        if cache.trusted && cache.generation == generation {
            cache.entries.put(key, resolution.clone());
        }
        Ok(resolution)
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Cache> {
        // A cache is as good after a panic elsewhere as before.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, trusted: bool) {
        let mut cache = self.lock();
        cache.entries.clear();
        cache.generation += 1;
        cache.trusted = trusted;
    }
}

/// Keeps the change feed up for as long as the client lives.
async fn follow_changes(mut client: DirectoryServiceClient<Channel>, shared: Weak<Shared>) {
    let mut backoff = Backoff::new();
    while shared.strong_count() > 0 {
        if let Ok(feed) = client.watch_changes(pb::WatchChangesRequest {}).await {
            let mut feed = feed.into_inner();
            while let Ok(Some(_)) = feed.message().await {
                let Some(shared) = shared.upgrade() else {
                    return;
                };
                shared.forget(true);
                backoff.reset();
            }
        }
        let Some(alive) = shared.upgrade() else {
            return;
        };
        alive.forget(false);
        drop(alive);
        backoff.wait().await;
    }
}

/// Sends questions down one stream after the other, each until it breaks.
async fn answer_questions(
    mut client: DirectoryServiceClient<Channel>,
    mut questions: mpsc::Receiver<Question>,
) {
    let mut backoff = Backoff::new();
    let mut next_id = 0;
    while let Some(first) = questions.recv().await {
        let (requests, queue) = mpsc::channel(QUESTIONS);
        let pending = Pending::default();
        // Asked before the stream is open: the server may answer only with its first request.
        let _ = ask(first, &mut next_id, &requests, &pending).await;
        match client.resolve(ReceiverStream::new(queue)).await {
            Ok(answers) => {
                backoff.reset();
                let reader = read_answers(answers.into_inner(), pending.clone());
                let writer = async {
                    while let Some(question) = questions.recv().await {
                        if ask(question, &mut next_id, &requests, &pending)
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
                fail_all(&pending, "the stream broke");
            }
            Err(status) => {
                fail_all(&pending, status.message());
                backoff.wait().await;
            }
        }
    }
}

async fn ask(
    question: Question,
    next_id: &mut u64,
    requests: &mpsc::Sender<pb::ResolveRequest>,
    pending: &Pending,
) -> Result<(), ()> {
    *next_id += 1;
    let id = *next_id;
    lock(pending).insert(id, question.answer);
    let request = pb::ResolveRequest {
        id,
        address: question.address,
    };
    requests.send(request).await.map_err(|_| ())
}

async fn read_answers(mut answers: Streaming<pb::ResolveResponse>, pending: Pending) {
    while let Ok(Some(response)) = answers.message().await {
        let id = response.id;
        if let Some(answer) = lock(&pending).remove(&id) {
            // The asker may have gone; then nobody wants to know.
            let _ = answer.send(resolution(response));
        }
    }
}

fn fail_all(pending: &Pending, why: &str) {
    for (_, answer) in lock(pending).drain() {
        let _ = answer.send(Err(DirectoryUnavailable(why.to_owned())));
    }
}

fn lock(
    pending: &Pending,
) -> std::sync::MutexGuard<
    '_,
    HashMap<u64, oneshot::Sender<Result<Resolution, DirectoryUnavailable>>>,
> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

fn resolution(response: pb::ResolveResponse) -> Result<Resolution, DirectoryUnavailable> {
    use pb::resolve_response::Result as Answer;
    let nonsense = |error: ConvertError| DirectoryUnavailable(error.to_string());
    match response.result {
        Some(Answer::Account(account)) => account
            .try_into()
            .map(Resolution::Account)
            .map_err(nonsense),
        Some(Answer::Alias(alias)) => {
            let targets = alias.targets.iter().map(|target| target.parse());
            let targets = targets.collect::<Result<_, _>>();
            targets
                .map(Resolution::Alias)
                .map_err(|_| nonsense(ConvertError::new("alias target")))
        }
        Some(Answer::NoSuchUser(_)) => Ok(Resolution::NoSuchUser),
        Some(Answer::NotLocal(_)) => Ok(Resolution::NotLocal),
        Some(Answer::Unavailable(unavailable)) => Err(DirectoryUnavailable(unavailable.reason)),
        None => Err(nonsense(ConvertError::new("resolution"))),
    }
}

impl TryFrom<pb::Account> for Account {
    type Error = ConvertError;

    fn try_from(account: pb::Account) -> Result<Self, ConvertError> {
        let address = account
            .address
            .parse()
            .map_err(|_| ConvertError::new("account"))?;
        let id = AccountId::from(account.account_id);
        Ok(Self {
            id,
            address,
            quota_bytes: account.quota_bytes,
        })
    }
}

impl From<&Account> for pb::Account {
    fn from(account: &Account) -> Self {
        Self {
            account_id: account.id.get(),
            address: account.address.to_string(),
            quota_bytes: account.quota_bytes,
        }
    }
}
