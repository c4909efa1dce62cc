//! How many durable deliveries of 4 KiB a second: `speed FOLDER`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

mod common;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{NOW, mail};
use mail_types::AccountId;
use mailbox_store::{Delivery, MailStore, Options};

const TIME: Duration = Duration::from_secs(5);

fn main() {
    let folder: PathBuf = std::env::args_os().nth(1).unwrap_or("speed".into()).into();
    for accounts in [1, 100] {
        for waiting in [1, 20, 64] {
            let folder = folder.join(format!("{accounts}-{waiting}"));
            let (rate, cpu) = run(folder, accounts, waiting);
            println!(
                "{accounts:>4} accounts, {waiting:>3} waiting: {rate:>6} a second, \
                 {cpu:>4} us CPU a message"
            );
        }
    }
}

/// Two writers, as localdeliver has them, who share what waits.
fn run(folder: PathBuf, accounts: u64, waiting: usize) -> (u64, u64) {
    let store = MailStore::open(folder, Options::default()).unwrap();
    for account in 0..accounts {
        store.account(AccountId::from(account), NOW).unwrap();
    }
    let writers = waiting.min(2);
    let next = AtomicU64::new(0);
    let before = cpu();
    let end = Instant::now() + TIME;
    std::thread::scope(|scope| {
        for _ in 0..writers {
            scope.spawn(|| {
                while Instant::now() < end {
                    let count = (waiting / writers) as u64;
                    let first = next.fetch_add(count, Ordering::Relaxed);
                    let deliveries = (first..first + count).map(|number| Delivery {
                        account: AccountId::from(number % accounts),
                        deliver: Box::new(mail(number)),
                    });
                    let deliveries: Vec<Delivery> = deliveries.collect();
                    for told in store.deliver(&deliveries, NOW) {
                        told.unwrap().unwrap();
                    }
                }
            });
        }
    });
    let count = next.into_inner();
    drop(store);
    (count / TIME.as_secs(), (cpu() - before) * 10_000 / count)
}

/// User and system time of this process, in hundredths of a second.
fn cpu() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit(')').next().unwrap().split_whitespace();
    fields
        .skip(11)
        .take(2)
        .map(|n| n.parse::<u64>().unwrap())
        .sum()
}
