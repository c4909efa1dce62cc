//! The mail store: an account is a folder with append-only segments of messages and a redb index.
//!
//! # When mail is safe
//!
//! A batch of changes to an account is written in this order: message records are appended to the
//! segment, the segment is synced, the index's transaction is committed and synced. The commit is
//! the instant: octets in a segment behind what the index knows of are cut off at the next opening,
//! and a change is answered only after the commit. Batches are what waits: whoever finds no batch
//! under way writes what all others have queued by then (group commit without a timer).
//!
//! # Locks
//!
//! `Account::writer` is held for a whole batch and while a snapshot is taken for a watcher; it is
//! never taken while another lock of the account is held. Watchers are called under it and must
//! not block.

mod account;
mod change;
mod check;
mod error;
mod name;
mod operation;
mod read;
mod record;
mod schema;
mod segment;
mod store;
mod write;

pub use account::Account;
pub use change::{Change, Event, MessageState, Snapshot, Watcher};
pub use check::CheckReport;
pub use error::StoreError;
pub use name::{MailboxName, NameError};
pub use operation::{
    Applied, ApplyError, CopyMail, Deliver, DeliveryKey, Expunge, FlagChange, FlagMode, FlagNames,
    Operation, Target,
};
pub use read::{MailboxInfo, MailboxStatus, Message, Usage};
pub use schema::SpecialUse;
pub use store::{MailStore, Options};
