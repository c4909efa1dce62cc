use std::collections::HashSet;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use lru::LruCache;
use mail_types::AccountId;
use tracing::warn;

use crate::account::PENDING_MAX;
use crate::account::index::Pool;
use crate::account::reclaim::Eagerness;
use crate::disk::{Disk, DiskFile, FileSystem, guard, make_folder, sync_folder};
use crate::error::caught;
use crate::journal::Journal;
use crate::lock::lock_root;
use crate::rebuild::{Rebuilt, rebuild_index};
use crate::{Account, Finding, Observer, Report, StoreError, Totals};

/// The folder of the journal; no account has that name.
const JOURNAL: &str = ".journal";
/// What the folders of removed accounts begin with until they are gone.
const REMOVED: &str = ".removed-";

/// How long those who read in an account that is to be made anew are waited for.
const STILL_OPEN: Duration = Duration::from_secs(5);

/// How long those who use an account that has failed are waited for; all that they do there fails at
/// once. Others wait meanwhile.
const LET_GO: Duration = Duration::from_secs(1);

/// How often accounts with many changes get a snapshot.
const SNAPSHOT_TICK: Duration = Duration::from_secs(30);
/// And after how many times that those with few: changes of ten minutes are what a damaged index
/// may cost.
const SNAPSHOT_TICKS: u32 = 20;

/// Accounts that are made durable at the same time behind the scenes.
const EMPTIED_AT_ONCE: usize = 4;

/// How often accounts that lost mail are looked at for space to be given back.
const RECLAIM_TICK: Duration = Duration::from_secs(30);

/// Accounts of which the small facts stay in memory, for each whose index is open: some KiB each,
/// and mail comes in without the index.
const KNOWN_PER_OPEN: usize = 16;

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
    /// Accounts whose index is kept open. For a moment half as many again may be.
    pub open_accounts: NonZeroUsize,
    /// How long a process that still has the store is waited for: the one before may be ending.
    pub lock_wait: Duration,
    /// Where it all is: the file system, but in tests of what happens when that fails.
    pub disk: Arc<dyn Disk>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            index_cache: 16 * 1024 * 1024,
            segment_size: 64 * 1024 * 1024,
            journal_size: 64 * 1024 * 1024,
            pending: 64 * 1024 * 1024,
            reclaim_percent: 50,
            reclaim_rate: 16 * 1024 * 1024,
            open_accounts: NonZeroUsize::MIN.saturating_add(127),
            lock_wait: Duration::from_secs(10),
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
    /// Closes indexes when too many are open.
    closer: Option<JoinHandle<()>>,
    /// Writes snapshots until the sender is dropped.
    keeper: Option<(Sender<()>, JoinHandle<()>)>,
    /// Gives space back until the sender is dropped.
    reclaimer: Option<(Sender<()>, JoinHandle<()>)>,
    /// Given back behind all else.
    _lock: Box<dyn DiskFile>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    root: PathBuf,
    options: Options,
    pub(crate) journal: Arc<Journal>,
    pool: Arc<Pool>,
    open: Mutex<Open>,
    /// Somebody has opened an account, or could not.
    is_opened: Condvar,
    /// Accounts that are being made anew.
    busy: Mutex<HashSet<AccountId>>,
}

/// The accounts in memory.
#[derive(Debug)]
struct Open {
    accounts: LruCache<AccountId, Arc<Account>>,
    /// Those that somebody opens; who wants one of them waits, and nobody else.
    opening: HashSet<AccountId>,
}

/// Opens an account that nobody else opens meanwhile.
struct Opening<'a> {
    shared: &'a Shared,
    id: AccountId,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.shared.lock().opening.remove(&self.id);
        self.shared.is_opened.notify_all();
    }
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
    /// into the accounts. [`StoreError::InUse`] if another process has it.
    pub fn open(root: PathBuf, mut options: Options) -> Result<Self, StoreError> {
        options.disk = guard(options.disk);
        let disk = &options.disk;
        make_folder(&**disk, &root)?;
        let lock = lock_root(&**disk, &root, options.lock_wait)?;
        finish_removals(&**disk, &root)?;
        let (full, is_full) = channel();
        let journal = Journal::open(&root.join(JOURNAL), &options, full)?;
        let (crowded, is_crowded) = channel();
        let pool = Pool::new(options.open_accounts.get(), crowded);
        let open = Open {
            accounts: LruCache::unbounded(),
            opening: HashSet::new(),
        };
        let shared = Arc::new(Shared {
            root,
            options,
            journal: Arc::new(journal),
            pool: Arc::new(pool),
            open: Mutex::new(open),
            is_opened: Condvar::new(),
            busy: Mutex::default(),
        });
        let closed = shared.clone();
        let closer = thread("mail-closer", move || closed.close_until(&is_crowded))?;
        shared.empty_journal(false);
        let emptied = shared.clone();
        let emptier = thread("mail-journal", move || emptied.run(&is_full))?;
        let (stop, is_stopped) = channel();
        let kept = shared.clone();
        let keeper = thread("mail-snapshots", move || {
            kept.keep_snapshots_until(&is_stopped);
        })?;
        let (end, is_ended) = channel();
        let reclaimed = shared.clone();
        let reclaimer = thread("mail-reclaim", move || reclaimed.reclaim_until(&is_ended))?;
        Ok(Self {
            shared,
            emptier: Some(emptier),
            closer: Some(closer),
            keeper: Some((stop, keeper)),
            reclaimer: Some((end, reclaimer)),
            _lock: lock,
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
        let mut open = shared.lock_closed(id);
        if shared.busy().contains(&id) {
            return Err(StoreError::Busy);
        }
        let account = open.accounts.pop(&id);
        open.opening.insert(id);
        drop(open);
        // Who wants that account waits until it is gone, and nobody else.
        let opening = Opening { shared, id };
        if let Some(account) = account {
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
        sync_folder(&*shared.options.disk, &shared.root)?;
        drop(opening);
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
    /// Nobody else can use the account meanwhile; [`StoreError::Busy`] if somebody reads in it and
    /// does not come to an end. `now` is Unix time in seconds.
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
        self.shared.pool.hang_up();
        if let Some(closer) = self.closer.take()
            && closer.join().is_err()
        {
            warn!("the thread that closes accounts panicked");
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
        self.shared.journal.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same when nobody is just opening that account.
    fn lock_closed(&self, id: AccountId) -> MutexGuard<'_, Open> {
        let open = self.lock();
        let is_opening = |open: &mut Open| open.opening.contains(&id);
        let waited = self.is_opened.wait_while(open, is_opening);
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    fn in_memory(&self) -> Vec<Arc<Account>> {
        let open = self.lock();
        open.accounts.iter().map(|(_, one)| one.clone()).collect()
    }

    fn busy(&self) -> MutexGuard<'_, HashSet<AccountId>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an account out of use, and waits for those who still have it open: what they read, and
    /// what of it is durable, would be of an index that another one has replaced.
    fn claim(&self, id: AccountId) -> Result<Claim<'_>, StoreError> {
        let open = self.lock_closed(id);
        if !self.busy().insert(id) {
            return Err(StoreError::Busy);
        }
        let claim = Claim { shared: self, id };
        let account = open.accounts.peek(&id).cloned();
        drop(open);
        if let Some(account) = account {
            account.take_out(STILL_OPEN)?;
            self.lock().accounts.pop(&id);
        }
        Ok(claim)
    }

    pub(crate) fn account(&self, id: AccountId, now: i64) -> Result<Arc<Account>, StoreError> {
        let mut open = self.lock_closed(id);
        if self.busy().contains(&id) {
            return Err(StoreError::Busy);
        }
        match open.accounts.get(&id) {
            Some(account) if !account.has_failed() => return Ok(account.clone()),
            _ => {}
        }
        let failed = open.accounts.pop(&id);
        open.opening.insert(id);
        drop(open);
        let _opening = Opening { shared: self, id };
        if let Some(failed) = failed {
            failed.close(LET_GO);
        }
        let (folder, journal) = (self.folder(id), self.journal.clone());
        let open = || Account::open(id, folder, &self.options, journal, &self.pool, now);
        let opened = caught(open)?;
        let account = Arc::new(opened);
        let mut open = self.lock();
        open.accounts.put(id, account.clone());
        if open.accounts.len() > self.most_known() {
            self.pool.tell();
        }
        Ok(account)
    }

    fn most_known(&self) -> usize {
        let open = self.options.open_accounts.get();
        open.saturating_mul(KNOWN_PER_OPEN)
    }

    fn folder(&self, id: AccountId) -> PathBuf {
        self.root.join(id.to_string())
    }

    fn close_until(&self, crowded: &Receiver<()>) {
        while crowded.recv().is_ok() {
            self.pool.is_heard();
            self.close_surplus();
            self.forget_surplus();
        }
    }

    /// Closes the longest unused indexes over the limit. Nobody waits for that but who wants one of
    /// them.
    fn close_surplus(&self) {
        let surplus = self.pool.surplus();
        if surplus == 0 {
            return;
        }
        let mut by_use: Vec<(u64, Arc<Account>)> = self
            .in_memory()
            .into_iter()
            .filter_map(|account| Some((account.index.last_use_if_free()?, account)))
            .collect();
        by_use.sort_unstable_by_key(|(used, _)| *used);
        let mut closed = 0;
        for (_, account) in by_use {
            if closed >= surplus {
                break;
            }
            closed += usize::from(rest(&account));
        }
    }

    /// Forgets the longest unused accounts over the limit; those in use stay.
    fn forget_surplus(&self) {
        let most = self.most_known();
        let candidates: Vec<Arc<Account>> = {
            let open = self.lock();
            let surplus = open.accounts.len().saturating_sub(most);
            let unused = open.accounts.iter().rev();
            let unused = unused.filter(|(_, one)| Arc::strong_count(one) == 1);
            unused.take(surplus).map(|(_, one)| one.clone()).collect()
        };
        for account in candidates {
            keep_snapshot(&account, |_, _| true);
            rest(&account);
            let mut open = self.lock();
            // Nobody else has it, so that nobody can change it any more.
            let known = open.accounts.peek(&account.id());
            let is_known = known.is_some_and(|one| Arc::ptr_eq(one, &account));
            if is_known && Arc::strong_count(&account) == 2 && account.may_be_forgotten() {
                open.accounts.pop(&account.id());
            }
            drop(open);
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
            let open: Vec<AccountId> = self.in_memory().iter().map(|one| one.id()).collect();
            for id in open {
                // Looked up one by one, so that none is kept open for its turn.
                let account = self.lock().accounts.peek(&id).cloned();
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
        for account in self.in_memory() {
            keep_snapshot(&account, &is_due);
        }
    }

    fn run(&self, full: &Receiver<()>) {
        while full.recv().is_ok() {
            self.journal.is_heard();
            // In turns: mail that never ends must not keep the full files of those with little.
            self.empty_journal(true);
            self.make_room();
        }
    }

    /// Puts into indexes what waits in memory, most of it first, of so many accounts that there is
    /// room and none has too much. Each is opened once for all that it has. If some is left, or came
    /// meanwhile, the next turn comes at once.
    fn make_room(&self) {
        let surplus = self.journal.surplus();
        // Half of what may wait would be left, and soon be too much again.
        let goal = if surplus > 0 {
            surplus + self.options.pending / 4
        } else {
            0
        };
        let mut waiting: Vec<(usize, AccountId)> = self
            .in_memory()
            .into_iter()
            .map(|account| (account.pending(), account.id()))
            .filter(|(octets, _)| *octets > 0)
            .collect();
        waiting.sort_unstable_by(|a, b| b.cmp(a));
        let mut sum = 0;
        let heavy = waiting.into_iter().take_while(|(octets, _)| {
            let is_wanted = sum < goal || *octets >= PENDING_MAX;
            sum += octets;
            is_wanted
        });
        let heavy: Vec<AccountId> = heavy.map(|(_, id)| id).collect();
        let before = self.journal.pending();
        self.empty(&heavy);
        // Else there is nothing to do, or they take nothing, as on a full disk.
        if !heavy.is_empty() && self.journal.pending() < before {
            self.journal.tell();
        }
    }

    /// Makes accounts durable in their own files, some at a time: the disk makes their syncs one.
    fn empty(&self, ids: &[AccountId]) {
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(id) = ids.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = caught(|| self.empty_one(*id)) {
                    warn!(account = %id, %error, "an account cannot be made durable");
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..EMPTIED_AT_ONCE.min(ids.len()) {
                let helper = std::thread::Builder::new().name("mail-journal".to_owned());
                if helper.spawn_scoped(scope, work).is_err() {
                    break;
                }
            }
            work();
        });
    }

    /// Makes durable in each account what the journal has of it. Where that fails the journal's
    /// entries stay, and it is tried again with the next file or at the next start.
    fn empty_journal(&self, full_only: bool) {
        self.empty(&self.journal.accounts(full_only));
    }

    /// Small things that were not worth a transaction, and snapshots; all files are closed.
    fn save_all(&self) {
        for account in self.in_memory() {
            keep_snapshot(&account, |_, _| true);
            rest(&account);
        }
    }

    fn empty_one(&self, id: AccountId) -> Result<(), StoreError> {
        // Taken first: an account that is made anew meanwhile has mail behind it.
        let mark = self.journal.last_mark(id);
        if !self.folder(id).exists() {
            // Removed, and a crash came before the journal was told.
            if let Some(mark) = mark {
                self.journal.settle_to(id, mark);
            }
            return Ok(());
        }
        let account = self.account(id, unix_now())?;
        if account.index.is_open() {
            return account.checkpoint();
        }
        // It is opened for this alone, and takes nobody's place.
        account.rest().map(drop)
    }
}

/// Unix time in seconds.
fn unix_now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}

/// Makes an account durable and closes its files; true if they are closed.
fn rest(account: &Account) -> bool {
    caught(|| account.rest()).unwrap_or_else(|error| {
        // The journal keeps what it has of it.
        warn!(account = %account.id(), %error, "an account cannot be made durable");
        false
    })
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| StoreError::io("thread", error))
}

fn keep_snapshot(account: &Account, is_due: impl FnOnce(u64, u64) -> bool) {
    if let Err(error) = caught(|| account.keep_snapshot(unix_now(), is_due)) {
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
