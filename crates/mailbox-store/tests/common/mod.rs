#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of several tests, each of which uses a part of them"
)]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use mail_types::{AccountId, MailboxId, Uid, UidSet};
use mailbox_store::{
    Account, Deliver, DeliveryKey, Finding, FlagNames, MailStore, MailboxName, Operation, Options,
    Report, Target,
};

pub const NOW: i64 = 1_700_000_000;

/// Small segments and journals, so that tests see many of them.
pub fn open(folder: &Path) -> MailStore {
    let options = Options {
        segment_size: 20_000,
        journal_size: 30_000,
        ..Options::default()
    };
    MailStore::open(folder.to_owned(), options).unwrap()
}

pub fn account(store: &MailStore, id: u64) -> Arc<Account> {
    store.account(AccountId::from(id), NOW).unwrap()
}

pub fn name(text: &str) -> MailboxName {
    text.parse().unwrap()
}

pub fn mailbox(account: &Account, text: &str) -> MailboxId {
    account.status(&Target::Name(name(text))).unwrap().id
}

pub fn text(subject: &str, filler: usize) -> String {
    let filler = "x".repeat(filler);
    format!("Subject: {subject}\r\nMessage-ID: <{subject}@x>\r\n\r\nhello {filler}\r\n")
}

/// With a queue id it is a delivery, without one an APPEND.
pub fn mail(mailbox: &str, subject: &str, filler: usize, queue_id: Option<u64>) -> Operation {
    let text = text(subject, filler);
    Operation::Deliver(Box::new(Deliver {
        key: queue_id.map(|queue_id| DeliveryKey { queue_id, index: 0 }),
        mailbox: Target::Name(name(mailbox)),
        uid: None,
        flags: FlagNames::default(),
        internal_date: NOW,
        internal_offset: 60,
        summary: Arc::new(mail_message::summarize(text.as_bytes())),
        content: vec![Bytes::from(text)],
        quota: 0,
    }))
}

pub fn all() -> UidSet {
    let mut set = UidSet::new();
    set.insert_range(Uid::MIN, Uid::new(u32::MAX).unwrap());
    set
}

/// UID, content and flags of each message; content is empty where the record is damaged.
pub fn list(account: &Account, mailbox: MailboxId) -> Vec<(u32, String, u64)> {
    let mut found = Vec::new();
    account
        .read_messages(mailbox, &all(), true, |message| {
            found.push(message);
            true
        })
        .unwrap();
    let read = |message| match account.read_content(message, 0, usize::MAX) {
        Ok(content) => String::from_utf8(content).unwrap(),
        Err(mailbox_store::StoreError::Damaged { .. }) => String::new(),
        Err(error) => panic!("{error}"),
    };
    let entries = found.iter().map(|message| {
        assert!(!message.envelope.is_empty());
        (message.uid.get(), read(message), message.flags.bits())
    });
    entries.collect()
}

/// What a rebuild told: what is lost, and how many messages there are.
pub fn rebuild(store: &MailStore, id: u64, ignore_index: bool) -> (u64, Vec<String>) {
    let mut lost = Vec::new();
    let mut observer = |report| {
        if let Report::Found(Finding::Lost(what)) = report {
            lost.push(what);
        }
        true
    };
    let totals = store
        .rebuild(id.into(), ignore_index, NOW + 100, &mut observer)
        .unwrap();
    (totals.messages, lost)
}

pub fn assert_sound(account: &Account) {
    assert_eq!(account.check().unwrap().problems, Vec::<String>::new());
}

/// What a crash would leave: the files as they are while the store is open.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
