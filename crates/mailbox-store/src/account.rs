use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use mail_types::{AccountId, MailboxId};
use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, WriteTransaction,
};

use crate::change::Hub;
use crate::disk::{SharedDisk, make_folder, sync_folder};
use crate::group::Group;
use crate::index_file::open_index;
use crate::journal::Journal;
use crate::schema::{self, MAILBOXES, META, MailboxRow, SUBSCRIPTIONS, meta};
use crate::segment::{Appender, Segments, has_mail};
use crate::snapshot::{IndexCopy, Keeper, is_told_by_record};
use crate::store::Options;
use crate::write::{Batch, Finished, defaults};
use crate::{Applied, ApplyError, Event, Operation, Snapshot, StoreError, Target, Watcher};

/// Octets of one message from which on it is synced itself: the journal would write it twice.
const JOURNAL_MAX: usize = 256 * 1024;
/// Octets of an account's mail for which the journal alone answers; then its own files are synced.
const LAZY_MAX: u64 = 16 * 1024 * 1024;

/// One account's mail. All methods block on the disk: call them off asynchronous threads.
pub struct Account {
    id: AccountId,
    disk: SharedDisk,
    folder: PathBuf,
    pub(crate) db: Database,
    pub(crate) segments: Segments,
    journal: Arc<Journal>,
    hub: Arc<Hub>,
    /// Operations that wait for the writer.
    group: Group<Operation, Outcome>,
    writer: Mutex<Writer>,
    /// What is committed; readers take a copy.
    state: RwLock<Arc<State>>,
    keeper: Keeper,
    failed: AtomicBool,
}

type Outcome = Result<Result<Applied, ApplyError>, Arc<StoreError>>;

struct Writer {
    appender: Appender,
    /// Octets that only the journal has made durable.
    lazy: u64,
}

/// The account's small facts, in memory: mailboxes, names, counters.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) mailboxes: BTreeMap<u64, Arc<MailboxRow>>,
    pub(crate) names: BTreeMap<String, u64>,
    pub(crate) subscriptions: BTreeSet<String>,
    pub(crate) counters: Counters,
}

/// The numbers in the table `meta`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) next_email: u64,
    pub(crate) next_mailbox: u64,
    pub(crate) next_thread: u64,
    pub(crate) uid_validity: u64,
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
        now: i64,
    ) -> Result<Self, StoreError> {
        let disk = &options.disk;
        make_folder(&**disk, &folder)?;
        // A new index would say that the segments are empty.
        if !folder.join("index.redb").exists() && has_mail(&folder.join("segments")) {
            return Err(StoreError::IndexMissing(folder));
        }
        let db = open_or_make_index(options, &folder, now)?;
        let (state, segment, end) = load(&db.begin_read()?)?;
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
            db,
            segments: Segments::new(segment_folder),
            journal,
            hub: Arc::default(),
            group: Group::default(),
            writer: Mutex::new(Writer { appender, lazy: 0 }),
            state: RwLock::new(Arc::new(state)),
            keeper: Keeper::default(),
            failed: AtomicBool::new(false),
        };
        account.replay(now)?;
        Ok(account)
    }

    /// Does what the journal has and the index lacks, after a crash or a failed commit.
    fn replay(&self, now: i64) -> Result<(), StoreError> {
        let entries = self.journal.entries(self.id)?;
        if entries.is_empty() {
            return Ok(());
        }
        let mut writer = lock(&self.writer);
        let txn = self.db.begin_write()?;
        let mut batch = self.begin(&txn, &mut writer.appender, now)?;
        for (header, content) in entries {
            batch.restore(&header, Bytes::from(content), None)?;
        }
        let finished = batch.finish()?;
        writer.appender.sync()?;
        txn.commit()?;
        self.publish(finished);
        self.journal.settle(self.id);
        Ok(())
    }

    /// Makes durable in the account's own files what only the journal has so far.
    pub(crate) fn checkpoint(&self) -> Result<(), StoreError> {
        let mut writer = lock(&self.writer);
        if writer.lazy > 0 && !self.has_failed() {
            writer.appender.sync()?;
            self.end_transaction(self.db.begin_write()?)?;
            writer.lazy = 0;
            self.journal.settle(self.id);
        }
        Ok(())
    }

    /// Writes a snapshot, if there is something new for it and `is_due` says so of the number of
    /// changes and of the messages. `now` is Unix time in seconds.
    pub(crate) fn keep_snapshot(
        &self,
        now: i64,
        is_due: impl FnOnce(u64, u64) -> bool,
    ) -> Result<(), StoreError> {
        let unkept = self.keeper.unkept();
        if unkept == 0 || !is_due(unkept, self.usage().messages) || self.has_failed() {
            return Ok(());
        }
        let (txn, changes) = {
            let _writer = lock(&self.writer);
            (self.db.begin_read()?, self.keeper.changes())
        };
        let copy = IndexCopy::of(&txn, now)?;
        drop(txn);
        let held = || lock(&self.writer);
        self.keeper
            .keep(&*self.disk, &self.folder, &copy, changes, held)
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

    /// Does one operation; it is durable when this returns. `now` is Unix time in seconds.
    pub fn apply(&self, operation: Operation, now: i64) -> Outcome {
        let mut outcomes = self.apply_all(vec![operation], now);
        let none = || Err(Arc::new(StoreError::Engine("no outcome".to_owned())));
        outcomes.pop().unwrap_or_else(none)
    }

    /// Does several operations, one after the other, in one transaction with whatever else waits.
    /// Answers in their order.
    pub fn apply_all(&self, operations: Vec<Operation>, now: i64) -> Vec<Outcome> {
        let count = operations.len();
        let outcomes = self.group.run(operations, |batch| {
            let mut writer = lock(&self.writer);
            let batch: Vec<&Operation> = batch.iter().collect();
            self.write(&mut writer, &batch, now)
        });
        outcomes.unwrap_or_else(|| {
            let lost = Arc::new(StoreError::Engine("the writer panicked".to_owned()));
            vec![Err(lost); count]
        })
    }

    fn write(&self, writer: &mut Writer, batch: &[&Operation], now: i64) -> Vec<Outcome> {
        match self.transact(writer, batch, now) {
            Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
            Err(error) if batch.len() == 1 || error.is_fatal() || self.has_failed() => {
                let error = Arc::new(error);
                vec![Err(error); batch.len()]
            }
            // One that cannot be done must not take the others with it.
            Err(_) => batch
                .iter()
                .flat_map(|one| self.write(writer, &[one], now))
                .collect(),
        }
    }

    fn transact(
        &self,
        writer: &mut Writer,
        operations: &[&Operation],
        now: i64,
    ) -> Result<Vec<Result<Applied, ApplyError>>, StoreError> {
        if self.has_failed() {
            return Err(StoreError::Engine("the account was closed".to_owned()));
        }
        let before = writer.appender.position();
        let result = self.commit(writer, operations, now);
        if let Err(error) = &result {
            if matches!(error, StoreError::Engine(_)) {
                self.failed.store(true, Ordering::Release);
            }
            // An account that is opened again cuts its segment where the index says.
            if !self.has_failed() {
                writer.appender.rewind(before)?;
            }
        }
        result
    }

    fn commit(
        &self,
        writer: &mut Writer,
        operations: &[&Operation],
        now: i64,
    ) -> Result<Vec<Result<Applied, ApplyError>>, StoreError> {
        let is_lazy = is_lazy(writer, operations);
        let mut txn = self.db.begin_write()?;
        if is_lazy {
            txn.set_durability(Durability::None)?;
        }
        let mut batch = self.begin(&txn, &mut writer.appender, now)?;
        if is_lazy {
            batch.keep_records();
        }
        let mut outcomes = Vec::with_capacity(operations.len());
        for operation in operations {
            outcomes.push(batch.apply(operation)?);
        }
        let mut finished = batch.finish()?;
        let records = std::mem::take(&mut finished.records);
        if is_lazy {
            writer.lazy += records.len() as u64;
            self.commit_lazily(txn, records)?;
        } else {
            let untold = operations.iter().filter(|one| !is_told_by_record(one));
            self.keeper
                .note(&*self.disk, &self.folder, untold.count() as u64)?;
            writer.appender.sync()?;
            self.end_transaction(txn)?;
            writer.lazy = 0;
            self.journal.settle(self.id);
        }
        self.publish(finished);
        Ok(outcomes)
    }

    /// The journal is what makes it durable; nobody sees it before.
    fn commit_lazily(&self, txn: WriteTransaction, records: Vec<u8>) -> Result<(), StoreError> {
        if !records.is_empty() {
            self.journal
                .append(self.id, records)
                .map_err(|error| StoreError::shared(&error))?;
        }
        self.end_transaction(txn)
    }

    /// If it fails, only opening the account again tells what the index has. The journal may have
    /// what the index has not; opening puts that right too.
    fn end_transaction(&self, txn: WriteTransaction) -> Result<(), StoreError> {
        txn.commit().map_err(|error| {
            self.failed.store(true, Ordering::Release);
            error.into()
        })
    }

    fn begin<'t>(
        &'t self,
        txn: &'t WriteTransaction,
        appender: &'t mut Appender,
        now: i64,
    ) -> Result<Batch<'t>, StoreError> {
        Batch::begin(txn, self.id.get(), &self.state(), appender, &self.hub, now)
    }

    fn publish(&self, finished: Finished) {
        let state = Arc::new(finished.state);
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
        for effect in finished.effects {
            effect.tell(&self.hub);
        }
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
        // No change can come between the snapshot and the watching.
        let _writer = lock(&self.writer);
        let state = self.state();
        let Some(id) = state.find(target) else {
            return Ok(None);
        };
        let Some(row) = state.mailboxes.get(&id) else {
            return Ok(None);
        };
        let mut snapshot = self.snapshot(id, row)?;
        if claim_recent && row.recent_from < row.uid_next {
            snapshot.first_recent = Some(row.recent_from);
            self.claim(&state, id, row)?;
        }
        let mailbox = MailboxId::from(id);
        let watcher = self.hub.watch(mailbox, claim_recent, Arc::new(callback));
        Ok(Some((snapshot, watcher)))
    }

    /// Not worth a sync: after a crash a message is recent once more.
    fn claim(&self, state: &State, id: u64, row: &MailboxRow) -> Result<(), StoreError> {
        let row = MailboxRow {
            recent_from: row.uid_next,
            ..row.clone()
        };
        let mut txn = self.db.begin_write()?;
        txn.set_durability(Durability::None)?;
        txn.open_table(MAILBOXES)?
            .insert(id, row.encode().as_slice())?;
        txn.commit()?;
        let mut state = state.clone();
        state.mailboxes.insert(id, Arc::new(row));
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(state);
        Ok(())
    }

    /// Changes the index with other means than operations; nobody else writes meanwhile. Watchers
    /// have to watch anew. What the change answers beside its outcome says whether there was one.
    pub(crate) fn rewrite<T>(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<(T, bool), StoreError>,
    ) -> Result<T, StoreError> {
        let mut writer = lock(&self.writer);
        if self.has_failed() {
            return Err(StoreError::Busy);
        }
        let txn = self.db.begin_write()?;
        let (outcome, is_changed) = change(&txn)?;
        if !is_changed {
            return Ok(outcome);
        }
        self.keeper.note(&*self.disk, &self.folder, 1)?;
        writer.appender.sync()?;
        self.end_transaction(txn)?;
        writer.lazy = 0;
        self.journal.settle(self.id);
        let (state, ..) = load(&self.db.begin_read()?)?;
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(state);
        self.hub.drop_all();
        Ok(outcome)
    }

    /// Fails from now on; watchers have to watch anew.
    pub(crate) fn close(&self) {
        let _writer = lock(&self.writer);
        self.failed.store(true, Ordering::Release);
        self.hub.drop_all();
    }

    /// Tells all watchers that their mailbox is gone, and fails from now on.
    pub(crate) fn end(&self) {
        let _writer = lock(&self.writer);
        self.failed.store(true, Ordering::Release);
        for id in self.state().mailboxes.keys() {
            self.hub.tell_gone(MailboxId::from(*id));
        }
    }
}

/// May the journal answer for it?
fn is_lazy(writer: &Writer, operations: &[&Operation]) -> bool {
    writer.lazy < LAZY_MAX
        && operations.iter().all(|operation| {
            let len = operation.journal_len();
            len.is_some_and(|len| len <= JOURNAL_MAX)
        })
}

impl State {
    /// The mailbox's id, if it is there.
    pub(crate) fn find(&self, target: &Target) -> Option<u64> {
        match target {
            Target::Id(id) => Some(id.get()).filter(|id| self.mailboxes.contains_key(id)),
            Target::Name(name) => self.names.get(name.as_str()).copied(),
        }
    }
}

/// A new index gets its name once it is whole: half of one could not be opened any more.
fn open_or_make_index(options: &Options, folder: &Path, now: i64) -> Result<Database, StoreError> {
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

/// What the index says: the state, and the segment with its end.
pub(crate) fn load(txn: &ReadTransaction) -> Result<(State, u32, u64), StoreError> {
    let mut state = State::default();
    for row in txn.open_table(MAILBOXES)?.iter()? {
        let (id, row) = row?;
        let row = MailboxRow::decode(row.value())?;
        state.names.insert(row.name.clone(), id.value());
        state.mailboxes.insert(id.value(), Arc::new(row));
    }
    for name in txn.open_table(SUBSCRIPTIONS)?.iter()? {
        state.subscriptions.insert(name?.0.value().to_owned());
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

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
