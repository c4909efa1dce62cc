//! What a large mailbox costs: `large FOLDER [MESSAGES]`. The folder is filled at the first call; for
//! cold figures drop the page cache before the next one.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

mod common;

use std::path::PathBuf;
use std::time::Instant;

use common::{NOW, deliver};
use mail_types::{AccountId, Flags, MailboxId, SystemFlag, Uid, UidSet};
use mailbox_store::{
    Account, CopyMail, Expunge, FlagChange, FlagMode, FlagNames, MailStore, MailboxName, Operation,
    Options, Target,
};

fn main() {
    let mut args = std::env::args_os().skip(1);
    let folder: PathBuf = args.next().unwrap_or("large".into()).into();
    let count = args.next().and_then(|text| text.into_string().ok());
    let count: u32 = count.map_or(10_000, |text| text.parse().unwrap());
    if !folder.exists() {
        fill(&folder, count);
    }
    let store = MailStore::open(folder, Options::default()).unwrap();
    let account = timed("open the account", || {
        store.account(AccountId::from(1), NOW).unwrap()
    });
    let inbox = Target::Name(MailboxName::inbox());
    for round in ["first", "second"] {
        let watched = timed(&format!("SELECT, {round}"), || {
            account.watch(&inbox, false, |_| {}).unwrap().unwrap()
        });
        assert_eq!(watched.0.messages.len(), count as usize);
        timed(&format!("summaries of all, {round}"), || {
            scan(&account, true)
        });
        timed(&format!("dates of all, {round}"), || scan(&account, false));
    }
    let (all, some) = (set(1, count), set(1, 1000));
    for is_set in [true, false, true] {
        let apply = || account.apply(flag(&all, is_set), NOW).unwrap().unwrap();
        timed(&format!("STORE on all: {is_set}"), apply);
    }
    for (what, from, to, remove) in [
        ("COPY 1,000", 1, "Archive", false),
        ("MOVE 1,000", 2, "Sent", true),
        ("MOVE back", 5, "Archive", true),
    ] {
        let uids = if from == 1 {
            some.clone()
        } else {
            set(1, u32::MAX)
        };
        let operation = Operation::Copy(CopyMail {
            mailbox: MailboxId::from(from),
            uids,
            target: to.parse().unwrap(),
            remove,
            quota: 0,
        });
        timed(what, || account.apply(operation, NOW).unwrap().unwrap());
    }
    let operation = Operation::Expunge(Expunge {
        mailbox: MailboxId::from(2),
        uids: None,
        only_deleted: false,
    });
    timed("EXPUNGE 1,000 copies", || {
        account.apply(operation, NOW).unwrap().unwrap()
    });
    assert_eq!(account.usage().messages, u64::from(count));
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = work();
    println!("{what:<28} {:>9.2?}", start.elapsed());
    done
}

fn scan(account: &Account, summary: bool) -> usize {
    let mut octets = 0;
    account
        .scan_messages(1.into(), &set(1, u32::MAX), summary, |_, rendered| {
            octets += rendered.envelope.len();
            true
        })
        .unwrap();
    octets
}

fn set(low: u32, high: u32) -> UidSet {
    let mut set = UidSet::new();
    set.insert_range(Uid::new(low).unwrap(), Uid::new(high).unwrap());
    set
}

fn flag(uids: &UidSet, is_set: bool) -> Operation {
    Operation::Flags(FlagChange {
        mailbox: 1.into(),
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

fn fill(folder: &std::path::Path, count: u32) {
    let store = MailStore::open(folder.to_owned(), Options::default()).unwrap();
    let account = store.account(AccountId::from(1), NOW).unwrap();
    let body = "It is a line of a mail that says nothing much at all.\r\n".repeat(20);
    for first in (0..count).step_by(500) {
        let mails = (first..(first + 500).min(count)).map(|number| {
            let text = format!(
                "Return-Path: <ana@aula.test>\r\nReceived: from a (b [1.2.3.4]) by c; today\r\n\
                 From: Ana <ana@aula.test>\r\nTo: lois@aula.test\r\nSubject: About {number}\r\n\
                 Message-ID: <{number}@aula.test>\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\n\
                 \r\n{body}"
            );
            Operation::Deliver(Box::new(deliver(None, text)))
        });
        for told in account.apply_all(mails.collect(), NOW) {
            told.unwrap().unwrap();
        }
    }
}
