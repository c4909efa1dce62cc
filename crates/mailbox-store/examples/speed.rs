//! How many durable deliveries of 4 KiB a second: `speed FOLDER`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mail_types::AccountId;
use mailbox_store::{
    Deliver, DeliveryKey, FlagNames, MailStore, MailboxName, Operation, Options, Target,
};

const NOW: i64 = 1_700_000_000;
const TIME: Duration = Duration::from_secs(5);

fn main() {
    let folder: PathBuf = std::env::args_os().nth(1).unwrap_or("speed".into()).into();
    for accounts in [1, 100] {
        for waiting in [1, 20, 64] {
            let folder = folder.join(format!("{accounts}-{waiting}"));
            let done = run(folder, accounts, waiting);
            let rate = done / TIME.as_secs();
            println!("{accounts:>4} accounts, {waiting:>3} waiting: {rate:>6} a second");
        }
    }
}

fn run(folder: PathBuf, accounts: u64, waiting: u64) -> u64 {
    let store = MailStore::open(folder, Options::default()).unwrap();
    for account in 0..accounts {
        store.account(AccountId::from(account), NOW).unwrap();
    }
    let next = AtomicU64::new(0);
    let end = Instant::now() + TIME;
    std::thread::scope(|scope| {
        for _ in 0..waiting {
            scope.spawn(|| {
                while Instant::now() < end {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let account = store.account(AccountId::from(number % accounts), NOW);
                    let told = account.unwrap().apply(mail(number), NOW);
                    told.unwrap().unwrap();
                }
            });
        }
    });
    next.load(Ordering::Relaxed)
}

fn mail(number: u64) -> Operation {
    let body = "It is a line of a mail that says nothing much at all.\r\n".repeat(70);
    let text = format!(
        "From: Ana <ana@aula.test>\r\nTo: lois@aula.test\r\nSubject: {number}\r\n\
         Message-ID: <{number}@aula.test>\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\n\r\n{body}"
    );
    Operation::Deliver(Box::new(Deliver {
        key: Some(DeliveryKey {
            queue_id: number,
            index: 0,
        }),
        mailbox: Target::Name(MailboxName::inbox()),
        uid: None,
        flags: FlagNames::default(),
        internal_date: NOW,
        internal_offset: 0,
        summary: Arc::new(mail_message::summarize(text.as_bytes())),
        content: vec![Bytes::from(text)],
        quota: 0,
    }))
}
