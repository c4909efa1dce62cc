//! Making an index anew and removing an account while others use the store, and what delivering asks
//! of the disk.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are not seen as tests"
)]

mod common;

use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::{NOW, account, all, assert_sound, copy, list, mail, rebuild};
use mail_types::{AccountId, SystemFlag};
use mailbox_store::{
    Applied, Delivery, Disk, DiskFile, FileSystem, FlagChange, FlagMode, FlagNames, MailStore,
    Operation, Options, StoreError,
};

/// The file system, with a gate before its syncs, and a count of the indexes that were opened.
#[derive(Debug, Clone, Default)]
struct Watched(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    is_closed: Mutex<bool>,
    opens: Condvar,
    waiting: AtomicUsize,
    indexes: AtomicUsize,
    syncs: AtomicUsize,
    /// Below it the index engine panics.
    damaged: Mutex<Option<PathBuf>>,
}

#[derive(Debug)]
struct WatchedFile(Box<dyn DiskFile>, Watched, bool);

impl Watched {
    fn set_gate(&self, is_closed: bool) {
        *self.0.is_closed.lock().unwrap() = is_closed;
        self.0.opens.notify_all();
    }

    fn pass(&self) {
        self.0.syncs.fetch_add(1, Ordering::SeqCst);
        self.0.waiting.fetch_add(1, Ordering::SeqCst);
        let closed = self.0.is_closed.lock().unwrap();
        drop(self.0.opens.wait_while(closed, |closed| *closed).unwrap());
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Disk for Watched {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let is_index = path.ends_with("index.redb");
        self.0.indexes.fetch_add(is_index.into(), Ordering::SeqCst);
        let damaged = self.0.damaged.lock().unwrap();
        let below = damaged
            .as_ref()
            .is_some_and(|place| path.starts_with(place));
        let file = FileSystem.open(path)?;
        Ok(Box::new(WatchedFile(file, self.clone(), is_index && below)))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        FileSystem.create_folder(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        FileSystem.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        FileSystem.remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        FileSystem.remove_folder(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.pass();
        FileSystem.sync_folder(path)
    }
}

impl DiskFile for WatchedFile {
    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn read_at(&self, octets: &mut [u8], offset: u64) -> io::Result<()> {
        assert!(!self.2, "an index is damaged on purpose");
        self.0.read_at(octets, offset)
    }

    fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(octets, offset)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.0.set_length(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.1.pass();
        self.0.sync()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.0.try_lock()
    }
}

fn open(folder: &Path, disk: &Watched, open_accounts: usize) -> MailStore {
    let options = Options {
        open_accounts: NonZeroUsize::new(open_accounts).unwrap(),
        disk: Arc::new(disk.clone()),
        ..Options::default()
    };
    MailStore::open(folder.to_owned(), options).unwrap()
}

fn deliver(store: &MailStore, id: u64, key: u64) {
    let told = account(store, id).apply(mail("INBOX", &format!("q{key}"), 100, Some(key)), NOW);
    assert!(
        matches!(told, Ok(Ok(Applied::Delivered { .. }))),
        "{told:?}"
    );
}

fn flag(flag: SystemFlag) -> Operation {
    Operation::Flags(FlagChange {
        mailbox: 1.into(),
        uids: all(),
        mode: FlagMode::Add,
        flags: FlagNames {
            system: flag.into(),
            keywords: Vec::new(),
        },
        unchanged_since: None,
    })
}

/// The engine's file is open as long as somebody reads in it: an index that is made anew meanwhile
/// would lack what came behind the last snapshot.
#[test]
fn an_index_is_not_made_anew_under_a_reader() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), &Watched::default(), 4);
    deliver(&store, 1, 1);
    deliver(&store, 1, 2);
    let to = account(&store, 1);
    to.apply(flag(SystemFlag::Seen), NOW).unwrap().unwrap();
    let (begun, has_begun) = channel();
    let (end, may_end) = channel::<()>();
    thread::scope(|scope| {
        let reader = to.clone();
        scope.spawn(move || {
            let mut is_first = true;
            reader
                .read_messages(1.into(), &all(), true, |_| {
                    if std::mem::take(&mut is_first) {
                        begun.send(()).unwrap();
                        may_end.recv().unwrap();
                    }
                    true
                })
                .unwrap();
        });
        has_begun.recv().unwrap();
        let refused = store.rebuild(1.into(), false, NOW, &mut |_| true);
        assert!(matches!(refused, Err(StoreError::Busy)), "{refused:?}");
        // All is as it was: the same account takes mail and changes.
        deliver(&store, 1, 3);
        to.apply(flag(SystemFlag::Flagged), NOW).unwrap().unwrap();
        assert!(Arc::ptr_eq(&to, &account(&store, 1)));
        end.send(()).unwrap();
    });
    let before = list(&to, 1.into());
    assert_eq!(before.len(), 3);
    assert_eq!(rebuild(&store, 1, false), (3, Vec::new()));
    let again = account(&store, 1);
    assert!(!Arc::ptr_eq(&to, &again));
    assert_sound(&again);
    assert_eq!(list(&again, 1.into()), before);
    // Who still has the old one cannot change what is no more.
    assert!(to.apply(flag(SystemFlag::Deleted), NOW).is_err());
}

/// Mail that comes in while readers are waited for goes through the journal into the new index.
#[test]
fn mail_that_comes_while_a_reader_is_waited_for_is_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), &Watched::default(), 4);
    deliver(&store, 1, 1);
    let to = account(&store, 1);
    let (begun, has_begun) = channel();
    let (end, may_end) = channel::<()>();
    thread::scope(|scope| {
        let reader = to.clone();
        scope.spawn(move || {
            reader
                .read_messages(1.into(), &all(), true, |_| {
                    begun.send(()).unwrap();
                    may_end.recv().unwrap();
                    true
                })
                .unwrap();
        });
        has_begun.recv().unwrap();
        let rebuilt = scope.spawn(|| rebuild(&store, 1, false));
        // Once the account is claimed, who asks for it is told so; who has it still delivers.
        while store.account(1.into(), NOW).is_ok() {
            thread::sleep(Duration::from_millis(1));
        }
        let told = to.apply(mail("INBOX", "meanwhile", 100, Some(2)), NOW);
        assert!(
            matches!(told, Ok(Ok(Applied::Delivered { .. }))),
            "{told:?}"
        );
        end.send(()).unwrap();
        assert_eq!(rebuilt.join().unwrap(), (2, Vec::new()));
    });
    let again = account(&store, 1);
    assert_sound(&again);
    assert_eq!(list(&again, 1.into()).len(), 2);
}

/// An index that is lost takes the number of the last operation with it. What the journal still has
/// of them, for others' sake, belongs to a state that is no more.
#[test]
fn no_operation_is_done_again_on_an_index_that_is_not_exact() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path(), &Watched::default(), 4);
    let other = account(&store, 2);
    // Open for the whole test, so that the journal's file stays.
    deliver(&store, 2, 999);
    deliver(&store, 1, 1);
    for round in 0..3_u64 {
        let to = account(&store, 1);
        to.apply(flag(SystemFlag::Seen), NOW).unwrap().unwrap();
        drop(to);
        let own = folder.path().join(AccountId::from(1).to_string());
        for file in ["snapshot", "snapshot.old"] {
            let _ = std::fs::remove_file(own.join(file));
        }
        let (messages, _) = rebuild(&store, 1, true);
        assert_eq!(messages, 1 + round);
        // The flag is lost with the index, and nothing else ever comes.
        let to = account(&store, 1);
        let before = list(&to, 1.into());
        assert!(before.iter().all(|(_, _, flags)| *flags == 0), "{before:?}");
        drop(to);
        let crashed = tempfile::tempdir().unwrap();
        copy(folder.path(), crashed.path());
        let after = common::open(crashed.path());
        assert_eq!(list(&account(&after, 1), 1.into()), before, "round {round}");
        assert_sound(&account(&after, 1));
        drop(after);
        deliver(&store, 1, 10 + round);
    }
    drop(other);
    drop(store);
    store = open(folder.path(), &Watched::default(), 4);
    assert_eq!(list(&account(&store, 1), 1.into()).len(), 4);
    assert_eq!(list(&account(&store, 2), 1.into()).len(), 1);
}

#[test]
fn who_removes_an_account_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Watched::default();
    let store = open(folder.path(), &disk, 4);
    for id in 1..4 {
        deliver(&store, id, id);
        assert_eq!(list(&account(&store, id), 1.into()).len(), 1);
    }
    disk.set_gate(true);
    thread::scope(|scope| {
        let removal = scope.spawn(|| store.remove_account(1.into()));
        while disk.0.waiting.load(Ordering::SeqCst) == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        // The removal waits for the disk; others find their accounts and read in them.
        let start = Instant::now();
        let (read, has_read) = channel();
        let store = &store;
        scope.spawn(move || {
            read.send(list(&account(store, 2), 1.into()).len()).unwrap();
        });
        let found = has_read.recv_timeout(Duration::from_secs(10));
        disk.set_gate(false);
        assert_eq!(found, Ok(1), "{:?}", start.elapsed());
        removal.join().unwrap().unwrap();
    });
    assert!(list(&account(&store, 1), 1.into()).is_empty());
    assert_eq!(list(&account(&store, 3), 1.into()).len(), 1);
}

/// The journal makes mail durable: neither does who delivers open an index, whatever the order of
/// keys, nor is more than the journal synced.
#[test]
fn who_delivers_opens_no_index() {
    const ACCOUNTS: u64 = 24;
    let folder = tempfile::tempdir().unwrap();
    let disk = Watched::default();
    let store = open(folder.path(), &disk, 2);
    for id in 0..ACCOUNTS {
        deliver(&store, id, id);
    }
    // Those over the limit are closed behind the scenes, and nothing more is to be done then.
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut before = usize::MAX;
    while Instant::now() < deadline {
        let now = disk.0.syncs.load(Ordering::SeqCst);
        if std::mem::replace(&mut before, now) == now {
            break;
        }
        thread::sleep(Duration::from_millis(300));
    }
    let indexes = disk.0.indexes.load(Ordering::SeqCst);
    for round in 1..20_u64 {
        let batch = (0..ACCOUNTS).map(|id| {
            // Later rounds have lower keys, but for every third.
            let key = if round % 3 == 0 {
                100_000 + round
            } else {
                50_000 - round
            };
            let Operation::Deliver(deliver) = mail("INBOX", "x", 100, Some(key * 100 + id)) else {
                panic!()
            };
            Delivery {
                account: id.into(),
                deliver,
            }
        });
        let batch: Vec<Delivery> = batch.collect();
        for told in store.deliver(&batch, NOW) {
            assert!(
                matches!(told, Ok(Ok(Applied::Delivered { .. }))),
                "{told:?}"
            );
        }
        for told in store.deliver(&batch, NOW) {
            assert!(matches!(told, Ok(Ok(Applied::DeliveredBefore))), "{told:?}");
        }
    }
    assert_eq!(disk.0.indexes.load(Ordering::SeqCst), indexes);
    assert_eq!(disk.0.syncs.load(Ordering::SeqCst) - before, 19);
    for id in 0..ACCOUNTS {
        assert_eq!(list(&account(&store, id), 1.into()).len(), 20);
    }
}

/// The index engine panics over an account's index, as it may if that is damaged: the journal is
/// emptied of what others have there, they are used, and the account is once its index is whole.
#[test]
fn a_panic_over_an_index_holds_up_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let crashed = tempfile::tempdir().unwrap();
    let store = open(folder.path(), &Watched::default(), 4);
    for id in 1..4 {
        deliver(&store, id, id);
    }
    copy(folder.path(), crashed.path());
    drop(store);
    let disk = Watched::default();
    let place = crashed.path().join(AccountId::from(1).to_string());
    *disk.0.damaged.lock().unwrap() = Some(place);
    let store = open(crashed.path(), &disk, 4);
    let refused = store.account(1.into(), NOW);
    assert!(matches!(refused, Err(StoreError::Engine(_))), "{refused:?}");
    let batch = (1..4_u64).map(|id| {
        let Operation::Deliver(deliver) = mail("INBOX", "x", 100, Some(10 + id)) else {
            panic!()
        };
        Delivery {
            account: id.into(),
            deliver,
        }
    });
    let told = store.deliver(&batch.collect::<Vec<_>>(), NOW);
    assert!(
        matches!(
            &told[..],
            [
                Err(_),
                Ok(Ok(Applied::Delivered { .. })),
                Ok(Ok(Applied::Delivered { .. }))
            ]
        ),
        "{told:?}"
    );
    for id in 2..4 {
        assert_eq!(list(&account(&store, id), 1.into()).len(), 2);
    }
    drop(store);
    *disk.0.damaged.lock().unwrap() = None;
    let store = open(crashed.path(), &disk, 4);
    for id in 1..4 {
        let account = account(&store, id);
        assert_sound(&account);
        assert_eq!(list(&account, 1.into()).len(), if id == 1 { 1 } else { 2 });
    }
}

/// Mail that never ends for some accounts keeps no file of the journal for what others have in it.
#[test]
fn lasting_load_keeps_no_full_file() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        journal_size: 60_000,
        pending: 100_000,
        ..Options::default()
    };
    let store = MailStore::open(folder.path().to_owned(), options).unwrap();
    deliver(&store, 9, 1);
    let has_ended = AtomicUsize::new(0);
    let is_gone = thread::scope(|scope| {
        for writer in 0..3_u64 {
            let (store, has_ended) = (&store, &has_ended);
            scope.spawn(move || {
                let mut key = 1000 * (writer + 1);
                while has_ended.load(Ordering::SeqCst) == 0 {
                    key += 1;
                    let Operation::Deliver(deliver) = mail("INBOX", "x", 20_000, Some(key)) else {
                        panic!()
                    };
                    let account = AccountId::from(writer);
                    let told = store.deliver(&[Delivery { account, deliver }], NOW);
                    assert!(told.iter().all(Result::is_ok), "{told:?}");
                }
            });
        }
        let first = folder.path().join(".journal/00000001.journal");
        let deadline = Instant::now() + Duration::from_secs(20);
        while first.exists() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        has_ended.store(1, Ordering::SeqCst);
        !first.exists()
    });
    assert!(is_gone);
}

#[test]
fn a_store_in_use_is_said_and_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let first = MailStore::open(folder.path().to_owned(), Options::default()).unwrap();
    let impatient = Options {
        lock_wait: Duration::from_millis(30),
        ..Options::default()
    };
    let refused = MailStore::open(folder.path().to_owned(), impatient);
    assert!(matches!(refused, Err(StoreError::InUse(_))), "{refused:?}");
    let path = folder.path().to_owned();
    let waiter = thread::spawn(move || MailStore::open(path, Options::default()));
    thread::sleep(Duration::from_millis(50));
    drop(first);
    waiter.join().unwrap().unwrap();
}
