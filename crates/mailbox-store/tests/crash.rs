//! kill -9 of a process that writes: what it was told to be durable is there, once, with the UID
//! that it was told.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "helpers of tests are not seen as tests"
)]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{NOW, account, all, assert_sound, copy, list, mail, mailbox, name, open, text};
use mail_types::{AccountId, SystemFlag};
use mailbox_store::{
    Applied, ApplyError, CopyMail, Delivery, Expunge, FlagChange, FlagMode, FlagNames, Operation,
    StoreError,
};

const FOLDER: &str = "CORREO_TEST_CRASH_FOLDER";
const ROUND: &str = "CORREO_TEST_CRASH_ROUND";
const ACCOUNTS: u64 = 5;
const WRITERS: u64 = 4;

/// Queue ids are numbers of the round, the writer and the message.
fn queue_id(round: u64, writer: u64, number: u64) -> u64 {
    round * 1_000_000 + writer * 100_000 + number
}

fn subject(queue_id: u64) -> String {
    format!("q{queue_id}")
}

/// Not a test of its own: the process that is killed.
#[test]
fn child() {
    let (Ok(folder), Ok(round)) = (std::env::var(FOLDER), std::env::var(ROUND)) else {
        return;
    };
    let round = round.parse().unwrap();
    let store = open(Path::new(&folder));
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let store = &store;
            scope.spawn(move || {
                for number in 0.. {
                    let id = queue_id(round, writer, number);
                    let to = account(store, number % ACCOUNTS);
                    // Some go the long way, and change the account durably in between.
                    let filler = if number % 50 == 7 { 300_000 } else { 500 };
                    let told = to.apply(mail("INBOX", &subject(id), filler, Some(id)), NOW);
                    let Applied::Delivered { uid, .. } = told.unwrap().unwrap() else {
                        panic!("delivered before")
                    };
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "told {} {id} {uid} {filler}", number % ACCOUNTS).unwrap();
                    drop(out);
                    if number % 13 == 3 {
                        let copy = Operation::Copy(CopyMail {
                            mailbox: mailbox(&to, "INBOX"),
                            uids: [uid].into_iter().collect(),
                            target: name("Archive"),
                            remove: false,
                            quota: 0,
                        });
                        to.apply(copy, NOW).unwrap().unwrap();
                    }
                }
            });
        }
    });
}

#[test]
fn kill_9_loses_and_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut told: BTreeMap<(u64, u64), (u32, usize)> = BTreeMap::new();
    for round in 0..12_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(FOLDER, folder.path())
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            let lines = out.lines().map_while(Result::ok);
            lines.collect::<Vec<_>>()
        });
        std::thread::sleep(Duration::from_millis(150 + 41 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in reader.join().unwrap() {
            let words: Vec<&str> = line.split(' ').collect();
            let ["told", to, id, uid, filler] = words[..] else {
                continue;
            };
            let key = (to.parse().unwrap(), id.parse().unwrap());
            let value = (uid.parse().unwrap(), filler.parse().unwrap());
            assert_eq!(told.insert(key, value), None);
        }
    }
    assert!(told.len() > 300, "only {} messages", told.len());
    let store = open(folder.path());
    for id in 0..ACCOUNTS {
        let account = account(&store, id);
        assert_sound(&account);
        let messages = list(&account, mailbox(&account, "INBOX"));
        let by_uid: BTreeMap<u32, &str> = messages
            .iter()
            .map(|(uid, text, _)| (*uid, &**text))
            .collect();
        let mut once: Vec<&str> = messages.iter().map(|(_, text, _)| &**text).collect();
        let count = once.len();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), count, "a message is there twice");
        let ours = told.iter().filter(|((to, _), _)| *to == id);
        for ((_, queue_id), (uid, filler)) in ours {
            let wanted = text(&subject(*queue_id), *filler);
            assert_eq!(by_uid.get(uid), Some(&&*wanted), "{queue_id}");
            let again = mail("INBOX", "again", 0, Some(*queue_id));
            let again = account.apply(again, NOW).unwrap().unwrap();
            assert_eq!(again, Applied::DeliveredBefore);
        }
    }
}

#[test]
fn a_crash_at_rest_is_made_good_from_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for n in 0..30 {
        let account = account(&store, n % 3);
        account
            .apply(mail("INBOX", &subject(n), 100, Some(n)), NOW)
            .unwrap()
            .unwrap();
    }
    let before: Vec<_> = (0..3)
        .map(|id| list(&account(&store, id), 1.into()))
        .collect();
    let crashed = tempfile::tempdir().unwrap();
    copy(folder.path(), crashed.path());
    // The end of a write that nobody was told of.
    let last = std::fs::read_dir(crashed.path().join(".journal")).unwrap();
    let last = last.map(|entry| entry.unwrap().path()).max().unwrap();
    let mut bytes = std::fs::read(&last).unwrap();
    bytes.extend_from_slice(&bytes.clone()[..50.min(bytes.len())]);
    std::fs::write(&last, bytes).unwrap();
    let store = open(crashed.path());
    for (id, before) in before.iter().enumerate() {
        let account = account(&store, id as u64);
        assert_sound(&account);
        assert_eq!(&list(&account, 1.into()), before);
    }
    drop(store);
    // Nothing is left to do.
    let files = std::fs::read_dir(crashed.path().join(".journal")).unwrap();
    assert_eq!(files.count(), 0);
}

/// Deliveries to many accounts at once, some of them twice, some long, some refused, while others
/// read, change and copy: what was told is there after a crash at any instant.
#[test]
fn batches_for_many_accounts_survive_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut told: BTreeMap<(u64, u32), String> = BTreeMap::new();
    for round in 0..8_u64 {
        let mut batch = Vec::new();
        for n in 0..40_u64 {
            let id = round * 100 + n;
            let filler = if n == 17 { 300_000 } else { 400 };
            let Operation::Deliver(deliver) = mail("INBOX", &subject(id), filler, Some(id)) else {
                panic!()
            };
            let account = AccountId::from(n % 7);
            batch.push(Delivery { account, deliver });
        }
        batch.push(batch[3].clone());
        let nowhere = mail("Nowhere", "x", 10, Some(round * 100 + 99));
        if let Operation::Deliver(deliver) = nowhere {
            let account = AccountId::from(2);
            batch.push(Delivery { account, deliver });
        }
        let outcomes = store.deliver(&batch, NOW);
        assert_eq!(outcomes.len(), 42);
        for (at, outcome) in outcomes.into_iter().enumerate() {
            match outcome.unwrap() {
                Ok(Applied::Delivered { uid, .. }) => {
                    let text = String::from_utf8(batch[at].deliver.content[0].to_vec()).unwrap();
                    let old = told.insert((batch[at].account.get(), uid.get()), text);
                    assert_eq!(old, None, "a UID is there twice");
                }
                Ok(other) => assert_eq!((at, other), (40, Applied::DeliveredBefore)),
                Err(error) => assert_eq!((at, error), (41, ApplyError::NoSuchMailbox)),
            }
        }
        // Some accounts' indexes have it already, others have it in memory alone.
        let reader = account(&store, round % 3);
        list(&reader, 1.into());
        if round % 2 == 0 {
            let copy = Operation::Copy(CopyMail {
                mailbox: 1.into(),
                uids: all(),
                target: name("Archive"),
                remove: false,
                quota: 0,
            });
            account(&store, 5).apply(copy, NOW).unwrap().unwrap();
        }
        let crashed = tempfile::tempdir().unwrap();
        copy(folder.path(), crashed.path());
        let after = open(crashed.path());
        for id in 0..7 {
            let account = account(&after, id);
            assert_sound(&account);
            let found = list(&account, 1.into()).into_iter();
            let found: BTreeMap<_, _> = found.map(|(uid, text, _)| ((id, uid), text)).collect();
            let wanted = told.range((id, 0)..(id + 1, 0));
            let wanted: BTreeMap<_, _> = wanted.map(|(k, v)| (*k, v.clone())).collect();
            assert!(found == wanted, "account {id} in round {round}");
        }
        for outcome in after.deliver(&batch[..41], NOW) {
            assert_eq!(outcome.unwrap(), Ok(Applied::DeliveredBefore));
        }
    }
}

#[test]
fn watchers_see_mail_that_no_index_has() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let account = account(&store, 1);
    let target = mailbox_store::Target::Name(name("INBOX"));
    let deliver = |id| {
        account
            .apply(mail("INBOX", &subject(id), 100, Some(id)), NOW)
            .unwrap()
            .unwrap();
    };
    deliver(1);
    list(&account, 1.into());
    deliver(2);
    let (snapshot, watcher) = account.watch(&target, true, |_| {}).unwrap().unwrap();
    let uids: Vec<u32> = snapshot.messages.iter().map(|one| one.uid.get()).collect();
    assert_eq!((uids, snapshot.first_recent), (vec![1, 2], Some(1)));
    assert_eq!(account.status(&target).unwrap().recent, 0);
    deliver(3);
    assert_eq!(account.status(&target).unwrap().recent, 0);
    drop(watcher);
    deliver(4);
    let (snapshot, _) = account.watch(&target, true, |_| {}).unwrap().unwrap();
    assert_eq!(snapshot.first_recent, Some(4));
    assert_eq!(list(&account, 1.into()).len(), 4);
    drop(account);
    drop(store);
    let store = open(folder.path());
    let account = common::account(&store, 1);
    assert_eq!(account.status(&target).unwrap().recent, 0);
    assert_sound(&account);
}

#[test]
fn mail_that_waits_in_memory_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let options = mailbox_store::Options {
        pending: 50_000,
        ..mailbox_store::Options::default()
    };
    let store = mailbox_store::MailStore::open(folder.path().to_owned(), options).unwrap();
    for n in 0..200 {
        account(&store, n % 4)
            .apply(mail("INBOX", &subject(n), 1000, Some(n)), NOW)
            .unwrap()
            .unwrap();
        assert!(store.pending() < 60_000, "{}", store.pending());
    }
    for id in 0..4 {
        assert_eq!(list(&account(&store, id), 1.into()).len(), 50);
    }
    assert_eq!(store.pending(), 0);
}

#[test]
fn a_removed_account_stays_removed_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let deliver = |id| {
        let account = account(&store, 1);
        account
            .apply(mail("INBOX", &subject(id), 100, Some(id)), NOW)
            .unwrap()
            .unwrap();
    };
    deliver(1);
    deliver(2);
    store.remove_account(AccountId::from(1)).unwrap();
    deliver(3);
    let crashed = tempfile::tempdir().unwrap();
    copy(folder.path(), crashed.path());
    let store = open(crashed.path());
    let account = account(&store, 1);
    let messages = list(&account, 1.into());
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].1, text(&subject(3), 100));
}

#[test]
fn watched_accounts_stay_open_and_others_are_closed_durably() {
    let folder = tempfile::tempdir().unwrap();
    let options = mailbox_store::Options {
        open_accounts: std::num::NonZeroUsize::MIN,
        ..mailbox_store::Options::default()
    };
    let store = mailbox_store::MailStore::open(folder.path().to_owned(), options).unwrap();
    let (told, heard) = std::sync::mpsc::channel();
    let target = mailbox_store::Target::Name(name("INBOX"));
    let watched = account(&store, 0);
    let (_, _watcher) = watched
        .watch(&target, false, move |event| told.send(event).unwrap())
        .unwrap()
        .unwrap();
    drop(watched);
    for n in 1..10 {
        account(&store, n)
            .apply(mail("INBOX", &subject(n), 100, Some(n)), NOW)
            .unwrap()
            .unwrap();
    }
    account(&store, 0)
        .apply(mail("INBOX", &subject(0), 100, Some(100)), NOW)
        .unwrap()
        .unwrap();
    assert!(heard.try_recv().is_ok());
    for n in 1..10 {
        let account = account(&store, n);
        assert_eq!(list(&account, 1.into()).len(), 1);
    }
}

const FULL: &str = "CORREO_TEST_FULL_FOLDER";

/// Not a test of its own: writes under a limit for the size of files.
#[test]
fn child_on_a_full_disk() {
    let Ok(folder) = std::env::var(FULL) else {
        return;
    };
    let options = mailbox_store::Options::default();
    let store = mailbox_store::MailStore::open(folder.into(), options).unwrap();
    let mut full = 0;
    for n in 0..3000 {
        // Every other one on the long way.
        let key = (n % 2 == 0).then_some(n);
        let told = account(&store, 1).apply(mail("INBOX", &subject(n), 4000, key), NOW);
        match told {
            Ok(told) => {
                let Applied::Delivered { uid, .. } = told.unwrap() else {
                    panic!("delivered before")
                };
                println!("told {n} {uid}");
            }
            Err(error) if matches!(*error, StoreError::Full) => full += 1,
            // The index has to be opened anew, which the next call does.
            Err(error) => {
                assert!(!error.is_fatal(), "{error}");
                full += 1;
            }
        }
        if full > 20 {
            println!("full");
            return;
        }
    }
}

#[test]
fn a_full_disk_is_an_error_and_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let exe = std::env::current_exe().unwrap();
    let script =
        "trap '' XFSZ; ulimit -f 8000; exec \"$0\" --exact child_on_a_full_disk --nocapture";
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(exe)
        .env(FULL, folder.path())
        .output()
        .unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{out} {:?}", output.stderr);
    assert!(out.contains("full"), "{out}");
    let store = open(folder.path());
    let account = account(&store, 1);
    assert_sound(&account);
    let messages = list(&account, 1.into());
    let mut told = 0;
    for line in out.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let ["told", n, uid] = words[..] else {
            continue;
        };
        let wanted = (
            uid.parse().unwrap(),
            text(&subject(n.parse().unwrap()), 4000),
            0,
        );
        assert!(messages.contains(&wanted), "{line}");
        told += 1;
    }
    assert!(told > 100, "{told}");
    let expunge = Operation::Expunge(Expunge {
        mailbox: 1.into(),
        uids: Some(all()),
        only_deleted: false,
    });
    account.apply(expunge, NOW).unwrap().unwrap();
    assert_sound(&account);
}

/// What changes mail is durable by the journal alone: a crash has it done again, once.
#[test]
fn changes_that_the_journal_answers_for_are_done_again_and_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let to = account(&store, 3);
    let some = |uids: &[u32]| {
        uids.iter()
            .filter_map(|uid| mail_types::Uid::new(*uid))
            .collect::<mail_types::UidSet>()
    };
    let copy_mail = |uids: &[u32], target: &str, remove| {
        Operation::Copy(CopyMail {
            mailbox: 1.into(),
            uids: some(uids),
            target: name(target),
            remove,
            quota: 0,
        })
    };
    let flags = |uids: &[u32], keyword: &str| {
        Operation::Flags(FlagChange {
            mailbox: 1.into(),
            uids: some(uids),
            mode: FlagMode::Add,
            flags: FlagNames {
                system: SystemFlag::Seen.into(),
                keywords: vec![keyword.to_owned()],
            },
            unchanged_since: None,
        })
    };
    let expunge = |uids: &[u32]| {
        Operation::Expunge(Expunge {
            mailbox: 1.into(),
            uids: Some(some(uids)),
            only_deleted: false,
        })
    };
    let all_of = |store: &mailbox_store::MailStore| {
        let to = account(store, 3);
        assert_sound(&to);
        let lists = to.mailboxes().into_iter().map(|mailbox| {
            let status = to.status(&mailbox_store::Target::Id(mailbox.id)).unwrap();
            let mut modseqs = Vec::new();
            to.scan_messages(mailbox.id, &all(), false, |message, _| {
                modseqs.push(message.modseq);
                true
            })
            .unwrap();
            let keywords = to.keywords(mailbox.id);
            (
                mailbox.name,
                list(&to, mailbox.id),
                status,
                modseqs,
                keywords,
            )
        });
        lists.collect::<Vec<_>>()
    };
    let mut number = 0;
    for round in 0..3_u32 {
        for _ in 0..10 {
            number += 1;
            to.apply(mail("INBOX", &subject(number), 50, Some(number)), NOW)
                .unwrap()
                .unwrap();
        }
        let first = round * 10;
        for change in [
            flags(&[first + 1, first + 2], &format!("$k{round}")),
            copy_mail(&[first + 1], "Archive", false),
            copy_mail(&[first + 2, first + 3], "Sent", true),
            expunge(&[first + 4]),
            copy_mail(&[first + 5], "Archive", false),
        ] {
            to.apply(change, NOW).unwrap().unwrap();
        }
    }
    let wanted = all_of(&store);
    let crashed = tempfile::tempdir().unwrap();
    copy(folder.path(), crashed.path());
    let journal = tempfile::tempdir().unwrap();
    copy(&folder.path().join(".journal"), journal.path());
    drop((to, store));
    // All in the index and in the journal as well.
    copy(journal.path(), &folder.path().join(".journal"));
    for place in [folder.path(), crashed.path()] {
        let store = open(place);
        assert_eq!(all_of(&store), wanted);
        drop(store);
        assert_eq!(all_of(&open(place)), wanted);
    }
}
