//! An index made anew from the segments.

mod common;

use common::{NOW, account, assert_sound, list, mail, mailbox, name, open};
use mail_types::AccountId;
use mailbox_store::{Applied, Operation, SpecialUse};

#[test]
fn what_came_is_there_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let old = account(&store, 7);
    let create = Operation::Create(name("Work/Ünï"), SpecialUse::None);
    old.apply(create, NOW).unwrap().unwrap();
    for n in 0..60_u64 {
        let (to, key) = if n % 3 == 0 {
            ("Work/Ünï", None)
        } else {
            ("INBOX", Some(n))
        };
        let told = old.apply(mail(to, &format!("s{n}"), 900, key), NOW);
        told.unwrap().unwrap();
    }
    let inbox = list(&old, mailbox(&old, "INBOX"));
    let work = list(&old, mailbox(&old, "Work/Ünï"));
    let validity = old
        .status(&mailbox_store::Target::Name(name("INBOX")))
        .unwrap();
    let path = old.folder().to_owned();
    drop((old, store));
    std::fs::write(path.join("index.redb"), b"no index at all").unwrap();
    let store = open(folder.path());
    assert!(store.account(AccountId::from(7), NOW).is_err());
    let report = store.rebuild(AccountId::from(7), NOW + 100).unwrap();
    assert_eq!((report.messages, report.problems), (60, Vec::new()));
    let new = account(&store, 7);
    assert_sound(&new);
    assert_eq!(list(&new, mailbox(&new, "INBOX")), inbox);
    assert_eq!(list(&new, mailbox(&new, "Work/Ünï")), work);
    let status = new
        .status(&mailbox_store::Target::Name(name("INBOX")))
        .unwrap();
    assert!(status.uid_validity > validity.uid_validity);
    assert_eq!(status.uid_next, validity.uid_next);
    // What was delivered is known, and new mail comes behind the old.
    let again = new.apply(mail("INBOX", "s1", 900, Some(1)), NOW).unwrap();
    assert_eq!(again, Ok(Applied::DeliveredBefore));
    new.apply(mail("INBOX", "new", 900, Some(99)), NOW)
        .unwrap()
        .unwrap();
    assert_eq!(list(&new, mailbox(&new, "INBOX")).len(), inbox.len() + 1);
    assert_sound(&new);
}

#[test]
fn damage_costs_the_messages_that_it_hits() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let old = account(&store, 7);
    for n in 0..9 {
        old.apply(mail("INBOX", &format!("s{n}"), 900, Some(n)), NOW)
            .unwrap()
            .unwrap();
    }
    let wanted = list(&old, mailbox(&old, "INBOX"));
    let segment = old.folder().join("segments/00000001.seg");
    drop((old, store));
    let mut bytes = std::fs::read(&segment).unwrap();
    let marks: Vec<usize> = (0..bytes.len() - 4)
        .filter(|at| bytes[*at..].starts_with(b"CRS1"))
        .collect();
    assert_eq!(marks.len(), 9);
    // The header of one, the content of another, and the end of the last.
    bytes[marks[2] + 30] ^= 1;
    bytes[marks[5] + 500] ^= 1;
    bytes.truncate(bytes.len() - 10);
    std::fs::write(&segment, bytes).unwrap();
    let store = open(folder.path());
    let report = store.rebuild(AccountId::from(7), NOW).unwrap();
    assert_eq!(
        (report.messages, report.problems.len()),
        (6, 3),
        "{report:?}"
    );
    let new = account(&store, 7);
    let found = list(&new, mailbox(&new, "INBOX"));
    let whole = |n: &usize| ![2, 5, 8].contains(n);
    let wanted: Vec<_> = (0..9).filter(whole).map(|n| wanted[n].clone()).collect();
    let uids = |list: &[(u32, String, u64)]| list.iter().map(|m| m.0).collect::<Vec<_>>();
    assert_eq!(uids(&found), uids(&wanted));
    assert!(found == wanted);
    assert_sound(&new);
    new.apply(mail("INBOX", "new", 10, Some(99)), NOW)
        .unwrap()
        .unwrap();
    assert_sound(&new);
}
