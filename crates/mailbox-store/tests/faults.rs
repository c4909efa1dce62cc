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

use std::path::Path;
use std::sync::Arc;

use common::{NOW, account, assert_sound, copy, list, mail, name, open};
use disk::{Fault, FaultyDisk};
use mail_types::{AccountId, SystemFlag};
use mailbox_store::{
    Account, Applied, ApplyError, CopyMail, Expunge, FlagChange, FlagMode, FlagNames, MailStore,
    Operation, Options, StoreError,
};

const ACCOUNTS: u64 = 2;

/// Names, UIDs, contents and flags, of all accounts.
type Contents = Vec<(String, Vec<(u32, String, u64)>)>;

fn contents(store: &MailStore) -> Contents {
    let mut found = Vec::new();
    for id in 0..ACCOUNTS {
        let account = account(store, id);
        assert_sound(&account);
        for mailbox in account.mailboxes() {
            let name = format!("{id} {}", mailbox.name);
            found.push((name, list(&account, mailbox.id)));
        }
    }
    found
}

/// A change, to an account.
type Step = (u64, Operation);

/// Everything that changes something, more than once, in two accounts.
fn steps() -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
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
    steps
}

/// What the store has after each number of steps, without any fault.
fn expected(steps: &[Step]) -> Vec<Contents> {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut states = vec![contents(&store)];
    for (id, operation) in steps {
        account(&store, *id)
            .apply(operation.clone(), NOW)
            .unwrap()
            .unwrap();
        states.push(contents(&store));
    }
    states
}

/// Accounts that are there already: what is durable of them is certain.
fn template() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    contents(&store);
    drop(store);
    folder
}

fn options(disk: &FaultyDisk) -> Options {
    Options {
        segment_size: 20_000,
        journal_size: 9000,
        disk: Arc::new(disk.clone()),
        ..Options::default()
    }
}

/// Which step failed, and how; `None` if all are done.
type Failed = Option<(usize, Arc<StoreError>)>;

fn run(store: &MailStore, steps: &[Step], from: usize) -> Failed {
    for (at, (id, operation)) in steps.iter().enumerate().skip(from) {
        let opened = store.account(AccountId::from(*id), NOW).map_err(Arc::new);
        let outcome =
            opened.and_then(|account: Arc<Account>| account.apply(operation.clone(), NOW));
        match outcome {
            Err(error) => return Some((at, error)),
            Ok(Ok(_)) => {}
            Ok(Err(refused)) => panic!("step {at}: {refused:?}"),
        }
    }
    None
}

/// Runs all steps with one fault; what is left is looked at by `then`.
fn with_fault(
    at: usize,
    fault: Fault,
    template: &Path,
    steps: &[Step],
    then: impl FnOnce(&FaultyDisk, MailStore, Failed, &Path),
) -> bool {
    let folder = tempfile::tempdir().unwrap();
    copy(template, folder.path());
    let disk = FaultyDisk::new(folder.path());
    let store = MailStore::open(folder.path().to_owned(), options(&disk)).unwrap();
    disk.set_fault(at, fault);
    let failed = run(&store, steps, 0);
    let happened = disk.has_happened();
    then(&disk, store, failed, folder.path());
    happened
}

/// All places if `CORREO_ALL_FAULTS` is set, else one in so many.
fn stride(usual: usize) -> usize {
    if std::env::var_os("CORREO_ALL_FAULTS").is_some() {
        1
    } else {
        usual
    }
}

/// A process that ended at any moment, and then the power.
fn ends_anywhere(fault: Fault, template: &Path, usual: usize) {
    let steps = steps();
    let states = expected(&steps);
    let (mut at, mut places) = (0, 0);
    loop {
        let happened = with_fault(
            at,
            fault,
            template,
            &steps,
            |disk, store, failed, folder| {
                // What is done in the background may be what fails.
                let done = failed.as_ref().map_or(steps.len(), |(done, _)| *done);
                disk.turn_off();
                drop(store);
                for seed in 0..3 {
                    let target = tempfile::tempdir().unwrap();
                    if seed == 0 {
                        copy(folder, target.path());
                    } else {
                        disk.after_power_failure(target.path(), at as u64 * 7919 + seed);
                    }
                    let store = open(target.path());
                    let found = contents(&store);
                    let is_right = found == states[done] || states.get(done + 1) == Some(&found);
                    assert!(
                        is_right,
                        "{fault:?} at {at}, seed {seed}, after {done} steps ({failed:?}):\n{}",
                        difference(&states[done], &found)
                    );
                    // And it works.
                    if let Some((from, _)) = &failed {
                        let from = from + usize::from(found != states[done]);
                        assert!(run(&store, &steps, from).is_none());
                        assert_eq!(contents(&store), states[steps.len()]);
                    }
                }
            },
        );
        places += 1;
        if !happened {
            break;
        }
        at += stride(usual);
    }
    assert!(places > 20, "only {places}");
}

fn difference(wanted: &Contents, found: &Contents) -> String {
    let short = |all: &Contents| -> Vec<String> {
        let line = |(name, messages): &(String, Vec<(u32, String, u64)>)| {
            let messages = messages.iter().map(|(uid, text, flags)| {
                let subject = text.lines().next().unwrap_or("damaged").to_owned();
                (*uid, subject, *flags)
            });
            format!("{name}: {:?}", messages.collect::<Vec<_>>())
        };
        all.iter().map(line).collect()
    };
    let (wanted, found) = (short(wanted), short(found));
    let lines = wanted.iter().filter(|line| !found.contains(line));
    let others = found.iter().filter(|line| !wanted.contains(line));
    format!(
        "wanted {lines:#?}\nfound {others:#?}",
        lines = lines.collect::<Vec<_>>(),
        others = others.collect::<Vec<_>>()
    )
}

#[test]
fn the_power_goes_at_each_write() {
    ends_anywhere(Fault::Off, template().path(), 13);
}

#[test]
fn the_power_goes_while_accounts_are_made() {
    ends_anywhere(Fault::Off, tempfile::tempdir().unwrap().path(), 17);
}

#[test]
fn a_failed_sync_ends_everything() {
    let steps = steps();
    let template = template();
    let mut fatal = 0;
    for at in (0..).step_by(stride(5)) {
        let happened = with_fault(
            at,
            Fault::Sync,
            template.path(),
            &steps,
            |_, store, failed, _| {
                let Some((step, error)) = failed else {
                    return;
                };
                // If it failed behind the scenes the account is closed, and the next one tells.
                let again = run(&store, &steps, step);
                let is_told = again.as_ref().is_some_and(|(_, again)| again.is_fatal());
                assert!(error.is_fatal() || is_told, "sync {at}: {error}, {again:?}");
                fatal += 1;
                // Nothing is acknowledged any more, in no account.
                for id in 0..ACCOUNTS {
                    let steps = [(id, mail("INBOX", "late", 100, Some(9999)))];
                    assert!(run(&store, &steps, 0).is_some(), "sync {at}, step {step}");
                }
            },
        );
        if !happened {
            break;
        }
    }
    assert!(fatal > 5, "only {fatal}");
    ends_anywhere(Fault::Sync, template.path(), 11);
}

/// A write fails, and the process goes on.
fn goes_on(fault: Fault, usual: usize) {
    let steps = steps();
    let states = expected(&steps);
    let template = template();
    for at in (0..).step_by(stride(usual)) {
        let happened = with_fault(
            at,
            fault,
            template.path(),
            &steps,
            |disk, store, failed, folder| {
                if let Some((done, error)) = &failed {
                    assert!(!error.is_fatal(), "{fault:?} at {at}: {error}");
                    // More of it, while the disk is as it is.
                    if fault == Fault::Full {
                        assert!(run(&store, &steps, *done).is_some());
                    }
                    disk.mend();
                    let found = contents(&store);
                    let is_right = found == states[*done] || states.get(done + 1) == Some(&found);
                    let wrong = difference(&states[*done], &found);
                    assert!(
                        is_right,
                        "{fault:?} at {at}, step {done}, {error}:\n{wrong}"
                    );
                    let from = done + usize::from(found != states[*done]);
                    let again = run(&store, &steps, from);
                    assert!(again.is_none(), "{fault:?} at {at}: {again:?}");
                }
                disk.mend();
                let wanted = &states[steps.len()];
                let found = contents(&store);
                let wrong = difference(wanted, &found);
                assert!(&found == wanted, "{fault:?} at {at}, {failed:?}:\n{wrong}");
                disk.turn_off();
                drop(store);
                for seed in 0..2 {
                    let target = tempfile::tempdir().unwrap();
                    if seed == 0 {
                        copy(folder, target.path());
                    } else {
                        disk.after_power_failure(target.path(), at as u64 * 7919 + seed);
                    }
                    let found = contents(&open(target.path()));
                    let wrong = difference(wanted, &found);
                    assert!(
                        &found == wanted,
                        "{fault:?} at {at}, later, {failed:?}:\n{wrong}"
                    );
                }
            },
        );
        if !happened {
            break;
        }
    }
}

#[test]
fn a_write_fails() {
    goes_on(Fault::Fail, 13);
}

#[test]
fn a_write_is_torn() {
    goes_on(Fault::Tear, 17);
}

#[test]
fn the_disk_is_full_at_each_write() {
    goes_on(Fault::Full, 13);
}

#[test]
fn a_delivery_that_was_refused_is_there_once_when_it_comes_again() {
    let template = template();
    let steps = [(0, mail("INBOX", "once", 500, Some(5)))];
    for at in 0..60 {
        with_fault(
            at,
            Fault::Tear,
            template.path(),
            &steps,
            |disk, store, failed, _| {
                disk.mend();
                let account = account(&store, 0);
                let again: Result<Applied, ApplyError> =
                    account.apply(steps[0].1.clone(), NOW).unwrap();
                let again = again.unwrap();
                if failed.is_none() {
                    assert_eq!(again, Applied::DeliveredBefore);
                }
                assert_eq!(list(&account, 1.into()).len(), 1, "at {at}");
            },
        );
    }
}
