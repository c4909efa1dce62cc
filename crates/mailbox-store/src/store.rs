use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use lru::LruCache;
use mail_types::AccountId;
use tracing::warn;

use crate::journal::Journal;
use crate::rebuild::{RebuildReport, rebuild_index};
use crate::{Account, StoreError};

/// The folder of the journal; no account has that name.
const JOURNAL: &str = ".journal";
/// What the folders of removed accounts begin with until they are gone.
const REMOVED: &str = ".removed-";

/// What the store may use.
#[derive(Debug, Clone)]
pub struct Options {
    /// Octets of each open account's index that are kept in memory.
    pub index_cache: usize,
    /// Octets at which a segment is full. It gets longer by at most one message.
    pub segment_size: u64,
    /// Octets at which a file of the journal is full. What is in full ones is made durable in its
    /// account's own files, and more of it takes longer to read at a start after a crash.
    pub journal_size: u64,
    /// Accounts that are kept open though nobody uses them.
    pub open_accounts: NonZeroUsize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            index_cache: 4 * 1024 * 1024,
            segment_size: 64 * 1024 * 1024,
            journal_size: 64 * 1024 * 1024,
            open_accounts: NonZeroUsize::MIN.saturating_add(255),
        }
    }
}

/// All accounts' mail below one folder.
#[derive(Debug)]
pub struct MailStore {
    shared: Arc<Shared>,
    /// Empties the journal's full files.
    emptier: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    options: Options,
    journal: Arc<Journal>,
    open: Mutex<LruCache<AccountId, Arc<Account>>>,
}

impl MailStore {
    /// Uses a folder, which is made if it is not there. What a crash has left in the journal is put
    /// into the accounts.
    pub fn open(root: PathBuf, options: Options) -> Result<Self, StoreError> {
        fs::create_dir_all(&root).map_err(|error| StoreError::io(&root, error))?;
        finish_removals(&root)?;
        let (full, is_full) = channel();
        let journal = Journal::open(&root.join(JOURNAL), options.journal_size, full)?;
        let shared = Arc::new(Shared {
            root,
            options,
            journal: Arc::new(journal),
            open: Mutex::new(LruCache::unbounded()),
        });
        shared.empty_journal(false);
        let emptied = shared.clone();
        let emptier = std::thread::Builder::new()
            .name("mail-journal".to_owned())
            .spawn(move || emptied.run(&is_full))
            .map_err(|error| StoreError::io("thread", error))?;
        Ok(Self {
            shared,
            emptier: Some(emptier),
        })
    }

    /// An account; one that is not there yet is made. `now` is Unix time in seconds.
    pub fn account(&self, id: AccountId, now: i64) -> Result<Arc<Account>, StoreError> {
        self.shared.account(id, now)
    }

    /// Removes an account and all its mail.
    pub fn remove_account(&self, id: AccountId) -> Result<(), StoreError> {
        let shared = &*self.shared;
        let mut open = shared.lock();
        if let Some(account) = open.pop(&id) {
            account.end();
        }
        shared
            .journal
            .bury(id)
            .map_err(|error| StoreError::shared(&error))?;
        let folder = shared.folder(id);
        // Renamed first: half a folder must not be taken for an account.
        let doomed = shared.root.join(format!("{REMOVED}{id}"));
        match fs::rename(&folder, &doomed) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            result => result.map_err(|error| StoreError::io(&folder, error))?,
        }
        drop(open);
        fs::remove_dir_all(&doomed).map_err(|error| StoreError::io(&doomed, error))
    }

    /// Writes an account's index anew from what its segments tell: mailboxes, messages, the flags
    /// that they came with. UIDs stay, UIDVALIDITY is new. What was expunged or moved since is back
    /// where it came to. `now` is Unix time in seconds.
    pub fn rebuild(&self, id: AccountId, now: i64) -> Result<RebuildReport, StoreError> {
        let shared = &*self.shared;
        let report = {
            let mut open = shared.lock();
            if let Some(account) = open.pop(&id) {
                account.close();
            }
            rebuild_index(id, &shared.folder(id), &shared.options, now)?
        };
        shared.account(id, now)?;
        Ok(report)
    }
}

impl Drop for MailStore {
    fn drop(&mut self) {
        self.shared.journal.hang_up();
        if let Some(emptier) = self.emptier.take()
            && emptier.join().is_err()
        {
            warn!("the journal's thread panicked");
        }
        // The next start then has nothing to do.
        self.shared.empty_journal(false);
        self.shared.journal.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, LruCache<AccountId, Arc<Account>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn account(&self, id: AccountId, now: i64) -> Result<Arc<Account>, StoreError> {
        let mut open = self.lock();
        match open.get(&id) {
            Some(account) if !account.has_failed() => return Ok(account.clone()),
            Some(_) => {
                // Those who still use it see errors; the file is free once they let go.
                if let Some(account) = open.pop(&id) {
                    account.close();
                }
            }
            None => {}
        }
        let (folder, journal) = (self.folder(id), self.journal.clone());
        let account = Arc::new(Account::open(id, folder, &self.options, journal, now)?);
        open.put(id, account.clone());
        self.close_unused(&mut open);
        Ok(account)
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
        // Watchers hear only of an account that is open.
        let unused = open
            .iter()
            .rev()
            .filter(|(_, account)| Arc::strong_count(account) == 1 && !account.is_watched());
        let doomed: Vec<AccountId> = unused.map(|(id, _)| *id).take(surplus).collect();
        for id in doomed {
            if let Some(account) = open.pop(&id)
                && let Err(error) = account.checkpoint()
            {
                // The journal keeps what it has of it.
                warn!(account = %id, %error, "an account cannot be made durable");
            }
        }
    }

    fn run(&self, full: &Receiver<()>) {
        while full.recv().is_ok() {
            self.empty_journal(true);
        }
    }

    /// Makes durable in each account what the journal has of it. Where that fails the journal's
    /// entries stay, and it is tried again with the next file or at the next start.
    fn empty_journal(&self, full_only: bool) {
        for id in self.journal.accounts(full_only) {
            let result = self.empty_one(id);
            if let Err(error) = result {
                warn!(account = %id, %error, "an account cannot be made durable");
            }
        }
    }

    fn empty_one(&self, id: AccountId) -> Result<(), StoreError> {
        if !self.folder(id).exists() {
            // Removed, and a crash came before the journal was told.
            self.journal.settle(id);
            return Ok(());
        }
        // Its mailboxes are there, so that no time is needed to make them.
        self.account(id, 0)?.checkpoint()
    }
}

/// A crash can have come between the two steps of a removal.
fn finish_removals(root: &Path) -> Result<(), StoreError> {
    let failed = |error| StoreError::io(root, error);
    for entry in fs::read_dir(root).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_string_lossy().starts_with(REMOVED) {
            fs::remove_dir_all(entry.path()).map_err(failed)?;
        }
    }
    Ok(())
}
