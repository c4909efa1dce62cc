//! The directory on disk. Nothing outside this module knows which engine is below.
//!
//! One write transaction a change, durable before it is answered; readers see the last committed
//! state and never wait for a writer.

mod admin;
mod aliases;
mod listing;
mod model;
mod read;
mod tables;

use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable};
use tokio::sync::watch;

pub(crate) use admin::{ChangeError, Refusal, Refused};
pub(crate) use model::{Account, Credentials, Found};
pub(crate) use read::Reader;
use tables::WriteTables;

/// The name of the database in the daemon's folder.
const FILE_NAME: &str = "directory.redb";
/// What redb may keep in memory: 100,000 accounts take some 60 MiB on disk.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// The directory. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    database: Database,
    /// Counts changes; readers that keep answers watch it.
    generation: watch::Sender<u64>,
}

/// The database does not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum StoreError {
    /// What is stored does not parse.
    #[error("the directory's entry of {0} is damaged: {1}")]
    Damaged(String, String),
    /// The engine failed.
    #[error("the directory's database: {0}")]
    Engine(#[source] Box<redb::Error>),
    /// The folder or file cannot be made.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

macro_rules! from_engine {
    ($($error:ident)*) => {$(
        impl From<redb::$error> for StoreError {
            fn from(error: redb::$error) -> Self {
                Self::Engine(Box::new(error.into()))
            }
        }
    )*};
}
from_engine!(CommitError DatabaseError StorageError TableError TransactionError);

impl Store {
    /// Opens the database in `folder`, and makes both where they are not there. `first_id` is the
    /// first account's id in a new directory: take it from the clock, so that a directory that was
    /// lost and made anew does not give old mailboxes to new accounts.
    pub(crate) fn open(folder: &Path, first_id: u64) -> Result<Self, StoreError> {
        // Credentials are in there: nobody else needs to look.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let file = folder.join(FILE_NAME);
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&file)?;
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(&file)?;
        let transaction = database.begin_write()?;
        {
            // All tables exist from here on, so that readers need no case for missing ones.
            WriteTables::open(&transaction)?;
        }
        {
            let mut meta = transaction.open_table(tables::META)?;
            if meta.get(tables::NEXT_ID)?.is_none() {
                meta.insert(tables::NEXT_ID, first_id.max(1))?;
            }
            let mut secrets = transaction.open_table(tables::SECRETS)?;
            if secrets.get(tables::INVENTION)?.is_none() {
                secrets.insert(tables::INVENTION, rand::random::<[u8; 32]>().as_slice())?;
            }
        }
        transaction.commit()?;
        let (generation, _) = watch::channel(0);
        Ok(Self(Arc::new(Inner {
            database,
            generation,
        })))
    }

    /// The state as it is now, for several questions.
    pub(crate) fn reader(&self) -> Result<Reader, StoreError> {
        Reader::new(&self.0.database.begin_read()?)
    }

    /// Told after each change.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.generation.subscribe()
    }

    /// Does all of `change` or nothing. When it returns, the change is on disk and told.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut WriteTables<'_>) -> Result<T, ChangeError>,
    ) -> Result<T, ChangeError> {
        let transaction = self.0.database.begin_write().map_err(StoreError::from)?;
        let done = {
            let mut tables = WriteTables::open(&transaction)?;
            change(&mut tables)?
        };
        transaction.commit().map_err(StoreError::from)?;
        self.0.generation.send_modify(|generation| *generation += 1);
        Ok(done)
    }
}

#[cfg(test)]
mod tests;
