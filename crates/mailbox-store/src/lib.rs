//! The mail store: an account is a folder with append-only segments of messages and a redb index.
//!
//! # When mail is safe
//!
//! Mail that comes in, and what changes, copies, moves and expunges it, counts once the journal, which
//! all accounts share, is synced: one sync for whatever waits, however many accounts it is for. It
//! waits in memory for its account's own files, which get it in larger transactions; what they lack
//! after a crash is applied from the journal. Everything else counts once the account's segment and
//! then its index are synced.
//! `docs/mailbox-store.md` has the order of writes and each crash point. Batches are what waits:
//! whoever finds no batch under way writes what all others have queued by then (group commit without
//! a timer).
//!
//! # Locks
//!
//! In this order: an account's `turn`, held by who decides what happens next, until it is durable
//! and published; its `writer`, held while its own files are written; its `recent`, held for
//! moments. Watchers are told under `recent`, so that none misses or doubles a change, and must not
//! block. Who delivers to many accounts takes their turns in the order of their ids, and nobody else
//! waits for a turn while holding one. The journal's locks are taken under all of them. The store's
//! list of accounts may be held while an account's locks are waited for, never the other way round.
//! The index has a lock of its own below an account's, held while it is opened or closed.

mod account;
mod change;
mod check;
mod deliver;
mod disk;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod group;
mod index_file;
mod journal;
mod lock;
mod maintain;
mod name;
mod operation;
mod packed;
mod read;
mod rebuild;
mod record;
mod redo;
mod repair;
mod scan;
mod schema;
mod segment;
mod snapshot;
mod store;
mod write;

pub use account::Account;
pub use change::{Change, Event, Known, MessageState, Snapshot, Watcher};
pub use check::CheckReport;
pub use deliver::Delivery;
pub use disk::{Disk, DiskFile, FileSystem};
pub use error::StoreError;
pub use maintain::{Finding, Observer, Report, Totals};
pub use name::{MailboxName, NameError};
pub use operation::{
    Adopt, Applied, ApplyError, CopyMail, Deliver, DeliveryKey, Expunge, FlagChange, FlagMode,
    FlagNames, Operation, Target,
};
pub use read::{MailboxInfo, MailboxStatus, Message, Rendered, Usage};
pub use schema::SpecialUse;
pub use store::{MailStore, Options};
