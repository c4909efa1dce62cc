//! Space of expunged mail is given back, while the account is used and whatever crash comes.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not seen as tests")]

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use common::{NOW, account, all, assert_sound, copy, list, mail, open, rebuild};
use mail_types::{Uid, UidSet};
use mailbox_store::{Account, Expunge, Operation};

fn deliver(account: &Account, ids: std::ops::Range<u64>) {
    for id in ids {
        let told = account.apply(mail("INBOX", &format!("s{id}"), 900, Some(id)), NOW);
        told.unwrap().unwrap();
    }
}

fn expunge(account: &Account, uids: impl Iterator<Item = u32>) {
    let uids: UidSet = uids.filter_map(Uid::new).collect();
    let expunge = Operation::Expunge(Expunge {
        mailbox: 1.into(),
        uids: Some(uids),
        only_deleted: false,
    });
    account.apply(expunge, NOW).unwrap().unwrap();
}

fn segments(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder.join("segments")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[test]
fn dead_segments_go_and_a_crash_at_any_step_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let one = account(&store, 7);
    deliver(&one, 0..200);
    list(&one, 1.into());
    let before = segments(one.folder()).len();
    assert!(before > 5, "{before}");
    // Three of four go; the last segment keeps what is there.
    expunge(&one, (1..=180).filter(|uid| uid % 4 != 0));
    let wanted = list(&one, 1.into());
    let mut crashes = Vec::new();
    let mut came = 200;
    let freed = store.reclaim(7.into(), NOW, &mut |_| {
        // Mail comes and goes meanwhile.
        deliver(&one, came..came + 1);
        came += 1;
        let crashed = tempfile::tempdir().unwrap();
        copy(folder.path(), crashed.path());
        crashes.push((crashed, list(&one, 1.into())));
        true
    });
    assert!(freed.unwrap() > 60_000);
    assert!(crashes.len() >= before / 2, "{}", crashes.len());
    for (crashed, wanted) in &crashes {
        let store = open(crashed.path());
        let again = account(&store, 7);
        assert_sound(&again);
        assert!(list(&again, 1.into()) == *wanted);
        // And it can be begun anew from there.
        store.reclaim(7.into(), NOW, &mut |_| true).unwrap();
        assert_sound(&again);
        assert!(list(&again, 1.into()) == *wanted);
    }
    let now = list(&one, 1.into());
    assert!(now[..wanted.len()] == wanted);
    assert_sound(&one);
    let after = segments(one.folder());
    assert!(after.len() < before, "{before} before, {after:?}");
    // Nothing is left to do.
    assert_eq!(store.reclaim(7.into(), NOW, &mut |_| true).unwrap(), 0);
    drop((one, store));
    let store = open(folder.path());
    let one = account(&store, 7);
    assert_sound(&one);
    assert!(list(&one, 1.into()) == now);
    drop(one);
    let (messages, lost) = rebuild(&store, 7, false);
    assert_eq!((messages, lost), (now.len() as u64, Vec::new()));
    assert!(list(&account(&store, 7), 1.into()) == now);
}

#[test]
fn readers_find_what_moved_and_all_of_it_can_go() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let one = account(&store, 7);
    deliver(&one, 0..100);
    let mut found = Vec::new();
    one.read_messages(1.into(), &all(), true, |message| {
        found.push(message);
        true
    })
    .unwrap();
    let wanted = list(&one, 1.into());
    expunge(&one, (1..=100).filter(|uid| uid % 5 != 0));
    store.reclaim(7.into(), NOW, &mut |_| true).unwrap();
    for (message, (uid, text, _)) in found.iter().zip(&wanted) {
        if uid % 5 == 0 {
            let read = one.read_content(message, 0, usize::MAX).unwrap();
            assert_eq!(&String::from_utf8(read).unwrap(), text);
            one.verify_content(message).unwrap();
        }
    }
    expunge(&one, 1..=100);
    let freed = store.reclaim(7.into(), NOW, &mut |_| true).unwrap();
    assert!(freed > 15_000, "{freed}");
    assert!(segments(one.folder()).len() <= 2);
    deliver(&one, 300..310);
    assert_eq!(list(&one, 1.into()).len(), 10);
    assert_sound(&one);
}

#[test]
fn a_damaged_message_keeps_its_segment() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let one = account(&store, 7);
    deliver(&one, 0..60);
    list(&one, 1.into());
    expunge(&one, (1..=60).filter(|uid| uid % 10 != 5));
    let first = one.folder().join("segments/00000001.seg");
    let mut bytes = std::fs::read(&first).unwrap();
    let at = (0..bytes.len()).find(|at| bytes[*at..].starts_with(b"Subject: s4\r"));
    bytes[at.unwrap() + 200] ^= 1;
    std::fs::write(&first, bytes).unwrap();
    store.reclaim(7.into(), NOW, &mut |_| true).unwrap();
    assert!(first.exists());
    let texts = list(&one, 1.into());
    assert_eq!(texts.len(), 6);
    assert_eq!(
        texts.iter().filter(|(_, text, _)| text.is_empty()).count(),
        1
    );
}
