use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use mail_types::AccountId;

use crate::{Account, StoreError};

/// What the store may use.
#[derive(Debug, Clone)]
pub struct Options {
    /// Octets of each open account's index that are kept in memory.
    pub index_cache: usize,
    /// Octets at which a segment is full. It gets longer by at most one message.
    pub segment_size: u64,
    /// Accounts that are kept open though nobody uses them.
    pub open_accounts: NonZeroUsize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            index_cache: 4 * 1024 * 1024,
            segment_size: 64 * 1024 * 1024,
            open_accounts: NonZeroUsize::MIN.saturating_add(255),
        }
    }
}

/// All accounts' mail below one folder.
#[derive(Debug)]
pub struct MailStore {
    root: PathBuf,
    options: Options,
    open: Mutex<LruCache<AccountId, Arc<Account>>>,
}

impl MailStore {
    /// Uses a folder, which is made if it is not there.
    pub fn open(root: PathBuf, options: Options) -> Result<Self, StoreError> {
        fs::create_dir_all(&root).map_err(|error| StoreError::io(&root, error))?;
        Ok(Self {
            root,
            options,
            open: Mutex::new(LruCache::unbounded()),
        })
    }

    /// An account; one that is not there yet is made. `now` is Unix time in seconds.
    pub fn account(&self, id: AccountId, now: i64) -> Result<Arc<Account>, StoreError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get(&id) {
            Some(account) if !account.has_failed() => return Ok(account.clone()),
            Some(_) => {
                // Those who still use it see errors; the file is free once they let go.
                open.pop(&id);
            }
            None => {}
        }
        let account = Arc::new(Account::open(id, self.folder(id), &self.options, now)?);
        open.put(id, account.clone());
        self.close_unused(&mut open);
        Ok(account)
    }

    /// Removes an account and all its mail.
    pub fn remove_account(&self, id: AccountId) -> Result<(), StoreError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = open.pop(&id) {
            account.close();
        }
        let folder = self.folder(id);
        // Renamed first: half a folder must not be taken for an account.
        let doomed = self.root.join(format!(".removed-{id}"));
        match fs::rename(&folder, &doomed) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            result => result.map_err(|error| StoreError::io(&folder, error))?,
        }
        drop(open);
        fs::remove_dir_all(&doomed).map_err(|error| StoreError::io(&doomed, error))
    }

    fn folder(&self, id: AccountId) -> PathBuf {
        self.root.join(id.to_string())
    }

    /// Closes the longest unused accounts over the limit; those in use stay.
    fn close_unused(&self, open: &mut LruCache<AccountId, Arc<Account>>) {
        let surplus = open.len().saturating_sub(self.options.open_accounts.get());
        if surplus == 0 {
            return;
        }
        let unused = open
            .iter()
            .rev()
            .filter(|(_, account)| Arc::strong_count(account) == 1);
        let doomed: Vec<AccountId> = unused.map(|(id, _)| *id).take(surplus).collect();
        for id in doomed {
            open.pop(&id);
        }
    }
}
