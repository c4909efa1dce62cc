//! Many more accounts than may stay open: their indexes are closed and opened and the accounts
//! themselves forgotten while others deliver, read and change. Nothing is lost or doubled.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "helpers of tests are not seen as tests"
)]

mod common;

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{NOW, account, all, assert_sound, copy, list, mail};
use mail_types::SystemFlag;
use mailbox_store::{
    Applied, FlagChange, FlagMode, FlagNames, MailStore, Operation, Options, Target,
};

const ACCOUNTS: u64 = 50;
const EACH: u64 = 6;
const THREADS: u64 = 4;

fn open(folder: &Path) -> MailStore {
    let options = Options {
        open_accounts: NonZeroUsize::MIN.saturating_add(1),
        // Small, so that the journal is emptied too.
        journal_size: 60_000,
        ..Options::default()
    };
    MailStore::open(folder.to_owned(), options).unwrap()
}

fn seen() -> Operation {
    Operation::Flags(FlagChange {
        mailbox: 1.into(),
        uids: all(),
        mode: FlagMode::Add,
        flags: FlagNames {
            system: SystemFlag::Seen.into(),
            keywords: Vec::new(),
        },
        unchanged_since: None,
    })
}

fn assert_all_there(store: &MailStore) {
    for id in 0..ACCOUNTS {
        let account = account(store, id);
        let messages = list(&account, 1.into());
        assert_eq!(messages.len() as u64, EACH, "account {id}");
        let uids: Vec<u32> = messages.iter().map(|(uid, ..)| *uid).collect();
        assert_eq!(uids, (1..=EACH).map(|uid| uid as u32).collect::<Vec<_>>());
        assert_sound(&account);
    }
}

#[test]
fn accounts_come_and_go_and_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let store = &store;
            scope.spawn(move || {
                for round in 0..EACH {
                    for id in (thread..ACCOUNTS).step_by(THREADS as usize) {
                        let key = round * ACCOUNTS + id;
                        let to = account(store, id);
                        let told = to.apply(mail("INBOX", &format!("q{key}"), 300, Some(key)), NOW);
                        assert!(
                            matches!(told, Ok(Ok(Applied::Delivered { .. }))),
                            "{told:?}"
                        );
                        if key % 7 == 3 {
                            assert_eq!(list(&to, 1.into()).len() as u64, round + 1);
                        }
                        if key % 11 == 3 {
                            to.apply(seen(), NOW).unwrap().unwrap();
                        }
                    }
                }
            });
        }
    });
    let crashed = tempfile::tempdir().unwrap();
    copy(folder.path(), crashed.path());
    assert_all_there(&store);
    drop(store);
    assert_all_there(&open(folder.path()));
    assert_all_there(&open(crashed.path()));
}

/// Who reads in an account keeps its index; others are opened and closed meanwhile.
#[test]
fn a_long_reader_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for id in 0..20 {
        let to = account(&store, id);
        to.apply(mail("INBOX", "one", 100, Some(id)), NOW)
            .unwrap()
            .unwrap();
        to.apply(mail("INBOX", "two", 100, Some(100 + id)), NOW)
            .unwrap()
            .unwrap();
    }
    let readers: Vec<_> = (0..4).map(|id| account(&store, id)).collect();
    let start = Instant::now();
    let mut seen = 0;
    let others = || {
        for id in 4..20 {
            assert_eq!(list(&account(&store, id), 1.into()).len(), 2);
        }
    };
    readers[0]
        .read_messages(1.into(), &all(), true, |_| {
            readers[1]
                .read_messages(1.into(), &all(), true, |_| {
                    others();
                    true
                })
                .unwrap();
            seen += 1;
            true
        })
        .unwrap();
    assert_eq!(seen, 2);
    assert!(
        start.elapsed() < Duration::from_mins(1),
        "{:?}",
        start.elapsed()
    );
    let target = Target::Id(1.into());
    assert_eq!(readers[0].status(&target).unwrap().messages, 2);
}
