use std::collections::HashSet;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use lru::LruCache;
use mail_types::AccountId;
use tracing::warn;

use crate::account::reclaim::Eagerness;
use crate::disk::{Disk, FileSystem, guard, make_folder};
use crate::journal::Journal;
use crate::rebuild::{Rebuilt, rebuild_index};
use crate::{Account, Finding, Observer, Report, StoreError, Totals};

/// The folder of the journal; no account has that name.
const JOURNAL: &str = ".journal";
/// What the folders of removed accounts begin with until they are gone.
const REMOVED: &str = ".removed-";

/// How long an account that is to be made anew is waited for, if somebody still reads in it. What
/// they hold then is not the new index.
const STILL_OPEN: Duration = Duration::from_secs(5);

/// How long those who use an account that has failed are waited for; all that they do there fails at
/// once. Others wait meanwhile.
const LET_GO: Duration = Duration::from_secs(1);

/// How often accounts with many changes get a snapshot.
const SNAPSHOT_TICK: Duration = Duration::from_secs(30);
/// And after how many times that those with few: changes of ten minutes are what a damaged index
/// may cost.
const SNAPSHOT_TICKS: u32 = 20;

/// How often accounts that lost mail are looked at for space to be given back.
const RECLAIM_TICK: Duration = Duration::from_secs(30);

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
    /// Octets of mail that may be durable in the journal alone and wait in memory for their
    /// accounts' indexes, all accounts together. Somewhat more may wait for a moment.
    pub pending: usize,
    /// Percent of a segment that have to be expunged mail before its space is given back: what is
    /// left in it is copied.
    pub reclaim_percent: u64,
    /// Octets that are copied in a second to give space back, so that mail keeps its disk; 0 gives
    /// nothing back.
    pub reclaim_rate: u64,
    /// Accounts that are kept open though nobody uses them.
    pub open_accounts: NonZeroUsize,
    /// Where it all is: the file system, but in tests of what happens when that fails.
    pub disk: Arc<dyn Disk>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            index_cache: 4 * 1024 * 1024,
            segment_size: 64 * 1024 * 1024,
            journal_size: 64 * 1024 * 1024,
            pending: 64 * 1024 * 1024,
            reclaim_percent: 50,
            reclaim_rate: 16 * 1024 * 1024,
            open_accounts: NonZeroUsize::MIN.saturating_add(255),
            disk: Arc::new(FileSystem),
        }
    }
}

/// All accounts' mail below one folder.
#[derive(Debug)]
pub struct MailStore {
    pub(crate) shared: Arc<Shared>,
    /// Empties the journal's full files.
    emptier: Option<JoinHandle<()>>,
    /// Writes snapshots until the sender is dropped.
    keeper: Option<(Sender<()>, JoinHandle<()>)>,
    /// Gives space back until the sender is dropped.
    reclaimer: Option<(Sender<()>, JoinHandle<()>)>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    root: PathBuf,
    options: Options,
    pub(crate) journal: Arc<Journal>,
    open: Mutex<LruCache<AccountId, Arc<Account>>>,
    /// Accounts that are being made anew.
    busy: Mutex<HashSet<AccountId>>,
}

/// An account that nobody else may open.
struct Claim<'a> {
    shared: &'a Shared,
    id: AccountId,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.shared.busy().remove(&self.id);
    }
}

impl MailStore {
    /// Uses a folder, which is made if it is not there. What a crash has left in the journal is put
    /// into the accounts.
    pub fn open(root: PathBuf, mut options: Options) -> Result<Self, StoreError> {
        options.disk = guard(options.disk);
        let disk = &options.disk;
        make_folder(&**disk, &root)?;
        finish_removals(&**disk, &root)?;
        let (full, is_full) = channel();
        let journal = Journal::open(&root.join(JOURNAL), &options, full)?;
        let shared = Arc::new(Shared {
            root,
            options,
            journal: Arc::new(journal),
            open: Mutex::new(LruCache::unbounded()),
            busy: Mutex::default(),
        });
        shared.empty_journal(false);
        let emptied = shared.clone();
        let emptier = std::thread::Builder::new()
            .name("mail-journal".to_owned())
            .spawn(move || emptied.run(&is_full))
            .map_err(|error| StoreError::io("thread", error))?;
        let (stop, is_stopped) = channel();
        let kept = shared.clone();
        let keeper = std::thread::Builder::new()
            .name("mail-snapshots".to_owned())
            .spawn(move || kept.keep_snapshots_until(&is_stopped))
            .map_err(|error| StoreError::io("thread", error))?;
        let (end, is_ended) = channel();
        let reclaimed = shared.clone();
        let reclaimer = std::thread::Builder::new()
            .name("mail-reclaim".to_owned())
            .spawn(move || reclaimed.reclaim_until(&is_ended))
            .map_err(|error| StoreError::io("thread", error))?;
        Ok(Self {
            shared,
            emptier: Some(emptier),
            keeper: Some((stop, keeper)),
            reclaimer: Some((end, reclaimer)),
        })
    }

    /// An account; one that is not there yet is made. `now` is Unix time in seconds.
    pub fn account(&self, id: AccountId, now: i64) -> Result<Arc<Account>, StoreError> {
        self.shared.account(id, now)
    }

    /// Octets of mail that wait in memory for their accounts' indexes; see [`Options::pending`].
    pub fn pending(&self) -> usize {
        self.shared.journal.pending()
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
        match shared.options.disk.rename(&folder, &doomed) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            result => result.map_err(|error| StoreError::io(&folder, error))?,
        }
        drop(open);
        let removed = shared.options.disk.remove_folder(&doomed);
        removed.map_err(|error| StoreError::io(&doomed, error))
    }

    /// The accounts that have a folder.
    pub fn stored(&self) -> Result<Vec<AccountId>, StoreError> {
        let root = &self.shared.root;
        let failed = |error| StoreError::io(root, error);
        let mut ids: Vec<AccountId> = Vec::new();
        for entry in fs::read_dir(root).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            ids.extend(
                name.to_str()
                    .and_then(|name| name.parse::<AccountId>().ok()),
            );
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// Reads all that an account has and tells what is not as it should be. The account can be used
    /// meanwhile. `now` is Unix time in seconds.
    pub fn check(
        &self,
        id: AccountId,
        now: i64,
        observer: &mut Observer<'_>,
    ) -> Result<Totals, StoreError> {
        if !self.shared.folder(id).exists() {
            return Ok(Totals::default());
        }
        let wrong = |observer: &mut Observer<'_>, error: &StoreError| {
            observer(Report::Found(Finding::Wrong(error.to_string())));
            Ok(Totals::default())
        };
        let account = match self.shared.account(id, now) {
            Ok(account) => account,
            Err(error @ (StoreError::Full | StoreError::Busy | StoreError::Fatal(_))) => {
                return Err(error);
            }
            Err(error) => return wrong(observer, &error),
        };
        match account.check_with(observer) {
            // The index does not even let itself be read.
            Err(error @ StoreError::Engine(_)) => wrong(observer, &error),
            result => result,
        }
    }

    /// Mends what can be mended without loss; with `drop_damaged` damaged messages leave their
    /// mailboxes. `now` is Unix time in seconds.
    pub fn repair(
        &self,
        id: AccountId,
        drop_damaged: bool,
        now: i64,
        observer: &mut Observer<'_>,
    ) -> Result<Totals, StoreError> {
        if !self.shared.folder(id).exists() {
            return Ok(Totals::default());
        }
        let account = self.shared.account(id, now)?;
        account.repair(drop_damaged, now, observer)
    }

    /// Writes an account's index anew from its segments, the journal, and the last snapshot of what
    /// they do not tell; or, unless it is to be ignored, the index that is there, if it is whole.
    /// Nobody else can use the account meanwhile. `now` is Unix time in seconds.
    pub fn rebuild(
        &self,
        id: AccountId,
        ignore_index: bool,
        now: i64,
        observer: &mut Observer<'_>,
    ) -> Result<Totals, StoreError> {
        let shared = &*self.shared;
        let folder = shared.folder(id);
        if !folder.exists() {
            return Ok(Totals::default());
        }
        let totals = {
            let _busy = shared.claim(id)?;
            let rebuilt = Rebuilt {
                id,
                folder: &folder,
                options: &shared.options,
                journal: &shared.journal,
                now,
                ignore_index,
            };
            rebuild_index(&rebuilt, observer)?
        };
        let account = shared.account(id, now)?;
        account.keep_new_snapshot(now)?;
        Ok(totals)
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
        for (stop, thread) in [self.keeper.take(), self.reclaimer.take()]
            .into_iter()
            .flatten()
        {
            drop(stop);
            if thread.join().is_err() {
                warn!("a thread of the store panicked");
            }
        }
        // The next start then has nothing to do.
        self.shared.empty_journal(false);
        self.shared.save_all();
        self.shared.keep_snapshots(|_, _| true);
        self.shared.journal.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, LruCache<AccountId, Arc<Account>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn busy(&self) -> MutexGuard<'_, HashSet<AccountId>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an account out of use, and waits for those who still have it open.
    fn claim(&self, id: AccountId) -> Result<Claim<'_>, StoreError> {
        let mut open = self.lock();
        if !self.busy().insert(id) {
            return Err(StoreError::Busy);
        }
        let claim = Claim { shared: self, id };
        let account = open.pop(&id);
        drop(open);
        let Some(account) = account else {
            return Ok(claim);
        };
        if let Err(error) = account.checkpoint() {
            // The journal has what the index lacks.
            warn!(account = %id, %error, "an account cannot be made durable");
        }
        account.close();
        wait_unused(account, STILL_OPEN);
        Ok(claim)
    }

    pub(crate) fn account(&self, id: AccountId, now: i64) -> Result<Arc<Account>, StoreError> {
        let mut open = self.lock();
        if self.busy().contains(&id) {
            return Err(StoreError::Busy);
        }
        match open.get(&id) {
            Some(account) if !account.has_failed() => return Ok(account.clone()),
            Some(_) => {
                if let Some(account) = open.pop(&id) {
                    account.close();
                    wait_unused(account, LET_GO);
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
            let Some(account) = open.pop(&id) else {
                continue;
            };
            if let Err(error) = account.checkpoint() {
                // The journal keeps what it has of it.
                warn!(account = %id, %error, "an account cannot be made durable");
            }
            keep_snapshot(&account, |_, _| true);
        }
    }

    pub(crate) fn eagerness(&self) -> Eagerness {
        Eagerness {
            percent: self.options.reclaim_percent,
            rate: self.options.reclaim_rate,
        }
    }

    fn reclaim_until(&self, stop: &Receiver<()>) {
        let mut pause = |time| stop.recv_timeout(time) == Err(RecvTimeoutError::Timeout);
        while pause(RECLAIM_TICK) {
            if self.options.reclaim_rate == 0 {
                continue;
            }
            let open: Vec<AccountId> = self.lock().iter().map(|(id, _)| *id).collect();
            for id in open {
                // Looked up one by one, so that none is kept open for its turn.
                let account = self.lock().peek(&id).cloned();
                let Some(account) = account.filter(|one| one.has_dead() && !one.has_failed())
                else {
                    continue;
                };
                if let Err(error) = account.reclaim(self.eagerness(), &mut pause) {
                    warn!(account = %id, %error, "space cannot be given back");
                }
            }
        }
    }

    fn keep_snapshots_until(&self, stop: &Receiver<()>) {
        let mut ticks = 0_u32;
        while stop.recv_timeout(SNAPSHOT_TICK) == Err(RecvTimeoutError::Timeout) {
            ticks = ticks.wrapping_add(1);
            let all = ticks.is_multiple_of(SNAPSHOT_TICKS);
            self.keep_snapshots(|changes, messages| all || changes >= 1000 + messages / 4);
        }
    }

    /// Writes snapshots of the open accounts of which `is_due` says so; see
    /// [`Account::keep_snapshot`].
    fn keep_snapshots(&self, is_due: impl Fn(u64, u64) -> bool) {
        let open: Vec<Arc<Account>> = self.lock().iter().map(|(_, one)| one.clone()).collect();
        for account in open {
            keep_snapshot(&account, &is_due);
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

    /// Small things that were not worth a transaction.
    fn save_all(&self) {
        let open: Vec<Arc<Account>> = self.lock().iter().map(|(_, one)| one.clone()).collect();
        for account in open {
            if let Err(error) = account.checkpoint() {
                warn!(account = %account.id(), %error, "an account cannot be made durable");
            }
        }
    }

    fn empty_one(&self, id: AccountId) -> Result<(), StoreError> {
        if !self.folder(id).exists() {
            // Removed, and a crash came before the journal was told.
            self.journal.settle(id);
            return Ok(());
        }
        self.account(id, unix_now())?.checkpoint()
    }
}

/// Unix time in seconds.
fn unix_now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}

/// Waits until nobody has the account open any more: only then its files are free.
fn wait_unused(account: Arc<Account>, longest: Duration) {
    let users = Arc::downgrade(&account);
    drop(account);
    let deadline = Instant::now() + longest;
    while users.strong_count() > 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn keep_snapshot(account: &Account, is_due: impl FnOnce(u64, u64) -> bool) {
    if let Err(error) = account.keep_snapshot(unix_now(), is_due) {
        // The last one stays; it says that something followed.
        warn!(account = %account.id(), %error, "a snapshot cannot be written");
    }
}

/// A crash can have come between the two steps of a removal.
fn finish_removals(disk: &dyn Disk, root: &Path) -> Result<(), StoreError> {
    let failed = |error| StoreError::io(root, error);
    for entry in fs::read_dir(root).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_string_lossy().starts_with(REMOVED) {
            disk.remove_folder(&entry.path()).map_err(failed)?;
        }
    }
    Ok(())
}
