//! The store for asynchronous code: every access runs on the blocking pool.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::anyhow;
use jiff::Timestamp;
use mail_types::AccountId;
use mailbox_store::{Account, Applied, ApplyError, MailStore, Operation, StoreError};
use tokio_util::sync::CancellationToken;
use tracing::error;

/// What a call of the store ends in.
pub(crate) type StoreResult<T> = Result<T, Arc<StoreError>>;

/// The mail store. Clones are the same store.
#[derive(Clone, Debug)]
pub(crate) struct Stores {
    store: Arc<MailStore>,
    shutdown: CancellationToken,
    fatal: Arc<Mutex<Option<String>>>,
}

impl Stores {
    pub(crate) fn new(store: MailStore, shutdown: CancellationToken) -> Self {
        Self {
            store: Arc::new(store),
            shutdown,
            fatal: Arc::default(),
        }
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

/// Unix time in seconds.
pub(crate) fn now() -> i64 {
    Timestamp::now().as_second()
}
