use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Size;

/// `[localdeliver]`: delivery into mailboxes, and their owner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Localdeliver {
    /// The folder of the mail store.
    pub data_dir: PathBuf,
    /// Addresses of the Prometheus metrics page; none by default, since it has no access control.
    pub metrics: Vec<SocketAddr>,
    /// Messages that queued may hand out to us at once. Those for one account are written together,
    /// so many at once cost less each.
    pub max_tasks: u32,
    /// Memory for messages that come in by delivery or APPEND, all together; beyond it the next ones
    /// wait. At least twice `max_message_size`.
    pub max_memory: Size,
    /// The largest message that APPEND takes.
    pub max_message_size: Size,
    /// Mail for an account over its quota is returned at once; otherwise it is tried again until it
    /// expires.
    pub bounce_over_quota: bool,
    /// Accounts whose files are kept open, each with some file handles and its `index_cache`. Of 16
    /// times as many some KiB each stay in memory: mail comes in without their files.
    pub open_accounts: usize,
    /// Memory for the index of each open account, if it is as large: 15,000 messages have some 16 MiB.
    /// Lists of a mailbox whose index does not fit read it from the disk's cache each time, at twice
    /// the cost.
    pub index_cache: Size,
    /// Size at which a segment file is full and the next one begins.
    pub segment_size: Size,
    /// Size at which a file of the delivery journal is full; what is in full ones is synced into its
    /// accounts' own files. Larger ones mean fewer syncs, and more to read at a start after a crash.
    pub journal_size: Size,
    /// Memory for mail that is durable in the journal and waits for its account's index, all accounts
    /// together. It gets there when somebody reads the account, and at the latest when a file of the
    /// journal is full; more memory means larger and fewer transactions.
    pub pending_memory: Size,
    /// Percent of a segment that have to be expunged mail before its space is given back: what is left
    /// in it is copied to the last one.
    pub reclaim_percent: u64,
    /// How much is copied in a second to give space back, so that mail keeps the disk; 0 gives nothing
    /// back.
    pub reclaim_rate: Size,
    /// Searches through messages that run at once; others wait. Each reads whole mailboxes.
    pub max_searches: usize,
}

impl Default for Localdeliver {
    fn default() -> Self {
        Self {
            data_dir: "mail".into(),
            metrics: Vec::new(),
            max_tasks: 256,
            max_memory: Size::from_mib(256),
            max_message_size: Size::from_mib(100),
            bounce_over_quota: true,
            open_accounts: 128,
            index_cache: Size::from_mib(16),
            segment_size: Size::from_mib(64),
            journal_size: Size::from_mib(64),
            pending_memory: Size::from_mib(64),
            reclaim_percent: 50,
            reclaim_rate: Size::from_mib(16),
            max_searches: 2,
        }
    }
}

impl Localdeliver {
    pub(crate) fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [&mut self.data_dir].into_iter()
    }
}
