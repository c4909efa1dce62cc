//! The durable queue's storage: a trait, its sled engine and an in-memory twin.
//!
//! A [`QueueStore`] keeps messages and their content and knows nothing of time, routes or agents.
//! A [`Committer`] makes what many callers want durable with one flush for all that wait.
//! Invariants, which `docs/queue-states.md` lists with the states of a message:
//!
//! - a record is never there without its whole content: both are in one batch, or the content came
//!   before and is nobody's until the record comes;
//! - an id is never given out twice, whatever the clock does and however often the store is opened;
//! - no type of the engine below is in a public signature.

mod codec;
mod commit;
mod fsck;
#[cfg(fuzzing)]
pub mod fuzzing;
mod mem;
mod message;
mod sled_store;
mod store;

pub use commit::{CommitStats, Committer, Done};
pub use fsck::{FsckReport, Problem};
pub use mem::MemStore;
pub use message::{
    BodyType, DsnReturn, Envelope, Message, Notify, Origin, Progress, Recipient, Route, SmartHost,
};
pub use sled_store::{SledOptions, SledStore};
pub use store::{CHUNK_SIZE, Op, QueueStore, Scanned, StoreError, chunk_count};
