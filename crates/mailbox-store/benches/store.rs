//! Delivery, FETCH's reading and STORE: `cargo bench -p mailbox-store`. Where something is made
//! durable the disk decides; ratios in one run count.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement may end so"
)]

#[path = "../examples/common/mod.rs"]
mod common;

use std::hint::black_box;
use std::time::Duration;

use common::{NOW, mail};
use criterion::{Criterion, Throughput};
use mail_types::{AccountId, Flags, MailboxId, SystemFlag, Uid, UidSet};
use mailbox_store::{
    Account, FlagChange, FlagMode, FlagNames, MailStore, MailboxName, Message, Operation, Options,
    Target,
};

const KEPT: u64 = 1000;

fn deliver(number: u64) -> Operation {
    Operation::Deliver(Box::new(mail(number)))
}

fn inbox() -> Target {
    Target::Name(MailboxName::inbox())
}

fn apply(account: &Account, operations: Vec<Operation>) {
    for outcome in account.apply_all(operations, NOW) {
        outcome.unwrap().unwrap();
    }
}

fn read(account: &Account, mailbox: MailboxId, uids: &UidSet) -> Vec<Message> {
    let mut messages = Vec::new();
    let each = |message| {
        messages.push(message);
        true
    };
    account.read_messages(mailbox, uids, true, each).unwrap();
    messages
}

fn flag(is_set: bool, uids: &UidSet, mailbox: MailboxId) -> Operation {
    Operation::Flags(FlagChange {
        mailbox,
        uids: uids.clone(),
        mode: if is_set {
            FlagMode::Add
        } else {
            FlagMode::Remove
        },
        flags: FlagNames {
            system: Flags::from(SystemFlag::Seen),
            keywords: Vec::new(),
        },
        unchanged_since: None,
    })
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    let folder = tempfile::tempdir().unwrap();
    let store = MailStore::open(folder.path().join("mail"), Options::default()).unwrap();
    let account = store.account(AccountId::from(1), NOW).unwrap();
    apply(&account, (0..KEPT).map(deliver).collect());
    let mailbox = account.status(&inbox()).unwrap().id;
    let mut all = UidSet::new();
    all.insert_range(Uid::try_from(1).unwrap(), Uid::try_from(1000).unwrap());

    let mut group = criterion.benchmark_group("1,000 messages");
    group.throughput(Throughput::Elements(KEPT));
    group.bench_function("read what lists show", |b| {
        b.iter(|| {
            assert_eq!(read(&account, mailbox, black_box(&all)).len() as u64, KEPT);
        });
    });
    let messages = read(&account, mailbox, &all);
    group.bench_function("read contents", |b| {
        b.iter(|| {
            for message in &messages {
                black_box(account.read_content(message, 0, usize::MAX).unwrap());
            }
        });
    });
    let mut is_set = false;
    group.bench_function("store a flag", |b| {
        b.iter(|| {
            is_set = !is_set;
            apply(&account, vec![flag(is_set, &all, mailbox)]);
        });
    });
    group.finish();

    let mut number = KEPT;
    let mut group = criterion.benchmark_group("deliver 4 KiB");
    for at_once in [1, 20, 100] {
        group.throughput(Throughput::Elements(at_once));
        group.bench_function(format!("{at_once} at once"), |b| {
            b.iter(|| {
                apply(&account, (number..number + at_once).map(deliver).collect());
                number += at_once;
            });
        });
    }
    group.finish();
    criterion.final_summary();
}
