//! The journal: mail for all accounts and changes of it, made durable by one sync for whoever waits.
//!
//! A journal is a file of records: of messages, each the same octets that the account's segment gets,
//! and of operations. An entry is *open* until a durable commit of its account's index has what it says. A file goes once it is
//! full and none of its entries is open.
//!
//! # Locks
//!
//! `writer` before `open`; neither is held while an account's lock is waited for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mail_types::AccountId;
use tracing::warn;

use crate::StoreError;
use crate::disk::{Disk, DiskFile, SharedDisk, make_folder, sync_folder};
use crate::group::Group;
use crate::record::{RecordHeader, push_record};
use crate::redo::{self, is_operation};
use crate::scan::{Found, Records};
use crate::schema::{account_of, email_id};
use crate::store::Options;

/// Octets of a batch for which memory is kept.
const BUFFER: usize = 1024 * 1024;

/// How long mail waits for room in memory.
const PATIENCE: Duration = Duration::from_secs(1);

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Journal {
    disk: SharedDisk,
    folder: PathBuf,
    /// Octets at which a file is full.
    max: u64,
    group: Group<Waiting, Outcome>,
    /// Octets of mail that waits in memory for its account's index, and how many should.
    pending: AtomicUsize,
    max_pending: usize,
    /// Who empties files and makes room was told to, and has not looked yet.
    is_told: AtomicBool,
    full: Mutex<Option<Sender<()>>>,
    room: Mutex<()>,
    has_room: Condvar,
    writer: Mutex<Writer>,
    open: Mutex<Open>,
}

/// An account's records that are to be made durable.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) account: AccountId,
    pub(crate) records: Vec<Bytes>,
}

/// A place in the journal: the file's number, and an offset in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark(u32, u64);

type Outcome = Result<Mark, Arc<StoreError>>;

#[derive(Debug)]
struct Writer {
    number: u32,
    file: Box<dyn DiskFile>,
    end: u64,
    /// Kept from batch to batch: a new one of this size would come from the system each time.
    buffer: Vec<u8>,
    /// Nothing is taken any more.
    is_closed: bool,
}

/// Records of one account that stand behind each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    number: u32,
    offset: u64,
    end: u64,
}

#[derive(Debug, Default)]
struct Open {
    places: HashMap<AccountId, Vec<Place>>,
    /// Open places in each file.
    files: BTreeMap<u32, usize>,
    /// Files with a tombstone, which has to stay as long as any older file does.
    tombstones: BTreeSet<u32>,
}

impl Journal {
    /// Reads what the folder has; what is written goes to a new file.
    pub(crate) fn open(
        folder: &Path,
        options: &Options,
        full: Sender<()>,
    ) -> Result<Self, StoreError> {
        let disk = &options.disk;
        make_folder(&**disk, folder)?;
        let mut open = Open::default();
        let numbers = numbers(folder)?;
        for number in &numbers {
            read_file(folder, *number, &mut open)?;
        }
        let number = numbers.last().map_or(1, |last| last + 1);
        let file = create(&**disk, folder, number)?;
        let writer = Writer {
            number,
            file,
            end: 0,
            buffer: Vec::new(),
            is_closed: false,
        };
        let journal = Self {
            disk: disk.clone(),
            folder: folder.to_owned(),
            max: options.journal_size,
            group: Group::default(),
            pending: AtomicUsize::new(0),
            max_pending: options.pending.max(1),
            is_told: AtomicBool::new(false),
            full: Mutex::new(Some(full)),
            room: Mutex::default(),
            has_room: Condvar::new(),
            writer: Mutex::new(writer),
            open: Mutex::new(open),
        };
        journal.remove_files(number);
        Ok(journal)
    }

    /// Makes accounts' records durable, all with one sync, and says for each how far the journal
    /// has it then. The caller holds the accounts' turns, so that an account's records are in the
    /// order of its changes.
    pub(crate) fn append(&self, records: Vec<Waiting>) -> Result<Vec<Mark>, Arc<StoreError>> {
        let count = records.len();
        let outcomes = self.group.run(records, |batch| {
            let mut writer = lock(&self.writer);
            match self.write(&mut writer, &batch) {
                Ok(marks) => marks.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(Arc::new(error)); batch.len()],
            }
        });
        match outcomes {
            Some(outcomes) if outcomes.len() == count => outcomes.into_iter().collect(),
            _ => {
                let lost = "the journal's writer panicked".to_owned();
                Err(Arc::new(StoreError::Engine(lost)))
            }
        }
    }

    fn write(&self, writer: &mut Writer, batch: &[Waiting]) -> Result<Vec<Mark>, StoreError> {
        if writer.is_closed {
            return Err(StoreError::Engine("the store is closed".to_owned()));
        }
        if writer.end >= self.max {
            self.roll(writer)?;
        }
        let start = writer.end;
        let written = write_all(writer, batch);
        if let Err(error) = written {
            // What was not answered must not be found at the next start.
            let path = path(&self.folder, writer.number);
            writer
                .file
                .set_length(start)
                .map_err(|error| StoreError::io(path, error))?;
            writer.end = start;
            return Err(error);
        }
        let mut open = lock(&self.open);
        let mut offset = start;
        let mut marks = Vec::with_capacity(batch.len());
        for waiting in batch {
            let len: usize = waiting.records.iter().map(Bytes::len).sum();
            let end = offset + len as u64;
            let number = writer.number;
            let place = Place {
                number,
                offset,
                end,
            };
            if len > 0 {
                open.add(waiting.account, place);
            }
            marks.push(place.mark());
            offset = end;
        }
        Ok(marks)
    }

    /// Memory for mail that the journal has and its account's index has not yet.
    pub(crate) fn take_room(&self, octets: usize) {
        self.pending.fetch_add(octets, Ordering::Relaxed);
        if self.surplus() > 0 {
            self.tell();
        }
    }

    /// The index has it.
    pub(crate) fn give_room(&self, octets: usize) {
        let before = self.pending.fetch_sub(octets, Ordering::AcqRel);
        if before >= self.max_pending {
            drop(lock(&self.room));
            self.has_room.notify_all();
        }
    }

    /// Octets that should go into the indexes behind the scenes before mail has to wait for that.
    pub(crate) fn surplus(&self) -> usize {
        self.pending().saturating_sub(self.max_pending / 2)
    }

    /// Wakes who empties files and makes room.
    pub(crate) fn tell(&self) {
        if !self.is_told.swap(true, Ordering::AcqRel)
            && let Some(full) = &*lock(&self.full)
        {
            // Without a listener the store is being closed, which empties the journal as well.
            let _ = full.send(());
        }
    }

    /// From now on another word is needed.
    pub(crate) fn is_heard(&self) {
        // What was told of before is seen by who looks now.
        self.is_told.swap(false, Ordering::AcqRel);
    }

    /// Waits while that memory is full, but not for ever: where no room can be made, as on a full disk,
    /// mail takes the other way. The caller holds no lock.
    pub(crate) fn wait_for_room(&self) {
        if self.fullness() == 0 {
            return;
        }
        let room = lock(&self.room);
        self.tell();
        let is_full = |(): &mut ()| self.fullness() == 1;
        let waited = self.has_room.wait_timeout_while(room, PATIENCE, is_full);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// How full that memory is: 1 is as full as it should be.
    pub(crate) fn fullness(&self) -> usize {
        self.pending() / self.max_pending
    }

    fn roll(&self, writer: &mut Writer) -> Result<(), StoreError> {
        let next = writer.number + 1;
        writer.file = create(&*self.disk, &self.folder, next)?;
        writer.number = next;
        writer.end = 0;
        self.remove_files(next);
        self.tell();
        Ok(())
    }

    /// An account's open entries, oldest first.
    pub(crate) fn entries(
        &self,
        account: AccountId,
    ) -> Result<Vec<(RecordHeader, Vec<u8>)>, StoreError> {
        loop {
            let places = lock(&self.open).places.get(&account).cloned();
            let places = places.unwrap_or_default();
            match self.read_places(&places) {
                Ok(entries) => return Ok(entries),
                Err(error) => {
                    let now = lock(&self.open).places.get(&account).cloned();
                    if now.unwrap_or_default() == places {
                        return Err(error);
                    }
                    // They were settled meanwhile, and their files are gone.
                }
            }
        }
    }

    fn read_places(&self, places: &[Place]) -> Result<Vec<(RecordHeader, Vec<u8>)>, StoreError> {
        let mut entries = Vec::new();
        for place in places {
            let path = path(&self.folder, place.number);
            let records = Records::open(&path)?;
            let mut offset = place.offset;
            while offset < place.end {
                let what = "an entry of the journal is not what was written";
                let damaged = || StoreError::Damaged {
                    file: path.clone(),
                    offset,
                    what,
                };
                let found = records.at(offset)?.ok_or_else(damaged)?;
                let end = found.end();
                let content = found.content.ok_or_else(damaged)?;
                entries.push((found.header, content));
                offset = end;
            }
        }
        Ok(entries)
    }

    /// The highest number of an account's operations in any file that is there, be its entry open or
    /// not: after a crash all are read again. 0 if there is none.
    pub(crate) fn last_operation(&self, account: AccountId) -> Result<u64, StoreError> {
        let mut last = 0;
        for number in numbers(&self.folder)? {
            let path = path(&self.folder, number);
            let records = match Records::open(&path) {
                Err(_) if !path.exists() => continue,
                records => records?,
            };
            let mut offset = 0;
            while let Some(found) = records.at(offset)?
                && found.content.is_some()
            {
                if account_of(found.header.email_id) == account && is_operation(&found.header) {
                    last = last.max(redo::number(&found.header));
                }
                offset = found.end();
            }
        }
        Ok(last)
    }

    /// Accounts with open entries; with `full_only` those in files that are full.
    pub(crate) fn accounts(&self, full_only: bool) -> Vec<AccountId> {
        let number = lock(&self.writer).number;
        let is_old = |place: &Place| !full_only || place.number < number;
        let open = lock(&self.open);
        let accounts = open
            .places
            .iter()
            .filter(|(_, places)| places.iter().any(is_old));
        accounts.map(|(account, _)| *account).collect()
    }

    /// How far the journal has entries of an account that are open now; `None` if it has none.
    pub(crate) fn last_mark(&self, account: AccountId) -> Option<Mark> {
        let open = lock(&self.open);
        let places = open.places.get(&account)?;
        places.iter().map(|place| place.mark()).max()
    }

    /// All that an account's entries say is in its index, durably.
    pub(crate) fn settle(&self, account: AccountId) {
        self.settle_to(account, Mark(u32::MAX, u64::MAX));
    }

    /// The same of those up to a mark.
    pub(crate) fn settle_to(&self, account: AccountId, mark: Mark) {
        if lock(&self.open).forget(account, mark) {
            let number = lock(&self.writer).number;
            self.remove_files(number);
        }
    }

    /// The account is gone: its entries must not come back after a crash, even where an account
    /// with its id is made anew.
    pub(crate) fn bury(&self, account: AccountId) -> Result<(), Arc<StoreError>> {
        // Also where no entry is open: a file that stays for others may still have some.
        let mut record = Vec::new();
        push_record(&mut record, &tombstone(account), &[]);
        let records = vec![record.into()];
        let marks = self.append(vec![Waiting { account, records }])?;
        let files = marks.iter().map(|Mark(number, _)| *number);
        lock(&self.open).tombstones.extend(files);
        self.settle(account);
        Ok(())
    }

    /// Nobody is told of full files any more.
    pub(crate) fn hang_up(&self) {
        *lock(&self.full) = None;
    }

    /// Takes nothing any more, and removes its files unless entries are open.
    pub(crate) fn close(&self) {
        lock(&self.writer).is_closed = true;
        self.remove_files(u32::MAX);
    }

    /// Removes the files before `number` that have no open entry, oldest first. One that stays is read in vain at
    /// the next start, since its entries are known.
    fn remove_files(&self, number: u32) {
        let numbers = numbers(&self.folder).unwrap_or_else(|error| {
            warn!(%error, "the journal's folder cannot be read");
            Vec::new()
        });
        let mut older_stays = false;
        for old in numbers {
            let must_stay = || {
                let open = lock(&self.open);
                open.files.contains_key(&old) || older_stays && open.tombstones.contains(&old)
            };
            if old >= number || must_stay() {
                older_stays = true;
                continue;
            }
            let path = path(&self.folder, old);
            match self.disk.remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    warn!(%error, file = %path.display(), "a journal cannot be removed");
                }
                _ => {}
            }
        }
    }
}

impl Open {
    fn add(&mut self, account: AccountId, place: Place) {
        *self.files.entry(place.number).or_default() += 1;
        self.places.entry(account).or_default().push(place);
    }

    /// True if a file may have lost its last open entry.
    fn forget(&mut self, account: AccountId, mark: Mark) -> bool {
        let mut is_free = false;
        let Some(places) = self.places.get_mut(&account) else {
            return false;
        };
        let files = &mut self.files;
        places.retain(|place| {
            if place.mark() > mark {
                return true;
            }
            if let Some(count) = files.get_mut(&place.number) {
                *count -= 1;
                if *count == 0 {
                    files.remove(&place.number);
                    is_free = true;
                }
            }
            false
        });
        if places.is_empty() {
            self.places.remove(&account);
        }
        is_free
    }
}

impl Place {
    fn mark(self) -> Mark {
        Mark(self.number, self.end)
    }
}

fn write_all(writer: &mut Writer, batch: &[Waiting]) -> Result<(), StoreError> {
    let records = || batch.iter().flat_map(|waiting| &waiting.records);
    let all = &mut writer.buffer;
    all.clear();
    all.shrink_to(BUFFER);
    all.reserve(records().map(Bytes::len).sum());
    for record in records() {
        all.extend_from_slice(record);
    }
    if all.is_empty() {
        return Ok(());
    }
    writer
        .file
        .write_at(all, writer.end)
        .map_err(|error| StoreError::io("journal", error))?;
    writer.file.sync().map_err(StoreError::Fatal)?;
    writer.end += all.len() as u64;
    Ok(())
}

/// Notes the entries of a file that a crash has left. The first record that is not whole is where
/// the last write ended, which nobody was told of.
fn read_file(folder: &Path, number: u32, open: &mut Open) -> Result<(), StoreError> {
    let path = path(folder, number);
    let records = Records::open(&path)?;
    let mut offset = 0;
    while let Some(found) = records.at(offset)? {
        if found.content.is_none() {
            break;
        }
        let end = found.end();
        let place = Place {
            number,
            offset,
            end,
        };
        note(open, &found, place);
        offset = end;
    }
    if offset < records.len() {
        let rest = records.len() - offset;
        warn!(file = %path.display(), offset, rest, "the journal's end is torn");
    }
    Ok(())
}

/// For the fuzz targets: how many entries a file is taken to have.
#[cfg(fuzzing)]
pub(crate) fn count(folder: &Path, number: u32) -> Result<usize, StoreError> {
    let mut open = Open::default();
    read_file(folder, number, &mut open)?;
    Ok(open.places.values().map(Vec::len).sum())
}

fn note(open: &mut Open, found: &Found, place: Place) {
    let account = account_of(found.header.email_id);
    if found.header.uid == 0 && !is_operation(&found.header) {
        open.tombstones.insert(place.number);
        open.forget(account, place.mark());
    } else {
        open.add(account, place);
    }
}

/// A record that no message has, since UIDs begin at 1, and no operation.
fn tombstone(account: AccountId) -> RecordHeader {
    RecordHeader {
        email_id: email_id(account.get(), 0),
        mailbox_id: 0.into(),
        uid_validity: 0,
        uid: 0,
        flags: 0,
        internal_date: 0,
        internal_offset: 0,
        saved: 0,
        key: None,
        mailbox: String::new(),
    }
}

fn path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number:08}.journal"))
}

fn numbers(folder: &Path) -> Result<Vec<u32>, StoreError> {
    let failed = |error| StoreError::io(folder, error);
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(".journal"));
        numbers.extend(stem.and_then(|stem| stem.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn create(disk: &dyn Disk, folder: &Path, number: u32) -> Result<Box<dyn DiskFile>, StoreError> {
    let path = path(folder, number);
    let failed = |error| StoreError::io(&path, error);
    let file = disk.open(&path).map_err(failed)?;
    file.set_length(0).map_err(failed)?;
    sync_folder(disk, folder)?;
    Ok(file)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
