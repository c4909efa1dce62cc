//! The mail store: an account is a folder with append-only segments of messages and a redb index.
//!
//! # When mail is safe
//!
//! Deliveries count once the journal, which all accounts share, is synced: one sync for whatever
//! waits, however many accounts it is for. The account's own files follow later; what they lack
//! after a crash is applied from the journal. Everything else counts once the account's segment and
//! then its index are synced. `docs/mailbox-store.md` has the order of writes and each crash point.
//! Batches are what waits: whoever finds no batch under way writes what all others have queued by
//! then (group commit without a timer).
//!
//! # Locks
//!
//! `Account::writer` is held for a whole batch and while a snapshot is taken for a watcher; it is
//! never taken while another lock of the account is held. Watchers are called under it and must
//! not block. The journal's locks are taken under it. The store's list of open accounts may be held
//! while an account's writer is waited for, never the other way round.

mod account;
mod change;
mod check;
mod disk;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod group;
mod index_file;
mod journal;
mod maintain;
mod name;
mod operation;
mod read;
mod rebuild;
mod record;
mod repair;
mod scan;
mod schema;
mod segment;
mod snapshot;
mod store;
mod write;

pub use account::Account;
pub use change::{Change, Event, MessageState, Snapshot, Watcher};
pub use check::CheckReport;
pub use disk::{Disk, DiskFile, FileSystem};
pub use error::StoreError;
pub use maintain::{Finding, Observer, Report, Totals};
pub use name::{MailboxName, NameError};
pub use operation::{
    Adopt, Applied, ApplyError, CopyMail, Deliver, DeliveryKey, Expunge, FlagChange, FlagMode,
    FlagNames, Operation, Target,
};
pub use read::{MailboxInfo, MailboxStatus, Message, Usage};
pub use schema::SpecialUse;
pub use store::{MailStore, Options};
