//! The index engine's file, by way of the [`Disk`], with fewer writes and syncs than the engine asks
//! for: an index that was only read is closed as if it had never been opened, and opening one for
//! writing waits for no disk.
//!
//! # Which syncs are left out
//!
//! The engine's file begins with a head, in one sector, with a mark that says "open for writing". The
//! engine sets it when it opens the file and takes it away when it closes it, each with a sync. The
//! mark has no say in what the file holds: with it the engine looks at checksums and at the list of
//! free pages that its last commit wrote, without it only at that list. So a head that differs from
//! the one in the file by the mark alone is held back until something else is written, and is synced
//! with it; the one at the closing is written and not synced. Either may be lost with the power:
//!
//! - The mark of the opening is in every later head, so that no commit is without it. What was
//!   written before the first commit are pages that the last one says are free.
//! - Without the end of the mark the next opening takes the list of free pages from the last commit,
//!   which was synced before.
//!
//! A sync of a file to which nothing was written since the last one does nothing, unless the file was
//! not closed well: what is in it then may never have been synced.

use std::io;
use std::ops::{Bound, Deref};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use redb::{BackendError, Database, StorageBackend};

use crate::StoreError;
use crate::disk::{Disk, DiskFile};

/// Octets of the engine's head.
const HEAD: usize = 320;
/// Where the head has the mark, and which bit it is.
const MARK_AT: usize = 9;
const MARK: u8 = 2;

/// An index that is open.
#[derive(Debug)]
pub(crate) struct OpenIndex {
    db: Database,
    file: Arc<Engine>,
}

/// Opens an index, which is made if it is not there. `cache` is in octets.
pub(crate) fn open_index(
    disk: &dyn Disk,
    path: &Path,
    cache: usize,
) -> Result<OpenIndex, StoreError> {
    let file = disk
        .open(path)
        .map_err(|error| StoreError::io(path, error))?;
    let file = Arc::new(Engine {
        file,
        failed: OnceLock::new(),
        state: Mutex::new(State {
            head: None,
            held: None,
            is_dirty: true,
            is_as_it_was: true,
            is_given_up: false,
        }),
    });
    let db = Database::builder()
        .set_cache_size(cache)
        .create_with_backend(IndexFile(file.clone()))?;
    Ok(OpenIndex { db, file })
}

impl OpenIndex {
    /// Makes durable what was committed, and closes it. `is_read` says that nobody wrote in it: then
    /// the file is as it was, and the disk has no work.
    pub(crate) fn close(self, is_read: bool) -> Result<(), StoreError> {
        let Self { db, file } = self;
        if is_read && file.give_up() {
            drop(db);
            return Ok(());
        }
        db.close()?;
        file.end();
        Ok(())
    }

    /// Sets `failed` once the engine does nothing any more, since its file failed.
    pub(crate) fn report_to(&self, failed: Arc<AtomicBool>) {
        // It reports to whoever opened it, once.
        let _ = self.file.failed.set(failed);
    }

    /// All of it is to be read soon.
    pub(crate) fn will_be_read(&self) {
        self.file.file.will_be_read();
    }

    /// The engine alone.
    pub(crate) fn engine(&mut self) -> &mut Database {
        &mut self.db
    }
}

impl Deref for OpenIndex {
    type Target = Database;

    fn deref(&self) -> &Database {
        &self.db
    }
}

#[derive(Debug)]
struct Engine {
    file: Box<dyn DiskFile>,
    /// Is set when something fails: the engine does nothing any more from then on.
    failed: OnceLock<Arc<AtomicBool>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The head in the file, once it was read or written.
    head: Option<[u8; HEAD]>,
    /// A head that is not written yet: it differs by the mark alone.
    held: Option<[u8; HEAD]>,
    /// Something may be in the file that was never synced.
    is_dirty: bool,
    /// It was closed well, and nothing was written since.
    is_as_it_was: bool,
    /// Nothing is written any more.
    is_given_up: bool,
}

impl Engine {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn noted<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if result.is_err()
            && let Some(failed) = self.failed.get()
        {
            failed.store(true, Ordering::Release);
        }
        result
    }

    /// Leaves the file as it is, if it is as it was when it was opened.
    fn give_up(&self) -> bool {
        let mut state = self.lock();
        state.is_given_up = state.is_as_it_was && state.head.is_some();
        state.is_given_up
    }

    /// The engine has closed it well.
    fn end(&self) {
        let mut state = self.lock();
        if let Some(held) = state.held.take()
            && let Err(error) = self.file.write_at(&held, 0)
        {
            tracing::debug!(%error, "an index is left as if it had not been closed");
        }
    }
}

impl State {
    fn learn(&mut self, head: &[u8; HEAD]) {
        let is_closed = head[MARK_AT] & MARK == 0;
        self.is_dirty &= !is_closed;
        self.is_as_it_was = is_closed;
        self.head = Some(*head);
    }

    /// May the head wait?
    fn may_hold(&self, head: &[u8; HEAD]) -> bool {
        let mut with_mark = *head;
        with_mark[MARK_AT] |= MARK;
        self.head.is_some_and(|mut known| {
            known[MARK_AT] |= MARK;
            known == with_mark
        })
    }
}

#[derive(Debug)]
struct IndexFile(Arc<Engine>);

fn given_up() -> io::Error {
    io::Error::other("the index was only read")
}

impl IndexFile {
    /// Before anything else is written.
    fn begin(&self, state: &mut State) -> io::Result<()> {
        if state.is_given_up {
            return Err(given_up());
        }
        if let Some(held) = state.held {
            self.0.noted(self.0.file.write_at(&held, 0))?;
            state.head = state.held.take();
        }
        state.is_dirty = true;
        state.is_as_it_was = false;
        Ok(())
    }
}

impl StorageBackend for IndexFile {
    fn len(&self) -> io::Result<u64> {
        self.0.file.length()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.noted(self.0.file.read_at(out, offset))?;
        if offset != 0 {
            return Ok(());
        }
        let mut state = self.0.lock();
        if let Some(held) = state.held {
            for (octet, held) in out.iter_mut().zip(held) {
                *octet = held;
            }
        } else if state.head.is_none()
            && let Some(head) = out.first_chunk::<HEAD>()
        {
            state.learn(head);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.0.lock();
        if len == self.0.file.length()? {
            return Ok(());
        }
        self.begin(&mut state)?;
        self.0.noted(self.0.file.set_length(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        if state.is_given_up {
            return Err(given_up());
        }
        if !std::mem::take(&mut state.is_dirty) {
            return Ok(());
        }
        drop(state);
        self.0.noted(self.0.file.sync()).inspect_err(|_| {
            self.0.lock().is_dirty = true;
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock();
        if offset != 0 {
            self.begin(&mut state)?;
            drop(state);
            return self.0.noted(self.0.file.write_at(data, offset));
        }
        let head = <&[u8; HEAD]>::try_from(data).ok().copied();
        if let Some(head) = head
            && state.may_hold(&head)
        {
            state.held = Some(head).filter(|head| state.head.as_ref() != Some(head));
            return Ok(());
        }
        state.held = None;
        self.begin(&mut state)?;
        state.head = None;
        self.0.noted(self.0.file.write_at(data, 0))?;
        state.head = head;
        Ok(())
    }

    /// The engine falls back to locking all when it cannot lock parts.
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        if start == Bound::Unbounded && end == Bound::Unbounded {
            return Ok(self.0.file.try_lock()?);
        }
        Err(BackendError::Unsupported)
    }

    /// The lock ends when the file is closed, which is when the engine lets go of this.
    fn unlock_range(&self, _start: Bound<u64>, _end: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::FileSystem;
    use redb::{ReadableDatabase, TableDefinition};
    use std::path::PathBuf;
    use std::sync::atomic::AtomicUsize;

    const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("t");

    /// Counts writes and syncs.
    #[derive(Debug, Default, Clone)]
    struct Counted(Arc<(AtomicUsize, AtomicUsize)>);

    #[derive(Debug)]
    struct CountedFile(Box<dyn DiskFile>, Counted);

    impl Counted {
        fn take(&self) -> (usize, usize) {
            let Counted(counts) = self;
            let take = |count: &AtomicUsize| count.swap(0, Ordering::SeqCst);
            (take(&counts.0), take(&counts.1))
        }
    }

    impl Disk for Counted {
        fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
            Ok(Box::new(CountedFile(FileSystem.open(path)?, self.clone())))
        }

        fn create_folder(&self, _: &Path) -> io::Result<()> {
            unreachable!()
        }

        fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
            unreachable!()
        }

        fn remove_file(&self, _: &Path) -> io::Result<()> {
            unreachable!()
        }

        fn remove_folder(&self, _: &Path) -> io::Result<()> {
            unreachable!()
        }

        fn sync_folder(&self, _: &Path) -> io::Result<()> {
            unreachable!()
        }
    }

    impl DiskFile for CountedFile {
        fn length(&self) -> io::Result<u64> {
            self.0.length()
        }

        fn read_at(&self, octets: &mut [u8], offset: u64) -> io::Result<()> {
            self.0.read_at(octets, offset)
        }

        fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<()> {
            self.1.0.0.fetch_add(1, Ordering::SeqCst);
            self.0.write_at(octets, offset)
        }

        fn set_length(&self, length: u64) -> io::Result<()> {
            self.1.0.0.fetch_add(1, Ordering::SeqCst);
            self.0.set_length(length)
        }

        fn sync(&self) -> io::Result<()> {
            self.1.0.1.fetch_add(1, Ordering::SeqCst);
            self.0.sync()
        }

        fn try_lock(&self) -> io::Result<bool> {
            self.0.try_lock()
        }
    }

    fn put(db: &Database, key: u64) {
        let txn = db.begin_write().unwrap();
        let value = vec![7; 100];
        txn.open_table(TABLE).unwrap().insert(key, &*value).unwrap();
        txn.commit().unwrap();
    }

    fn has(db: &Database, key: u64) -> bool {
        let table = db.begin_read().unwrap().open_table(TABLE).unwrap();
        table.get(key).unwrap().is_some()
    }

    fn example() -> (tempfile::TempDir, PathBuf, Counted) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        let disk = Counted::default();
        let index = open_index(&disk, &path, 1 << 20).unwrap();
        put(&index, 1);
        index.close(false).unwrap();
        disk.take();
        (folder, path, disk)
    }

    #[test]
    fn who_only_reads_leaves_the_file_as_it_was() {
        let (_folder, path, disk) = example();
        let before = std::fs::read(&path).unwrap();
        assert_eq!(before[MARK_AT] & MARK, 0);
        for _ in 0..3 {
            let index = open_index(&disk, &path, 1 << 20).unwrap();
            assert!(has(&index, 1));
            index.close(true).unwrap();
        }
        assert_eq!(disk.take(), (0, 0));
        assert!(std::fs::read(&path).unwrap() == before);
    }

    #[test]
    fn the_mark_costs_no_sync() {
        let (_folder, path, disk) = example();
        let index = open_index(&disk, &path, 1 << 20).unwrap();
        assert_eq!(disk.take(), (0, 0));
        put(&index, 2);
        assert_eq!(disk.take().1, 1);
        assert_ne!(std::fs::read(&path).unwrap()[MARK_AT] & MARK, 0);
        index.close(false).unwrap();
        // The commit that lists the free pages has two phases, and the file may get shorter.
        assert!(disk.take().1 <= 3);
        assert_eq!(std::fs::read(&path).unwrap()[MARK_AT] & MARK, 0);
    }

    /// What a process left that was killed may never have been synced.
    #[test]
    fn what_was_not_closed_is_synced() {
        let (folder, path, disk) = example();
        let index = open_index(&disk, &path, 1 << 20).unwrap();
        put(&index, 2);
        let left = folder.path().join("left");
        std::fs::copy(&path, &left).unwrap();
        disk.take();
        let again = open_index(&disk, &left, 1 << 20).unwrap();
        assert!(disk.take().1 > 0);
        assert!(has(&again, 1) && has(&again, 2));
        again.close(true).unwrap();
        // The closing counted, since the file was not as it had been closed.
        assert_eq!(std::fs::read(&left).unwrap()[MARK_AT] & MARK, 0);
    }

    /// The mark of the closing may be lost with the power, and that of the opening too.
    #[test]
    fn a_lost_mark_loses_nothing() {
        let (_folder, path, disk) = example();
        for mark in [MARK, 0] {
            let mut octets = std::fs::read(&path).unwrap();
            octets[MARK_AT] = octets[MARK_AT] & !MARK | mark;
            std::fs::write(&path, octets).unwrap();
            let mut index = open_index(&disk, &path, 1 << 20).unwrap();
            assert!(has(&index, 1));
            assert!(index.engine().check_integrity().unwrap());
            put(&index, 3);
            index.close(false).unwrap();
        }
    }
}
