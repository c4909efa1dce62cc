//! Each write of a sequence of changes fails, is torn, finds the disk full or is the last one, and
//! each sync fails: what was acknowledged is there afterwards, what was not is there whole or not
//! at all, and the check finds nothing.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    unreachable_pub,
    missing_docs,
    reason = "helpers of tests are not seen as tests"
)]

mod common;
#[path = "faults/disk.rs"]
mod disk;
#[path = "faults/sweep.rs"]
mod sweep;

use common::{NOW, account, list, mail, name};
use disk::Fault;
use mail_types::SystemFlag;
use mailbox_store::{
    Applied, ApplyError, CopyMail, Expunge, FlagChange, FlagMode, FlagNames, Operation, Options,
};
use sweep::{History, Step};

/// Everything that changes something, more than once, in two accounts.
fn history() -> History {
    let mut steps: Vec<(u64, Operation)> = Vec::new();
    for n in 0..10 {
        steps.push((n % 2, mail("INBOX", &format!("d{n}"), 700, Some(n))));
    }
    let seen = FlagNames {
        system: SystemFlag::Seen.into(),
        ..FlagNames::default()
    };
    let keyword = FlagNames {
        keywords: vec!["$Work".to_owned()],
        ..FlagNames::default()
    };
    let flags = |uids: u32, mode, flags: &FlagNames| {
        Operation::Flags(FlagChange {
            mailbox: 1.into(),
            uids: (1..=uids).filter_map(mail_types::Uid::new).collect(),
            mode,
            flags: flags.clone(),
            unchanged_since: None,
        })
    };
    let relocate = |uid: u32, to: &str, remove| {
        Operation::Copy(CopyMail {
            mailbox: 1.into(),
            uids: mail_types::Uid::new(uid).into_iter().collect(),
            target: name(to),
            remove,
            quota: 0,
        })
    };
    steps.push((0, flags(3, FlagMode::Add, &seen)));
    steps.push((0, mail("INBOX", "append", 3000, None)));
    steps.push((
        1,
        Operation::Create(name("Work"), mailbox_store::SpecialUse::None),
    ));
    steps.push((1, relocate(1, "Work", false)));
    steps.push((1, relocate(2, "Work", true)));
    steps.push((0, mail("INBOX", "large", 300_000, Some(100))));
    steps.push((0, flags(4, FlagMode::Add, &keyword)));
    steps.push((1, Operation::Rename(name("Work"), name("Play"))));
    for n in 20..40 {
        steps.push((n % 2, mail("INBOX", &format!("d{n}"), 1500, Some(n))));
    }
    steps.push((0, flags(2, FlagMode::Remove, &seen)));
    let expunge = Expunge {
        mailbox: 1.into(),
        uids: Some(
            [3, 4]
                .into_iter()
                .filter_map(mail_types::Uid::new)
                .collect(),
        ),
        only_deleted: false,
    };
    steps.push((0, Operation::Expunge(expunge)));
    steps.push((1, Operation::Subscribe(name("Play"), true)));
    steps.push((1, Operation::Delete(name("Play"))));
    for n in 40..44 {
        steps.push((n % 2, mail("INBOX", &format!("d{n}"), 500, Some(n))));
    }
    let steps = steps.into_iter();
    History {
        accounts: 2,
        steps: steps
            .map(|(id, change)| Step::Change(id, change))
            .chain([Step::Read(1)])
            .collect(),
        options: Options {
            segment_size: 20_000,
            journal_size: 9000,
            ..Options::default()
        },
    }
}

#[test]
fn the_power_goes_at_each_write() {
    let history = history();
    history.ends_anywhere(Fault::Off, history.template().path(), 13);
}

#[test]
fn the_power_goes_while_accounts_are_made() {
    history().ends_anywhere(Fault::Off, tempfile::tempdir().unwrap().path(), 17);
}

#[test]
fn a_failed_sync_ends_everything() {
    history().ends_with_a_failed_sync(5);
}

#[test]
fn a_write_fails() {
    history().goes_on(Fault::Fail, 13);
}

#[test]
fn a_write_is_torn() {
    history().goes_on(Fault::Tear, 17);
}

#[test]
fn the_disk_is_full_at_each_write() {
    history().goes_on(Fault::Full, 13);
}

#[test]
fn a_delivery_that_was_refused_is_there_once_when_it_comes_again() {
    let once = mail("INBOX", "once", 500, Some(5));
    let history = History {
        steps: vec![Step::Change(0, once.clone())],
        ..history()
    };
    let template = history.template();
    for at in 0..60 {
        history.with_fault(
            at,
            Fault::Tear,
            template.path(),
            |disk, store, failed, _| {
                disk.mend();
                let account = account(&store, 0);
                let again: Result<Applied, ApplyError> = account.apply(once.clone(), NOW).unwrap();
                let again = again.unwrap();
                if failed.is_none() {
                    assert_eq!(again, Applied::DeliveredBefore);
                }
                assert_eq!(list(&account, 1.into()).len(), 1, "at {at}");
            },
        );
    }
}
