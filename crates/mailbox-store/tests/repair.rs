//! What is wrong with an index is found and mended.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests are not seen as tests"
)]

mod common;

use common::{NOW, account, assert_sound, list, mail, mailbox, open};
use mail_types::AccountId;
use mailbox_store::{Applied, Finding, Known, MailStore, Report, Target};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const SUMMARIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("summaries");
const MAILBOXES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("mailboxes");
const DELIVERED_AT: TableDefinition<'_, (i64, u64, u32), ()> = TableDefinition::new("delivered_at");

fn repair(store: &MailStore, drop_damaged: bool) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut observer = |report| {
        if let Report::Found(finding) = report {
            found.push(finding);
        }
        true
    };
    store
        .repair(AccountId::from(7), drop_damaged, NOW, &mut observer)
        .unwrap();
    found
}

fn fill(folder: &std::path::Path) -> std::path::PathBuf {
    let store = open(folder);
    let old = account(&store, 7);
    for n in 0..9 {
        old.apply(mail("INBOX", &format!("s{n}"), 900, Some(n)), NOW)
            .unwrap()
            .unwrap();
    }
    old.folder().to_owned()
}

#[test]
fn sums_summaries_and_keys() {
    let folder = tempfile::tempdir().unwrap();
    let place = fill(folder.path());
    let before = {
        let db = Database::open(place.join("index.redb")).unwrap();
        let txn = db.begin_write().unwrap();
        let mut meta = txn.open_table(META).unwrap();
        meta.insert("used_bytes", 5).unwrap();
        meta.insert("next_email", 2).unwrap();
        let mut summaries = txn.open_table(SUMMARIES).unwrap();
        let before = summaries.get(4).unwrap().unwrap().value().to_vec();
        summaries.remove(4).unwrap();
        let wrong = summaries.get(5).unwrap().unwrap().value().to_vec();
        summaries.insert(6, wrong.as_slice()).unwrap();
        let mut mailboxes = txn.open_table(MAILBOXES).unwrap();
        let mut row = mailboxes.get(1).unwrap().unwrap().value().to_vec();
        // UIDNEXT, and the number of messages.
        (row[5], row[13]) = (3, 200);
        mailboxes.insert(1, row.as_slice()).unwrap();
        let mut keys = txn.open_table(DELIVERED_AT).unwrap();
        keys.pop_first().unwrap();
        drop((meta, summaries, mailboxes, keys));
        txn.commit().unwrap();
        before
    };
    let store = open(folder.path());
    let problems = account(&store, 7).check().unwrap().problems;
    for what in [
        "number of messages",
        "UIDNEXT",
        "quota",
        "no summary",
        "keys",
        "given again",
    ] {
        assert!(
            problems.iter().any(|problem| problem.contains(what)),
            "{what}: {problems:?}"
        );
    }
    let found = repair(&store, false);
    assert!(
        found.iter().all(|one| matches!(one, Finding::Mended(_))),
        "{found:?}"
    );
    let rendered = found
        .iter()
        .filter(|one| matches!(one, Finding::Mended(what) if what.contains("rendered")));
    assert_eq!(rendered.count(), 2, "{found:?}");
    assert_sound(&account(&store, 7));
    assert_eq!(repair(&store, true), Vec::new());
    let sound = account(&store, 7);
    assert_eq!(list(&sound, mailbox(&sound, "INBOX")).len(), 9);
    let told = sound
        .apply(mail("INBOX", "new", 10, Some(99)), NOW)
        .unwrap();
    assert!(matches!(told, Ok(Applied::Delivered { uid, .. }) if uid.get() == 10));
    assert_sound(&sound);
    drop((sound, store));
    let db = Database::open(place.join("index.redb")).unwrap();
    let summaries = db.begin_read().unwrap().open_table(SUMMARIES).unwrap();
    assert_eq!(summaries.get(4).unwrap().unwrap().value(), before);
}

#[test]
fn damaged_messages_go_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let segment = fill(folder.path()).join("segments/00000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[1500] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let store = open(folder.path());
    let found = repair(&store, false);
    assert!(matches!(&found[..], [Finding::Wrong(what)] if what.starts_with("UID 2 of INBOX")));
    assert_eq!(account(&store, 7).usage().messages, 9);
    let found = repair(&store, true);
    assert!(matches!(&found[..], [Finding::Lost(what)] if what.starts_with("UID 2 of INBOX")));
    let sound = account(&store, 7);
    assert_eq!(sound.usage().messages, 8);
    assert_sound(&sound);
    // Delivered once all the same.
    let again = sound.apply(mail("INBOX", "s1", 900, Some(1)), NOW).unwrap();
    assert_eq!(again, Ok(Applied::DeliveredBefore));
}

/// Who knows the mailbox from before the mending is told all of it anew.
#[test]
fn what_was_known_before_does_not_hold_after_a_mending() {
    let folder = tempfile::tempdir().unwrap();
    let place = fill(folder.path());
    let db = Database::open(place.join("index.redb")).unwrap();
    let txn = db.begin_write().unwrap();
    txn.open_table(META)
        .unwrap()
        .insert("used_bytes", 5)
        .unwrap();
    txn.commit().unwrap();
    drop(db);
    let store = open(folder.path());
    let sick = account(&store, 7);
    let watch = |known| {
        let target = Target::Id(1.into());
        let watched = sick.watch_known(&target, false, known, |_| {});
        watched.unwrap().unwrap().0
    };
    let before = watch(None);
    let known = Known {
        mailbox: before.mailbox_id,
        epoch: before.epoch,
        highest_modseq: before.highest_modseq,
    };
    assert!(watch(Some(known)).unchanged);
    assert_eq!(repair(&store, false).len(), 1);
    let after = watch(Some(known));
    assert_eq!((after.unchanged, after.messages.len()), (false, 9));
    assert!(after.epoch > before.epoch);
}

#[test]
fn a_cut_and_a_missing_segment() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let old = account(&store, 7);
    for n in 0..45 {
        old.apply(mail("INBOX", &format!("s{n}"), 900, None), NOW)
            .unwrap()
            .unwrap();
    }
    let segments = old.folder().join("segments");
    drop((old, store));
    let last = segments.join("00000003.seg");
    let cut = std::fs::OpenOptions::new().write(true).open(last).unwrap();
    cut.set_len(500).unwrap();
    std::fs::remove_file(segments.join("00000001.seg")).unwrap();
    let store = open(folder.path());
    let damaged = account(&store, 7).check().unwrap().problems;
    let lost = repair(&store, true).len();
    assert_eq!(damaged.len(), lost);
    let sound = account(&store, 7);
    let left = list(&sound, mailbox(&sound, "INBOX"));
    assert_eq!(left.len() + lost, 45);
    assert!(
        left.len() > 10
            && left
                .iter()
                .all(|(_, text, _)| text.starts_with("Subject: s"))
    );
    assert_sound(&sound);
    sound
        .apply(mail("INBOX", "new", 900, None), NOW)
        .unwrap()
        .unwrap();
    assert_sound(&sound);
}
