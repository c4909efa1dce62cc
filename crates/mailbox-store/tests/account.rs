//! What an account does with its mail, across reopening.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are not seen as tests"
)]

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use mail_types::{AccountId, Flags, MailboxId, SystemFlag, Uid, UidSet};
use mailbox_store::{
    Account, Applied, ApplyError, CopyMail, Deliver, Delivery, DeliveryKey, Event, Expunge,
    FlagChange, FlagMode, FlagNames, Known, MailStore, MailboxName, Message, Operation, Options,
    Snapshot, SpecialUse, Target,
};

const NOW: i64 = 1_700_000_000;

fn open(folder: &std::path::Path) -> (MailStore, Arc<Account>) {
    let options = Options {
        segment_size: 2000,
        ..Options::default()
    };
    let store = MailStore::open(folder.to_owned(), options).unwrap();
    let account = store.account(AccountId::from(7), NOW).unwrap();
    (store, account)
}

fn mail(subject: &str) -> Operation {
    mail_with(subject, None, 0)
}

fn mail_with(subject: &str, key: Option<DeliveryKey>, quota: u64) -> Operation {
    let text =
        format!("Subject: {subject}\r\nMessage-ID: <{subject}@x>\r\n\r\nhello {subject}\r\n");
    let summary = Arc::new(mail_message::summarize(text.as_bytes()));
    Operation::Deliver(Box::new(Deliver {
        key,
        mailbox: Target::Name(MailboxName::inbox()),
        uid: None,
        flags: FlagNames::default(),
        internal_date: NOW,
        internal_offset: 60,
        content: vec![Bytes::from(text)],
        summary,
        quota,
    }))
}

fn apply(account: &Account, operation: Operation) -> Result<Applied, ApplyError> {
    account.apply(operation, NOW).unwrap()
}

fn name(text: &str) -> MailboxName {
    text.parse().unwrap()
}

fn id(account: &Account, text: &str) -> MailboxId {
    account.status(&Target::Name(name(text))).unwrap().id
}

fn all() -> UidSet {
    let mut set = UidSet::new();
    set.insert_range(Uid::MIN, Uid::new(u32::MAX).unwrap());
    set
}

fn set(uids: &[u32]) -> UidSet {
    uids.iter().filter_map(|uid| Uid::new(*uid)).collect()
}

fn list(account: &Account, mailbox: &str) -> Vec<(u32, String, u64)> {
    let mut found: Vec<Message> = Vec::new();
    account
        .read_messages(id(account, mailbox), &all(), true, |message| {
            found.push(message);
            true
        })
        .unwrap();
    let read = |message: &Message| {
        let content = account.read_content(message, 0, usize::MAX).unwrap();
        assert_eq!(content.len() as u64, message.size);
        assert!(!message.envelope.is_empty());
        let text = String::from_utf8(content).unwrap();
        text.lines()
            .next()
            .unwrap()
            .trim_start_matches("Subject: ")
            .to_owned()
    };
    found
        .iter()
        .map(|m| (m.uid.get(), read(m), m.flags.bits()))
        .collect()
}

fn assert_sound(account: &Account) {
    assert_eq!(account.check().unwrap().problems, Vec::<String>::new());
}

#[test]
fn mail_stays_across_reopening_and_uids_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let (store, account) = open(folder.path());
    // More than one segment.
    for n in 0..40 {
        apply(&account, mail(&format!("s{n}"))).unwrap();
    }
    let status = account.status(&Target::Name(name("INBOX"))).unwrap();
    drop((store, account));
    let (_store, account) = open(folder.path());
    assert_eq!(
        account.status(&Target::Name(name("inbox"))).unwrap(),
        status
    );
    assert_eq!(
        (
            status.messages,
            status.unseen,
            status.uid_next,
            status.recent
        ),
        (40, 40, 41, 40)
    );
    assert_eq!(list(&account, "INBOX")[39], (40, "s39".to_owned(), 0));
    assert!(
        std::fs::read_dir(account.folder().join("segments"))
            .unwrap()
            .count()
            > 1
    );
    assert_sound(&account);
}

#[test]
fn a_key_is_delivered_once() {
    let folder = tempfile::tempdir().unwrap();
    let key = Some(DeliveryKey {
        queue_id: 9,
        index: 1,
    });
    {
        let (_store, account) = open(folder.path());
        let both = account.apply_all(vec![mail_with("a", key, 0), mail_with("a", key, 0)], NOW);
        let both: Vec<_> = both
            .into_iter()
            .map(|outcome| outcome.unwrap().unwrap())
            .collect();
        assert!(matches!(
            both[..],
            [Applied::Delivered { .. }, Applied::DeliveredBefore]
        ));
    }
    let (_store, account) = open(folder.path());
    assert_eq!(
        apply(&account, mail_with("a", key, 0)),
        Ok(Applied::DeliveredBefore)
    );
    assert_eq!(list(&account, "INBOX").len(), 1);
}

/// A message that is too long for the journal takes those of its batch with it to the index; what is
/// refused there was not delivered, however often it comes.
#[test]
fn what_was_refused_beside_a_long_message_is_delivered_later() {
    let folder = tempfile::tempdir().unwrap();
    let (store, account) = open(folder.path());
    let key = |queue_id| Some(DeliveryKey { queue_id, index: 0 });
    let delivery = |operation| match operation {
        Operation::Deliver(deliver) => Delivery {
            account: AccountId::from(7),
            deliver,
        },
        other => panic!("{other:?}"),
    };
    let mut long = delivery(mail_with("long", key(1), 0));
    long.deliver
        .content
        .push(Bytes::from("x".repeat(300 * 1024)));
    let over = delivery(mail_with("short", key(2), 1));
    let told = store.deliver(&[long.clone(), over.clone()], NOW);
    let [Ok(Ok(Applied::Delivered { .. })), Ok(Err(refused))] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(*refused, ApplyError::OverQuota);
    let again = store.deliver(&[over], NOW);
    assert!(
        matches!(&again[..], [Ok(Err(ApplyError::OverQuota))]),
        "{again:?}"
    );
    let within = delivery(mail_with("short", key(2), 0));
    for outcome in [true, false] {
        let told = store.deliver(&[within.clone(), long.clone()], NOW);
        let [Ok(Ok(short)), Ok(Ok(Applied::DeliveredBefore))] = &told[..] else {
            panic!("{told:?}")
        };
        assert_eq!(matches!(short, Applied::Delivered { .. }), outcome);
    }
    let subjects = list(&account, "INBOX").into_iter();
    let subjects: Vec<String> = subjects.map(|(_, subject, _)| subject).collect();
    assert_eq!(subjects, ["long", "short"]);
    assert_sound(&account);
}

#[test]
fn what_is_behind_the_index_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let segment = {
        let (_store, account) = open(folder.path());
        apply(&account, mail("a")).unwrap();
        account.folder().join("segments/00000001.seg")
    };
    let mut bytes = std::fs::read(&segment).unwrap();
    let len = bytes.len();
    bytes.extend(b"CRS1 torn");
    std::fs::write(&segment, bytes).unwrap();
    let (_store, account) = open(folder.path());
    assert_eq!(std::fs::metadata(&segment).unwrap().len(), len as u64);
    apply(&account, mail("b")).unwrap();
    assert_eq!(list(&account, "INBOX").len(), 2);
    assert_sound(&account);
}

#[test]
fn a_damaged_message_harms_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (store, account) = open(folder.path());
    apply(&account, mail("a")).unwrap();
    apply(&account, mail("b")).unwrap();
    let segment = account.folder().join("segments/00000001.seg");
    drop((store, account));
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(7).position(|w| w == b"hello a").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let (_store, account) = open(folder.path());
    let report = account.check().unwrap();
    assert_eq!(report.problems.len(), 1, "{report:?}");
    let mut results = Vec::new();
    account
        .read_messages(id(&account, "INBOX"), &all(), false, |message| {
            results.push(account.read_content(&message, 0, usize::MAX).is_ok());
            true
        })
        .unwrap();
    assert_eq!(results, [false, true]);
    results.clear();
    account
        .read_messages(id(&account, "INBOX"), &all(), false, |message| {
            results.push(account.verify_content(&message).is_ok());
            true
        })
        .unwrap();
    assert_eq!(results, [false, true]);
}

#[test]
fn flags_and_keywords() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, account) = open(folder.path());
    apply(&account, mail("a")).unwrap();
    apply(&account, mail("b")).unwrap();
    let inbox = id(&account, "INBOX");
    let change = |mode, system: Flags, keywords: &[&str], since| {
        let keywords = keywords.iter().map(|&k| k.to_owned()).collect();
        Operation::Flags(FlagChange {
            mailbox: inbox,
            uids: set(&[1, 9]),
            mode,
            flags: FlagNames { system, keywords },
            unchanged_since: since,
        })
    };
    let seen = Flags::from(SystemFlag::Seen);
    let add = change(FlagMode::Add, seen, &["$Label", "$label"], None);
    let Ok(Applied::FlagsChanged {
        modseq, messages, ..
    }) = apply(&account, add)
    else {
        panic!("not stored")
    };
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].flags, seen | Flags::keyword(0).unwrap());
    assert_eq!(Some(messages[0].modseq), modseq);
    assert_eq!(account.status(&Target::Id(inbox)).unwrap().unseen, 1);
    // The same again changes nothing, and no MODSEQ.
    let add = change(FlagMode::Add, seen, &["$LABEL"], None);
    assert!(matches!(
        apply(&account, add),
        Ok(Applied::FlagsChanged { modseq: None, .. })
    ));
    let late = change(FlagMode::Replace, Flags::NONE, &[], Some(1));
    let Ok(Applied::FlagsChanged { modified, .. }) = apply(&account, late) else {
        panic!()
    };
    assert_eq!(modified, set(&[1]));
    let remove = change(FlagMode::Remove, seen, &["$Label", "unknown"], None);
    apply(&account, remove).unwrap();
    assert_eq!(list(&account, "INBOX")[0].2, 0);
    assert_eq!(account.keywords(inbox).unwrap(), ["$Label"]);
    let many: Vec<String> = (0..60).map(|n| format!("k{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let refused = apply(&account, change(FlagMode::Add, Flags::NONE, &many, None));
    assert_eq!(refused, Err(ApplyError::TooManyKeywords));
    assert_sound(&account);
}

#[test]
fn copy_move_and_expunge_share_contents() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, account) = open(folder.path());
    for subject in ["a", "b", "c"] {
        apply(&account, mail(subject)).unwrap();
    }
    let inbox = id(&account, "INBOX");
    let copy = |uids: &[u32], target: &str, remove| {
        let (uids, target) = (set(uids), name(target));
        Operation::Copy(CopyMail {
            mailbox: inbox,
            uids,
            target,
            remove,
            quota: 0,
        })
    };
    assert_eq!(
        apply(&account, copy(&[1], "No", false)),
        Err(ApplyError::NoSuchMailbox)
    );
    let copied = apply(&account, copy(&[1, 3, 8], "Archive", false)).unwrap();
    let Applied::Copied { source, target, .. } = copied else {
        panic!()
    };
    assert_eq!((source, target), (set(&[1, 3]), set(&[1, 2])));
    let moved = apply(&account, copy(&[1, 2], "Trash", true)).unwrap();
    assert!(matches!(moved, Applied::Copied { .. }));
    let same = apply(&account, copy(&[3], "INBOX", true)).unwrap();
    let Applied::Copied { target, .. } = same else {
        panic!()
    };
    assert_eq!(target, set(&[4]));
    let subjects = |mailbox| {
        list(&account, mailbox)
            .into_iter()
            .map(|(uid, s, _)| (uid, s))
    };
    assert_eq!(subjects("INBOX").collect::<Vec<_>>(), [(4, "c".to_owned())]);
    assert_eq!(subjects("Trash").count(), 2);
    assert_eq!(account.check().unwrap().emails, 3);
    let trash = id(&account, "Trash");
    let expunge = Operation::Expunge(Expunge {
        mailbox: trash,
        uids: None,
        only_deleted: false,
    });
    apply(&account, expunge).unwrap();
    // "a" lives on in Archive, "b" is gone.
    let report = account.check().unwrap();
    assert_eq!((report.emails, report.messages), (2, 3));
    assert_eq!(account.usage().messages, 3);
    assert_sound(&account);
}

#[test]
fn mailboxes_are_made_renamed_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, account) = open(folder.path());
    let create = |text| Operation::Create(name(text), SpecialUse::None);
    let rename = |a, b| Operation::Rename(name(a), name(b));
    apply(&account, create("w/x")).unwrap();
    apply(&account, create("w")).unwrap();
    assert_eq!(apply(&account, create("w")), Err(ApplyError::AlreadyExists));
    let before = account.status(&Target::Name(name("w/x"))).unwrap();
    apply(&account, rename("w", "v")).unwrap();
    assert_eq!(
        account.status(&Target::Name(name("v/x"))).unwrap().id,
        before.id
    );
    assert_eq!(
        apply(&account, rename("v", "v/y")),
        Err(ApplyError::AlreadyExists)
    );
    assert_eq!(
        apply(&account, Operation::Delete(name("inbox"))),
        Err(ApplyError::Inbox)
    );
    apply(&account, Operation::Delete(name("v/x"))).unwrap();
    apply(&account, create("v/x")).unwrap();
    let after = account.status(&Target::Name(name("v/x"))).unwrap();
    assert!(after.id != before.id && after.uid_validity > before.uid_validity);
    // RFC 3501 §6.3.5: INBOX is emptied, not renamed.
    apply(&account, mail("a")).unwrap();
    apply(&account, rename("INBOX", "old")).unwrap();
    assert_eq!(
        (list(&account, "INBOX").len(), list(&account, "old").len()),
        (0, 1)
    );
    assert_sound(&account);
}

#[test]
fn quota() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, account) = open(folder.path());
    apply(&account, mail_with("a", None, 200)).unwrap();
    let used = account.usage().bytes;
    assert_eq!(
        apply(&account, mail_with("b", None, used)),
        Err(ApplyError::OverQuota)
    );
    apply(&account, mail_with("b", None, 2 * used)).unwrap();
}

#[test]
fn watchers_see_a_snapshot_and_then_each_change() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, account) = open(folder.path());
    apply(&account, mail("a")).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = told.clone();
    let target = Target::Name(name("INBOX"));
    let (snapshot, watcher) = account
        .watch(&target, true, move |event| sink.lock().unwrap().push(event))
        .unwrap()
        .unwrap();
    assert_eq!(
        (snapshot.messages.len(), snapshot.first_recent),
        (1, Some(1))
    );
    let (second, _other) = account.watch(&target, true, |_| {}).unwrap().unwrap();
    assert_eq!(second.first_recent, None);
    apply(&account, mail("b")).unwrap();
    let expunge = Expunge {
        mailbox: snapshot.mailbox_id,
        uids: Some(set(&[1])),
        only_deleted: false,
    };
    apply(&account, Operation::Expunge(expunge)).unwrap();
    drop(watcher);
    apply(&account, mail("c")).unwrap();
    let told = told.lock().unwrap();
    let [
        Event::Changed {
            change: one,
            recent: true,
        },
        Event::Changed { change: two, .. },
    ] = &told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!(one.appended[0].uid.get(), 2);
    assert_eq!(
        (two.expunged.clone(), two.modseq),
        (set(&[1]), one.modseq + 1)
    );
}

#[test]
fn who_knows_a_mailbox_is_told_only_that_it_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (store, account) = open(folder.path());
    apply(&account, mail("a")).unwrap();
    let target = Target::Name(name("INBOX"));
    let watch = |account: &Account, known| {
        let watched = account.watch_known(&target, false, known, |_| {});
        watched.unwrap().unwrap().0
    };
    let known = |snapshot: &Snapshot| Known {
        mailbox: snapshot.mailbox_id,
        epoch: snapshot.epoch,
        highest_modseq: snapshot.highest_modseq,
    };
    let first = watch(&account, None);
    assert!(!first.unchanged);
    let same = watch(&account, Some(known(&first)));
    assert_eq!((same.unchanged, same.messages.len()), (true, 0));
    let (other, is_other) = (known(&first), |other| watch(&account, Some(other)));
    let others = [
        Known {
            mailbox: 99.into(),
            ..other
        },
        Known {
            epoch: other.epoch + 1,
            ..other
        },
        Known {
            highest_modseq: other.highest_modseq - 1,
            ..other
        },
    ];
    for other in others.map(is_other) {
        assert_eq!((other.unchanged, other.messages.len()), (false, 1));
    }
    apply(&account, mail("b")).unwrap();
    let now = watch(&account, Some(known(&first)));
    assert_eq!((now.unchanged, now.messages.len()), (false, 2));
    drop((account, store));
    let (_store, account) = open(folder.path());
    let anew = watch(&account, Some(known(&now)));
    assert_eq!((anew.unchanged, anew.messages.len()), (false, 2));
}

#[test]
fn many_threads_write_one_account() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, account) = open(folder.path());
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let account = &account;
            scope.spawn(move || {
                for n in 0..20 {
                    apply(account, mail(&format!("t{thread}-{n}"))).unwrap();
                }
            });
        }
    });
    assert_eq!(list(&account, "INBOX").len(), 320);
    assert_sound(&account);
}

#[test]
fn a_removed_account_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (store, account) = open(folder.path());
    apply(&account, mail("a")).unwrap();
    store.remove_account(account.id()).unwrap();
    drop(account);
    let account = store.account(AccountId::from(7), NOW).unwrap();
    assert_eq!(list(&account, "INBOX").len(), 0);
}
