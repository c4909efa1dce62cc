//! Deliveries to many accounts of which few stay open:
//! `accounts FOLDER [ACCOUNTS] [OPEN] [SECONDS] [MILLISECONDS]`, the last being what each sync takes
//! longer than it does. At the end each account is opened anew and counted.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

mod common;

use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{NOW, mail};
use mail_types::AccountId;
use mailbox_store::{Delivery, Disk, DiskFile, FileSystem, MailStore, Options};

/// Messages that wait for one writer, as localdeliver has them under load.
const BATCH: u64 = 20;

fn main() {
    let mut args = std::env::args_os().skip(1);
    let folder: PathBuf = args.next().unwrap_or("accounts".into()).into();
    let mut number = |usual| {
        let text = args.next().and_then(|text| text.into_string().ok());
        text.map_or(usual, |text| text.parse::<u64>().unwrap())
    };
    let (accounts, open, seconds) = (number(200), number(16), number(10));
    let slow = SlowDisk {
        sync: Duration::from_millis(number(0)),
        syncs: Arc::default(),
    };
    let options = Options {
        open_accounts: NonZeroUsize::new(usize::try_from(open).unwrap()).unwrap(),
        disk: Arc::new(slow.clone()),
        ..Options::default()
    };
    let store = MailStore::open(folder.clone(), options.clone()).unwrap();
    let start = Instant::now();
    for account in 0..accounts {
        store.account(AccountId::from(account), NOW).unwrap();
    }
    println!("{accounts} accounts opened in {:?}", start.elapsed());
    let before = slow.syncs.load(Ordering::Relaxed);
    let next = AtomicU64::new(0);
    let slowest = AtomicU64::new(0);
    let end = Instant::now() + Duration::from_secs(seconds);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while Instant::now() < end {
                    let first = next.fetch_add(BATCH, Ordering::Relaxed);
                    let deliveries = (first..first + BATCH).map(|number| Delivery {
                        account: AccountId::from(number % accounts),
                        deliver: Box::new(mail(number)),
                    });
                    let deliveries: Vec<Delivery> = deliveries.collect();
                    let start = Instant::now();
                    for told in store.deliver(&deliveries, NOW) {
                        told.unwrap().unwrap();
                    }
                    let took = u64::try_from(start.elapsed().as_micros()).unwrap();
                    slowest.fetch_max(took, Ordering::Relaxed);
                }
            });
        }
    });
    let count = next.into_inner();
    let rate = count / seconds;
    let slowest = Duration::from_micros(slowest.into_inner());
    println!("{accounts} accounts, {open} open: {rate} deliveries a second, slowest {slowest:?}");
    let syncs = slow.syncs.load(Ordering::Relaxed) - before;
    println!("{syncs} syncs, one for {} deliveries", count / syncs.max(1));
    let start = Instant::now();
    drop(store);
    println!("closed in {:?}", start.elapsed());
    let start = Instant::now();
    let store = MailStore::open(folder, options).unwrap();
    let found: u64 = (0..accounts)
        .map(|id| store.account(id.into(), NOW).unwrap().usage().messages)
        .sum();
    println!("opened anew and counted in {:?}", start.elapsed());
    assert_eq!(found, count, "messages are lost or doubled");
}

/// The file system, with syncs that take longer and are counted.
#[derive(Debug, Clone)]
struct SlowDisk {
    sync: Duration,
    syncs: Arc<AtomicU64>,
}

#[derive(Debug)]
struct SlowFile(Box<dyn DiskFile>, SlowDisk);

impl SlowDisk {
    fn wait(&self) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        if !self.sync.is_zero() {
            std::thread::sleep(self.sync);
        }
    }
}

impl Disk for SlowDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(SlowFile(FileSystem.open(path)?, self.clone())))
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
        self.wait();
        FileSystem.sync_folder(path)
    }
}

impl DiskFile for SlowFile {
    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn read_at(&self, octets: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_at(octets, offset)
    }

    fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(octets, offset)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.0.set_length(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.1.wait();
        self.0.sync()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.0.try_lock()
    }
}
