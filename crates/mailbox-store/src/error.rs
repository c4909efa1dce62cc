use std::io;
use std::path::PathBuf;

use crate::disk::is_failed_sync;

/// What keeps the store from doing its work: trouble of our own, never the client's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A record is not what was written.
    #[error("{file}: the record at {offset} is damaged: {what}")]
    Damaged {
        /// The segment.
        file: PathBuf,
        /// Where the record begins.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The account is being made anew, or is to be and somebody reads in it.
    #[error("the account is in use or being made anew; try again")]
    Busy,
    /// There is mail, but no index: it has to be made anew.
    #[error("{0}: the index is missing; `correo store rebuild` makes it anew")]
    IndexMissing(PathBuf),
    /// The index engine failed.
    #[error("index: {0}")]
    Engine(String),
    /// A sync failed: what is on disk is unknown until the process starts anew and reads it.
    #[error("sync failed, the process must start again: {0}")]
    Fatal(io::Error),
    /// No space or quota left on the disk.
    #[error("the disk is full")]
    Full,
    /// Another process has the store's folder.
    #[error("{0}: the mail store is in use by another process")]
    InUse(PathBuf),
    /// A file cannot be read or written.
    #[error("{file}: {source}")]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl StoreError {
    pub(crate) fn io(file: impl Into<PathBuf>, source: io::Error) -> Self {
        if is_failed_sync(&source) {
            Self::Fatal(source)
        } else if is_full(&source) {
            Self::Full
        } else {
            Self::Io {
                file: file.into(),
                source,
            }
        }
    }

    /// The same error for another caller.
    pub(crate) fn shared(error: &Self) -> Self {
        match error {
            Self::Busy => Self::Busy,
            Self::IndexMissing(folder) => Self::IndexMissing(folder.clone()),
            Self::Full => Self::Full,
            Self::Fatal(source) => Self::Fatal(io::Error::new(source.kind(), source.to_string())),
            Self::Io { file, source } => Self::Io {
                file: file.clone(),
                source: io::Error::new(source.kind(), source.to_string()),
            },
            other => Self::Engine(other.to_string()),
        }
    }

    /// True if the process must end, since only a fresh start tells what is on disk.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Fatal(_))
    }
}

/// A panic, as of the index engine over a damaged index, is an error like another: it must not take with
/// it what is done for others. What holds a lock meanwhile leaves nothing half done that counts.
pub(crate) fn caught<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let panicked = "a panic; the index may be damaged".to_owned();
        Err(StoreError::Engine(panicked))
    })
}

pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

macro_rules! from_engine {
    ($($name:ident),*) => {
        $(impl From<redb::$name> for StoreError {
            fn from(error: redb::$name) -> Self {
                engine(redb::Error::from(error))
            }
        })*
    };
}

from_engine!(
    CommitError,
    DatabaseError,
    SetDurabilityError,
    StorageError,
    TableError,
    TransactionError
);

fn engine(error: redb::Error) -> StoreError {
    match error {
        redb::Error::Io(source) if is_failed_sync(&source) => StoreError::Fatal(source),
        redb::Error::Io(source) if is_full(&source) => StoreError::Full,
        redb::Error::DatabaseAlreadyOpen => StoreError::Busy,
        other => StoreError::Engine(other.to_string()),
    }
}
