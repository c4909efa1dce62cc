//! The store for asynchronous code: every access runs on the blocking pool, and mail that comes in
//! on threads of its own, which write together whatever waits.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::anyhow;
use jiff::Timestamp;
use mail_types::AccountId;
use mailbox_store::{
    Account, Applied, ApplyError, Deliver, Delivery, MailStore, Operation, StoreError,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::error;

type Outcome = StoreResult<Result<Applied, ApplyError>>;

/// A message that waits for a writer.
#[derive(Debug)]
struct Incoming {
    delivery: Delivery,
    done: oneshot::Sender<Outcome>,
}

/// What a call of the store ends in.
pub(crate) type StoreResult<T> = Result<T, Arc<StoreError>>;

/// Threads for mail that comes in: one prepares the next batch while the other waits for the disk.
const WRITERS: usize = 2;
/// Messages that may wait for them; their octets are counted by the budgets of those who wait.
const WAITING: usize = 1024;
/// Messages and octets of one batch. More of them would not make it cheaper, only later.
const BATCH: usize = 512;
const BATCH_OCTETS: usize = 8 * 1024 * 1024;

/// The mail store. Clones are the same store.
#[derive(Clone, Debug)]
pub(crate) struct Stores {
    store: Arc<MailStore>,
    incoming: mpsc::Sender<Incoming>,
    shutdown: CancellationToken,
    fatal: Arc<Mutex<Option<String>>>,
}

impl Stores {
    /// Needs threads, which a system may refuse.
    pub(crate) fn new(store: MailStore, shutdown: CancellationToken) -> std::io::Result<Self> {
        let store = Arc::new(store);
        let (incoming, waiting) = mpsc::channel(WAITING);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..WRITERS {
            let (store, waiting) = (Arc::downgrade(&store), waiting.clone());
            std::thread::Builder::new()
                .name("mail-writer".to_owned())
                .spawn(move || write(&store, &waiting))?;
        }
        Ok(Self {
            store,
            incoming,
            shutdown,
            fatal: Arc::default(),
        })
    }

    /// Puts a message into an account, durably, with all others that wait.
    pub(crate) async fn deliver(&self, account: AccountId, deliver: Deliver) -> Outcome {
        let deliver = Box::new(deliver);
        let (done, told) = oneshot::channel();
        let incoming = Incoming {
            delivery: Delivery { account, deliver },
            done,
        };
        let gone = || Arc::new(StoreError::Engine("the writers have ended".to_owned()));
        if self.incoming.send(incoming).await.is_err() {
            return Err(gone());
        }
        let outcome = told.await.unwrap_or_else(|_| Err(gone()));
        if let Err(error) = &outcome {
            self.look_at(error);
        }
        outcome
    }

    /// Runs something with an account on the blocking pool.
    pub(crate) async fn with<T: Send + 'static>(
        &self,
        account: AccountId,
        work: impl FnOnce(&Account) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        self.run(move |store| {
            let account = store.account(account, now())?;
            work(&account)
        })
        .await
    }

    /// Runs something with the whole store on the blocking pool.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&MailStore) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let store = self.store.clone();
        let joined = tokio::task::spawn_blocking(move || work(&store)).await;
        let result = joined.unwrap_or_else(|panic| {
            Err(Arc::new(StoreError::Engine(format!(
                "the store's code panicked: {panic}"
            ))))
        });
        if let Err(error) = &result {
            self.look_at(error);
        }
        result
    }

    /// Does one operation, durably.
    pub(crate) async fn apply(
        &self,
        account: AccountId,
        operation: Operation,
    ) -> StoreResult<Result<Applied, ApplyError>> {
        self.with(account, move |account| account.apply(operation, now()))
            .await
    }

    pub(crate) async fn remove_account(&self, account: AccountId) -> StoreResult<()> {
        let store = self.store.clone();
        let joined = tokio::task::spawn_blocking(move || store.remove_account(account)).await;
        match joined {
            Ok(result) => result.map_err(Arc::new),
            Err(panic) => Err(Arc::new(StoreError::Engine(panic.to_string()))),
        }
    }

    /// The error for which the process has to end, if there is one.
    pub(crate) fn result(&self) -> anyhow::Result<()> {
        let fatal = self.fatal.lock().unwrap_or_else(PoisonError::into_inner);
        fatal
            .as_ref()
            .map_or(Ok(()), |error| Err(anyhow!("{error}")))
    }

    fn look_at(&self, error: &StoreError) {
        if !error.is_fatal() {
            error!(%error, "store error");
            return;
        }
        error!(%error, "store.failed");
        let mut fatal = self.fatal.lock().unwrap_or_else(PoisonError::into_inner);
        fatal.get_or_insert_with(|| error.to_string());
        self.shutdown.cancel();
    }
}

/// Writes batch after batch until nobody can send any more.
fn write(store: &Weak<MailStore>, waiting: &Mutex<mpsc::Receiver<Incoming>>) {
    loop {
        let batch = next_batch(&mut waiting.lock().unwrap_or_else(PoisonError::into_inner));
        let Some(store) = store.upgrade() else { return };
        if batch.is_empty() {
            return;
        }
        let (deliveries, done): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|one| (one.delivery, one.done))
            .unzip();
        let outcomes = store.deliver(&deliveries, now());
        for (done, outcome) in done.into_iter().zip(outcomes) {
            // Who waited may be gone; the message is stored all the same.
            let _ = done.send(outcome);
        }
    }
}

/// Waits for a message and takes what else is there.
fn next_batch(waiting: &mut mpsc::Receiver<Incoming>) -> Vec<Incoming> {
    let mut batch = Vec::new();
    let mut octets = 0;
    batch.extend(waiting.blocking_recv());
    while !batch.is_empty() && batch.len() < BATCH && octets < BATCH_OCTETS {
        let Ok(next) = waiting.try_recv() else { break };
        let content = next.delivery.deliver.content.iter();
        octets += content.map(bytes::Bytes::len).sum::<usize>();
        batch.push(next);
    }
    batch
}

/// Unix time in seconds.
pub(crate) fn now() -> i64 {
    Timestamp::now().as_second()
}
