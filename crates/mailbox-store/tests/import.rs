//! What an import may ask for: UIDVALIDITY and UIDs of elsewhere.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests are not seen as tests"
)]

mod common;

use common::{NOW, account, assert_sound, list, mail, mailbox, name, open};
use mail_types::{AccountId, Uid};
use mailbox_store::{Adopt, Applied, Operation, StoreError};

fn adopt(uid_validity: u32, uid_next: u32) -> Operation {
    Operation::Adopt(Adopt {
        mailbox: name("INBOX"),
        uid_validity,
        uid_next,
    })
}

fn with_uid(operation: Operation, uid: u32) -> Operation {
    let Operation::Deliver(mut deliver) = operation else {
        return operation;
    };
    deliver.uid = Uid::new(uid);
    Operation::Deliver(deliver)
}

#[test]
fn uids_are_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let account = account(&store, 7);
    let inbox = mailbox(&account, "INBOX");
    let adopted = |uid_validity, uid_next| {
        Ok(Applied::Adopted {
            mailbox: inbox,
            uid_validity,
            uid_next,
        })
    };
    assert_eq!(account.apply(adopt(77, 0), NOW).unwrap(), adopted(77, 1));
    for (wanted, key) in [(5, Some(1)), (9, None), (9, Some(2)), (3, None)] {
        let mail = with_uid(mail("INBOX", "s", 20, key), wanted);
        account.apply(mail, NOW).unwrap().unwrap();
    }
    // A UID is given once; the mailbox has had messages under its UIDVALIDITY.
    assert_eq!(account.apply(adopt(78, 40), NOW).unwrap(), adopted(77, 40));
    let uids = |list: Vec<(u32, String, u64)>| list.iter().map(|m| m.0).collect::<Vec<_>>();
    assert_eq!(uids(list(&account, inbox)), [5, 9, 10, 11]);
    assert_sound(&account);
    drop((account, store));
    let store = open(folder.path());
    let account = common::account(&store, 7);
    assert_eq!(uids(list(&account, inbox)), [5, 9, 10, 11]);
    assert_eq!(account.apply(adopt(0, 0), NOW).unwrap(), adopted(77, 40));
}

#[test]
fn no_index_is_made_beside_mail() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let old = account(&store, 7);
    old.apply(mail("INBOX", "s", 20, None), NOW)
        .unwrap()
        .unwrap();
    let path = old.folder().to_owned();
    drop((old, store));
    std::fs::remove_file(path.join("index.redb")).unwrap();
    let store = open(folder.path());
    let error = store.account(AccountId::from(7), NOW).unwrap_err();
    assert!(matches!(error, StoreError::IndexMissing(_)), "{error}");
    assert_eq!(common::rebuild(&store, 7, false).0, 1);
    assert_sound(&account(&store, 7));
}
