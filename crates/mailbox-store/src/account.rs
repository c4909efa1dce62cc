mod commit;
pub(crate) mod index;
mod recent;
pub(crate) mod reclaim;
mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use mail_types::{AccountId, MailboxId};
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable};

use crate::change::Hub;
use crate::disk::{SharedDisk, make_folder, sync_folder};
use crate::group::Group;
use crate::index_file::{OpenIndex, open_index};
use crate::journal::Journal;
use crate::schema::{self, DELIVERIES, MAILBOXES, META, MailboxRow, SUBSCRIPTIONS, meta};
use crate::segment::{Appender, Segments, has_mail};
use crate::snapshot::{IndexCopy, Keeper};
use crate::store::Options;
use crate::write::defaults;
use crate::{
    Applied, ApplyError, DeliveryKey, Event, Known, Operation, Snapshot, StoreError, Target,
    Watcher,
};
use index::{Index, Pool, wait_until};
use recent::{LATE_AT_OPENING, NOT_OF_THE_QUEUE, Recent};
pub(crate) use stage::{PENDING_MAX, Staged};

/// One account's mail. All methods block on the disk: call them off asynchronous threads.
pub struct Account {
    id: AccountId,
    disk: SharedDisk,
    folder: PathBuf,
    pub(crate) index: Index,
    pub(crate) segments: Segments,
    journal: Arc<Journal>,
    hub: Arc<Hub>,
    /// Operations that wait for the writer.
    group: Group<Operation, Outcome>,
    /// Who decides what happens next to the account; held until it is durable and published.
    turn: Mutex<()>,
    writer: Mutex<Writer>,
    recent: Mutex<Recent>,
    /// `recent` has mail that the index lacks.
    has_pending: AtomicBool,
    /// What is durable; readers take a copy. Changed while `recent` is held.
    state: RwLock<Arc<State>>,
    keeper: Keeper,
    /// Held while a snapshot is written; before `writer`.
    keeping: Mutex<()>,
    /// Emails were removed since their space was looked at; at first nobody knows.
    may_have_dead: AtomicBool,
    failed: Arc<AtomicBool>,
    /// Which opening of an account of this process it is, or mending of its index.
    epoch: AtomicU64,
}

/// Accounts that this process has opened or mended: what one of them told of its mailboxes does not
/// hold for the next one of the same folder, which may have been mended in between.
static OPENED: AtomicU64 = AtomicU64::new(0);

fn next_epoch() -> u64 {
    OPENED.fetch_add(1, Ordering::Relaxed) + 1
}

pub(crate) type Outcome = Result<Result<Applied, ApplyError>, Arc<StoreError>>;

/// The account's own files.
struct Writer {
    appender: Appender,
}

/// The account's small facts, in memory: mailboxes, names, counters.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) mailboxes: Arc<BTreeMap<u64, Arc<MailboxRow>>>,
    pub(crate) names: Arc<BTreeMap<String, u64>>,
    pub(crate) subscriptions: Arc<BTreeSet<String>>,
    pub(crate) counters: Counters,
}

/// The numbers in the table `meta`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) next_email: u64,
    pub(crate) next_mailbox: u64,
    pub(crate) next_thread: u64,
    pub(crate) uid_validity: u64,
    /// Operations that the journal has got so far; see [`crate::redo`].
    pub(crate) applied: u64,
    pub(crate) used_bytes: u64,
    pub(crate) used_messages: u64,
}

impl Account {
    /// Opens an account's folder, and makes a new account if there is none. `now` is Unix time in
    /// seconds.
    pub(crate) fn open(
        id: AccountId,
        folder: PathBuf,
        options: &Options,
        journal: Arc<Journal>,
        pool: &Arc<Pool>,
        now: i64,
    ) -> Result<Self, StoreError> {
        let disk = &options.disk;
        make_folder(&**disk, &folder)?;
        // A new index would say that the segments are empty.
        if !folder.join("index.redb").exists() && has_mail(&folder.join("segments")) {
            return Err(StoreError::IndexMissing(folder));
        }
        let path = folder.join("index.redb");
        let failed: Arc<AtomicBool> = Arc::default();
        let (cache, pool) = (options.index_cache, pool.clone());
        let index = Index::new(path, disk.clone(), cache, pool, failed.clone());
        let db = index.get_by(false, || open_or_make_index(options, &folder, now))?;
        let (state, segment, end) = load(&db.begin_read()?)?;
        let recent = Recent::new(&late_keys(&db)?);
        drop(db);
        if state.counters.next_email == 1 {
            // Mail that the journal answers for must find its account after a crash.
            for folder in [Some(&*folder), folder.parent()].into_iter().flatten() {
                sync_folder(&**disk, folder)?;
            }
        }
        let segment_folder = folder.join("segments");
        let appender = Appender::open(disk, &segment_folder, segment, end, options.segment_size)?;
        let account = Self {
            id,
            disk: disk.clone(),
            folder,
            index,
            segments: Segments::new(segment_folder),
            journal,
            hub: Arc::default(),
            group: Group::default(),
            turn: Mutex::default(),
            writer: Mutex::new(Writer { appender }),
            recent: Mutex::new(recent),
            has_pending: AtomicBool::new(false),
            state: RwLock::new(Arc::new(state)),
            keeper: Keeper::default(),
            keeping: Mutex::default(),
            may_have_dead: AtomicBool::new(true),
            failed,
            epoch: AtomicU64::new(next_epoch()),
        };
        account.replay(now)?;
        Ok(account)
    }

    /// Writes a snapshot, if there is something new for it and `is_due` says so of the number of
    /// changes and of the messages. `now` is Unix time in seconds.
    pub(crate) fn keep_snapshot(
        &self,
        now: i64,
        is_due: impl FnOnce(u64, u64) -> bool,
    ) -> Result<(), StoreError> {
        let _keeping = lock(&self.keeping);
        let unkept = self.keeper.unkept();
        if unkept == 0 || !is_due(unkept, self.usage().messages) || self.has_failed() {
            return Ok(());
        }
        let (txn, changes) = {
            let mut writer = lock(&self.writer);
            self.catch_up(&mut writer)?;
            (self.index.read()?, self.keeper.changes())
        };
        let copy = IndexCopy::of(&txn, now)?;
        drop(txn);
        let held = || Some(lock(&self.writer)).filter(|_| !self.has_failed());
        self.keeper
            .keep(&*self.disk, &self.folder, &copy, changes, held)
    }

    /// Whoever comes next has the folder's snapshots alone. The account has failed, so that no other
    /// snapshot is begun.
    fn await_snapshot(&self) {
        drop(lock(&self.keeping));
    }

    /// Writes a snapshot, whatever the last one has. `now` is Unix time in seconds.
    pub(crate) fn keep_new_snapshot(&self, now: i64) -> Result<(), StoreError> {
        self.keeper.note(&*self.disk, &self.folder, 1)?;
        self.keep_snapshot(now, |_, _| true)
    }

    /// The account's id.
    pub fn id(&self) -> AccountId {
        self.id
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// What was told of its mailboxes so far does not hold any more.
    fn begin_epoch(&self) {
        self.epoch.store(next_epoch(), Ordering::Release);
    }

    /// The account's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// True if the index has to be opened anew before it works again.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// True if somebody watches one of its mailboxes.
    pub(crate) fn is_watched(&self) -> bool {
        self.hub.is_watched()
    }

    pub(crate) fn state(&self) -> Arc<State> {
        self.state
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The mailbox as it is, and then all that happens to it. `callback` is called in the order of
    /// the changes and must not block. With `claim_recent` messages that no watcher has claimed
    /// are `\Recent` to this one.
    pub fn watch(
        &self,
        target: &Target,
        claim_recent: bool,
        callback: impl Fn(Event) + Send + Sync + 'static,
    ) -> Result<Option<(Snapshot, Watcher)>, StoreError> {
        self.watch_known(target, claim_recent, None, callback)
    }

    /// The same for a watcher that has seen the mailbox before: if nothing has changed since, the
    /// snapshot says so instead of naming all messages.
    pub fn watch_known(
        &self,
        target: &Target,
        claim_recent: bool,
        known: Option<Known>,
        callback: impl Fn(Event) + Send + Sync + 'static,
    ) -> Result<Option<(Snapshot, Watcher)>, StoreError> {
        // No change can come between the snapshot and the watching.
        let _writer = lock(&self.writer);
        let mut recent = lock(&self.recent);
        let state = self.state();
        let Some(id) = state.find(target) else {
            return Ok(None);
        };
        let Some(row) = state.mailboxes.get(&id) else {
            return Ok(None);
        };
        let mut snapshot = self.snapshot(id, row);
        let now = Known {
            mailbox: snapshot.mailbox_id,
            epoch: snapshot.epoch,
            highest_modseq: snapshot.highest_modseq,
        };
        snapshot.unchanged = known == Some(now);
        if !snapshot.unchanged {
            snapshot.messages = self.message_states(id, row)?;
            snapshot.messages.extend(recent.messages(id));
        }
        if claim_recent && row.recent_from < row.uid_next {
            snapshot.first_recent = Some(row.recent_from);
            self.claim(&state, id, &mut recent);
        }
        let mailbox = MailboxId::from(id);
        let watcher = self.hub.watch(mailbox, claim_recent, Arc::new(callback));
        Ok(Some((snapshot, watcher)))
    }

    /// Not worth a transaction: after a crash a message is recent once more.
    fn claim(&self, state: &State, id: u64, recent: &mut Recent) {
        let mut state = state.clone();
        if let Some(row) = state.row_mut(id) {
            row.recent_from = row.uid_next;
        }
        recent.note_unsaved(id);
        self.set_state(state);
    }

    fn set_state(&self, state: State) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(state);
    }

    /// Fails from now on; watchers have to watch anew. Those who read in it have so long.
    pub(crate) fn close(&self, longest: Duration) {
        {
            let _turn = lock(&self.turn);
            let mut writer = lock(&self.writer);
            self.failed.store(true, Ordering::Release);
            self.hub.drop_all();
            // The index counts as written once it is closed: what it points at must be, too.
            if let Err(error) = writer.appender.sync() {
                tracing::error!(account = %self.id, %error, "a segment cannot be made durable");
            }
        }
        self.await_snapshot();
        if let Err(error) = self.index.shut(longest) {
            // What the journal has of it is done again.
            tracing::warn!(account = %self.id, %error, "an index cannot be closed");
        }
    }

    /// Takes it out of use for good, durable but for what the journal has; watchers have to watch
    /// anew. [`StoreError::Busy`] if somebody reads in it for so long: then all is as it was.
    pub(crate) fn take_out(&self, longest: Duration) -> Result<(), StoreError> {
        if let Err(error) = self.checkpoint() {
            // The journal has what the index lacks.
            tracing::warn!(account = %self.id, %error, "an account cannot be made durable");
        }
        self.index.refuse();
        // Mail still comes in, into the journal and memory.
        let is_closed = wait_until(longest, || {
            let mut writer = lock(&self.writer);
            writer.appender.sync()?;
            self.index.close()
        });
        match is_closed {
            Ok(true) => {}
            Ok(false) => {
                self.index.allow();
                return Err(StoreError::Busy);
            }
            Err(error @ StoreError::Fatal(_)) => return Err(error),
            Err(error) => {
                tracing::warn!(account = %self.id, %error, "an index cannot be closed");
            }
        }
        {
            let _turn = lock(&self.turn);
            let _writer = lock(&self.writer);
            self.failed.store(true, Ordering::Release);
            self.hub.drop_all();
        }
        self.await_snapshot();
        Ok(())
    }

    /// Makes durable what it has and closes its files, which are opened again when they are wanted:
    /// what stays is its small facts. False if somebody has it open.
    pub(crate) fn rest(&self) -> Result<bool, StoreError> {
        self.sync_segment()?;
        let mut writer = lock(&self.writer);
        // Nobody may write between the sync and the closing, which makes all durable that the index
        // has: what it points at must be so before.
        let part = if self.has_failed() {
            None
        } else {
            Some(self.catch_up(&mut writer)?)
        };
        writer.appender.sync()?;
        let is_closed = self.index.close().inspect_err(|_| {
            // Only opening it again tells what it has.
            self.failed.store(true, Ordering::Release);
        })?;
        match part {
            Some(part) if is_closed => self.is_settled(&part),
            Some(part) => self.settle(&mut writer, &part)?,
            None => {}
        }
        if !is_closed {
            return Ok(false);
        }
        writer.appender.rest();
        drop(writer);
        self.segments.rest();
        Ok(true)
    }

    /// Nothing is lost if it is forgotten now.
    pub(crate) fn may_be_forgotten(&self) -> bool {
        self.index.is_at_rest() && lock(&self.recent).is_settled() && !self.is_watched()
    }

    /// Tells all watchers that their mailbox is gone, and fails from now on.
    pub(crate) fn end(&self) {
        {
            let _turn = lock(&self.turn);
            let mut writer = lock(&self.writer);
            self.failed.store(true, Ordering::Release);
            // Whoever lets go of the index last makes it durable: what it points at must be, too.
            if let Err(error) = writer.appender.sync() {
                tracing::error!(account = %self.id, %error, "a segment cannot be made durable");
            }
            for id in self.state().mailboxes.keys() {
                self.hub.tell_gone(MailboxId::from(*id));
            }
        }
        // Whoever still has this account must not open the index of one that is made anew.
        self.index.abandon();
        self.await_snapshot();
    }
}

impl State {
    /// A mailbox's row, to be changed.
    pub(crate) fn row_mut(&mut self, mailbox: u64) -> Option<&mut MailboxRow> {
        let rows = Arc::make_mut(&mut self.mailboxes);
        rows.get_mut(&mailbox).map(Arc::make_mut)
    }

    pub(crate) fn insert(&mut self, id: u64, row: MailboxRow) {
        Arc::make_mut(&mut self.names).insert(row.name.clone(), id);
        Arc::make_mut(&mut self.mailboxes).insert(id, Arc::new(row));
    }

    /// The mailbox's id, if it is there.
    pub(crate) fn find(&self, target: &Target) -> Option<u64> {
        match target {
            Target::Id(id) => Some(id.get()).filter(|id| self.mailboxes.contains_key(id)),
            Target::Name(name) => self.names.get(name.as_str()).copied(),
        }
    }
}

/// A new index gets its name once it is whole: half of one could not be opened any more.
fn open_or_make_index(options: &Options, folder: &Path, now: i64) -> Result<OpenIndex, StoreError> {
    let (disk, cache) = (&*options.disk, options.index_cache);
    let index = folder.join("index.redb");
    if index.exists() {
        let db = open_index(disk, &index, cache)?;
        prepare(&db, now)?;
        return Ok(db);
    }
    let new = folder.join("index.begun");
    let failed = |error| StoreError::io(&new, error);
    if new.exists() {
        disk.remove_file(&new).map_err(failed)?;
    }
    let db = open_index(disk, &new, cache)?;
    prepare(&db, now)?;
    disk.rename(&new, &index).map_err(failed)?;
    Ok(db)
}

/// Makes the tables and the first mailboxes of a new account.
fn prepare(db: &Database, now: i64) -> Result<(), StoreError> {
    let version = {
        let txn = db.begin_read()?;
        match txn.open_table(META) {
            Ok(table) => table.get(meta::VERSION)?.map(|value| value.value()),
            Err(redb::TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(error.into()),
        }
    };
    match version {
        Some(schema::VERSION) => Ok(()),
        Some(other) => Err(StoreError::Engine(format!(
            "the index has form {other}, this program writes form {}",
            schema::VERSION
        ))),
        None => defaults(db, now),
    }
}

/// The highest keys of the queue that were ever delivered, the highest first.
fn late_keys(db: &Database) -> Result<Vec<DeliveryKey>, StoreError> {
    let table = db.begin_read()?.open_table(DELIVERIES)?;
    let mut keys = Vec::new();
    for row in table
        .range(..(NOT_OF_THE_QUEUE, 0))?
        .rev()
        .take(LATE_AT_OPENING)
    {
        let (queue_id, index) = row?.0.value();
        keys.push(DeliveryKey { queue_id, index });
    }
    Ok(keys)
}

/// What the index says: the state, and the segment with its end.
pub(crate) fn load(txn: &ReadTransaction) -> Result<(State, u32, u64), StoreError> {
    let mut state = State::default();
    for row in txn.open_table(MAILBOXES)?.iter()? {
        let (id, row) = row?;
        let row = MailboxRow::decode(row.value())?;
        state.insert(id.value(), row);
    }
    let subscriptions = Arc::make_mut(&mut state.subscriptions);
    for name in txn.open_table(SUBSCRIPTIONS)?.iter()? {
        subscriptions.insert(name?.0.value().to_owned());
    }
    let table = txn.open_table(META)?;
    let read = |name: &str| -> Result<u64, StoreError> {
        Ok(table.get(name)?.map_or(0, |value| value.value()))
    };
    state.counters = Counters {
        next_email: read(meta::NEXT_EMAIL)?,
        next_mailbox: read(meta::NEXT_MAILBOX)?,
        next_thread: read(meta::NEXT_THREAD)?,
        uid_validity: read(meta::UID_VALIDITY)?,
        applied: read(meta::APPLIED)?,
        used_bytes: read(meta::USED_BYTES)?,
        used_messages: read(meta::USED_MESSAGES)?,
    };
    let segment = u32::try_from(read(meta::SEGMENT)?).unwrap_or(u32::MAX);
    let end = read(meta::SEGMENT_END)?;
    Ok((state, segment, end))
}

/// A panic elsewhere leaves nothing half done here: what is not committed does not count.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Account {
    fn drop(&mut self) {
        // What it has of them is in the journal.
        self.journal.give_room(lock(&self.recent).octets());
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
