//! Values that every layer shares: addresses, domains, ids, UIDs, status codes and flags.
//!
//! Each type has one way in (`FromStr`, `TryFrom` or a named constructor that parses) and prints
//! its wire form through `Display`. Nothing here does I/O, reads a clock or logs.

mod address;
mod domain;
mod flags;
mod ids;
mod local_part;
mod numbers;
mod outcome;
mod secret;
mod status;
mod uid_set;

pub use address::{AddressError, EmailAddress, ReversePath};
pub use domain::{Domain, DomainError};
pub use flags::{Flags, SystemFlag};
pub use ids::{AccountId, EmailId, IdError, MailboxId, QueueId};
pub use local_part::{LocalPart, LocalPartError};
pub use numbers::{ModSeq, ModSeqError, SeqNum, Uid, UidValidity};
pub use outcome::{Action, Outcome};
pub use secret::Secret;
pub use status::{EnhancedCode, StatusClass, StatusError};
pub use uid_set::UidSet;
