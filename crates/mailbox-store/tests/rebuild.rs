//! An index made anew from the segments and the last snapshot.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests are not seen as tests"
)]

mod common;

use std::path::Path;

use common::{NOW, account, all, assert_sound, copy, list, mail, mailbox, name, open, rebuild};
use mail_types::{AccountId, SystemFlag, Uid, UidSet};
use mailbox_store::{
    Account, Applied, CopyMail, Expunge, FlagChange, FlagMode, FlagNames, Operation, Snapshot,
    SpecialUse, Target,
};

fn apply(account: &Account, operation: Operation) -> Applied {
    account.apply(operation, NOW).unwrap().unwrap()
}

fn uids(range: std::ops::RangeInclusive<u32>) -> UidSet {
    range.filter_map(Uid::new).collect()
}

/// All that clients know of an account: mailboxes with their ids, UIDs, flags, MODSEQs.
fn state(account: &Account) -> (Vec<Snapshot>, Vec<String>) {
    let snapshot = |info: mailbox_store::MailboxInfo| {
        let watched = account.watch(&Target::Id(info.id), false, |_| {});
        Snapshot {
            epoch: 0,
            ..watched.unwrap().unwrap().0
        }
    };
    let mailboxes = account.mailboxes().into_iter().map(snapshot).collect();
    (mailboxes, account.subscriptions())
}

/// EMAILIDs, dates and threads of a mailbox.
fn details(account: &Account, name: &str) -> Vec<(u32, String, i64, u64)> {
    let mut found = Vec::new();
    let id = mailbox(account, name);
    let mut note = |message: mailbox_store::Message| {
        let id = format!("{:?}", message.email_id);
        found.push((message.uid.get(), id, message.internal_date, message.thread));
        true
    };
    account.read_messages(id, &all(), false, &mut note).unwrap();
    found
}

/// Mail in two mailboxes, and all that can be done to it.
fn busy(account: &Account) {
    apply(
        account,
        Operation::Create(name("Work/Ünï"), SpecialUse::None),
    );
    for n in 0..60_u64 {
        let (to, key) = if n % 3 == 0 {
            ("Work/Ünï", None)
        } else {
            ("INBOX", Some(n))
        };
        apply(account, mail(to, &format!("s{n}"), 900, key));
    }
    let (inbox, work) = (mailbox(account, "INBOX"), mailbox(account, "Work/Ünï"));
    let flags = FlagNames {
        system: SystemFlag::Seen.into(),
        keywords: vec!["$Todo".into()],
    };
    let flag = FlagChange {
        mailbox: inbox,
        uids: uids(3..=9),
        mode: FlagMode::Add,
        flags,
        unchanged_since: None,
    };
    apply(account, Operation::Flags(flag));
    for (mailbox, uids, target, remove) in [
        (inbox, uids(5..=6), "Archive", false),
        (work, uids(1..=4), "INBOX", true),
    ] {
        let target = name(target);
        let (copy, quota) = (Operation::Copy, 0);
        apply(
            account,
            copy(CopyMail {
                mailbox,
                uids,
                target,
                remove,
                quota,
            }),
        );
    }
    let expunge = Expunge {
        mailbox: inbox,
        uids: Some(uids(10..=12)),
        only_deleted: false,
    };
    apply(account, Operation::Expunge(expunge));
    apply(account, Operation::Rename(name("Work/Ünï"), name("Old")));
    apply(account, Operation::Subscribe(name("Old"), true));
    apply(account, Operation::Delete(name("Drafts")));
}

fn break_index(folder: &Path) {
    std::fs::write(folder.join("index.redb"), b"no index at all").unwrap();
}

#[test]
fn all_is_there_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let old = account(&store, 7);
    busy(&old);
    let wanted = (
        state(&old),
        details(&old, "INBOX"),
        details(&old, "Archive"),
    );
    let path = old.folder().to_owned();
    drop((old, store));
    // A damaged index, none at all, and one that is whole.
    for round in 0..3 {
        match round {
            0 => break_index(&path),
            1 => std::fs::remove_file(path.join("index.redb")).unwrap(),
            _ => {}
        }
        let store = open(folder.path());
        assert_eq!(store.account(AccountId::from(7), NOW).is_err(), round < 2);
        let (messages, lost) = rebuild(&store, 7, round == 1);
        assert_eq!((messages, lost), (59, Vec::new()), "{round}");
        let new = account(&store, 7);
        assert_sound(&new);
        let found = (
            state(&new),
            details(&new, "INBOX"),
            details(&new, "Archive"),
        );
        assert!(found == wanted, "{round}: {found:#?} {wanted:#?}");
        // What was expunged was delivered all the same.
        let again = apply(&new, mail("INBOX", "s16", 900, Some(16)));
        assert_eq!(again, Applied::DeliveredBefore);
    }
    let store = open(folder.path());
    let new = account(&store, 7);
    apply(&new, mail("INBOX", "new", 900, Some(99)));
    assert_sound(&new);
}

#[test]
fn new_mail_behind_the_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    busy(&account(&store, 7));
    drop(store);
    let store = open(folder.path());
    let old = account(&store, 7);
    for n in 100..110 {
        apply(&old, mail("INBOX", &format!("s{n}"), 900, Some(n)));
    }
    let wanted = (state(&old), details(&old, "INBOX"));
    // As a crash would leave it: some mail is in the journal alone.
    let crashed = tempfile::tempdir().unwrap();
    copy(folder.path(), crashed.path());
    let place = crashed.path().join(AccountId::from(7).to_string());
    break_index(&place);
    let store = open(crashed.path());
    assert_eq!(rebuild(&store, 7, false), (69, Vec::new()));
    let new = account(&store, 7);
    assert_sound(&new);
    assert_eq!((state(&new), details(&new, "INBOX")), wanted);
}

#[test]
fn nothing_but_mail_needs_no_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let old = account(&store, 7);
    for n in 0..30 {
        apply(&old, mail("INBOX", &format!("s{n}"), 900, Some(n)));
    }
    let wanted = state(&old).0.swap_remove(0);
    drop((old, store));
    let place = folder.path().join(AccountId::from(7).to_string());
    assert!(!place.join("snapshot").exists());
    std::fs::remove_file(place.join("index.redb")).unwrap();
    let store = open(folder.path());
    assert_eq!(rebuild(&store, 7, false), (30, Vec::new()));
    assert_eq!(state(&account(&store, 7)).0.swap_remove(0), wanted);
}

#[test]
fn what_is_not_known_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let old = account(&store, 7);
    busy(&old);
    let wanted = state(&old);
    let crashed = tempfile::tempdir().unwrap();
    copy(folder.path(), crashed.path());
    let place = crashed.path().join(AccountId::from(7).to_string());
    break_index(&place);
    let store = open(crashed.path());
    let (messages, lost) = rebuild(&store, 7, false);
    assert_eq!((messages, lost.len()), (60, 1), "{lost:?}");
    assert!(lost[0].contains("no snapshot"), "{lost:?}");
    let new = account(&store, 7);
    assert_sound(&new);
    let (old, new) = (&wanted.0[0], &state(&new).0[0]);
    assert_eq!(
        (old.mailbox_id, old.uid_validity),
        (new.mailbox_id, new.uid_validity)
    );
    // Copies' UIDs are not given again, and clients see that flags are others now.
    assert!(new.uid_next > old.uid_next && new.highest_modseq > old.highest_modseq);
}

#[test]
fn an_older_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    busy(&account(&store, 7));
    drop(store);
    let store = open(folder.path());
    let old = account(&store, 7);
    let inbox = mailbox(&old, "INBOX");
    apply(&old, Operation::Create(name("Later"), SpecialUse::None));
    let copied = CopyMail {
        mailbox: inbox,
        uids: uids(1..=2),
        target: name("Later"),
        remove: true,
        quota: 0,
    };
    apply(&old, Operation::Copy(copied));
    let wanted = state(&old);
    drop((old, store));
    let place = folder.path().join(AccountId::from(7).to_string());
    let mut snapshot = std::fs::read(place.join("snapshot")).unwrap();
    *snapshot.last_mut().unwrap() ^= 1;
    std::fs::write(place.join("snapshot"), snapshot).unwrap();
    break_index(&place);
    let store = open(folder.path());
    let (messages, lost) = rebuild(&store, 7, false);
    assert_eq!((messages, lost.len()), (59, 1), "{lost:?}");
    let new = account(&store, 7);
    assert_sound(&new);
    let found = state(&new).0;
    assert!(found.iter().all(|mailbox| mailbox.name != "Later"));
    let (old, new) = (&wanted.0[0], &found[0]);
    assert_eq!(old.uid_validity, new.uid_validity);
    assert_eq!(new.messages.len(), old.messages.len() + 2);
    assert!(new.uid_next > old.uid_next);
    let newest = new.messages.iter().map(|message| message.modseq).min();
    assert!(newest.unwrap() > old.highest_modseq);
}

#[test]
fn damage_costs_the_messages_that_it_hits() {
    for ignore_index in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let old = account(&store, 7);
        for n in 0..9 {
            apply(&old, mail("INBOX", &format!("s{n}"), 900, Some(n)));
        }
        let wanted = list(&old, mailbox(&old, "INBOX"));
        let segment = old.folder().join("segments/00000001.seg");
        drop((old, store));
        let mut bytes = std::fs::read(&segment).unwrap();
        let marks: Vec<usize> = (0..bytes.len() - 4)
            .filter(|at| bytes[*at..].starts_with(b"CRS3"))
            .collect();
        assert_eq!(marks.len(), 9);
        // The header of one, the content of another, and the end of the last.
        bytes[marks[2] + 30] ^= 1;
        bytes[marks[5] + 500] ^= 1;
        bytes.truncate(bytes.len() - 10);
        std::fs::write(&segment, bytes).unwrap();
        let store = open(folder.path());
        let problems = account(&store, 7).check().unwrap().problems;
        assert_eq!(problems.len(), 3, "{problems:?}");
        for (uid, problem) in [3, 6, 9].into_iter().zip(&problems) {
            let name = format!("UID {uid} of INBOX is damaged");
            assert!(problem.starts_with(&name), "{problem}");
        }
        let (messages, lost) = rebuild(&store, 7, ignore_index);
        // Without the index nobody knows whose header was damaged.
        let named = if ignore_index { 2 } else { 3 };
        assert_eq!((messages, lost.len()), (6, named), "{lost:?}");
        let new = account(&store, 7);
        let found = list(&new, mailbox(&new, "INBOX"));
        let whole = |n: &usize| ![2, 5, 8].contains(n);
        let wanted: Vec<_> = (0..9).filter(whole).map(|n| wanted[n].clone()).collect();
        assert!(found == wanted);
        assert_sound(&new);
        apply(&new, mail("INBOX", "new", 10, Some(99)));
        assert_sound(&new);
    }
}
