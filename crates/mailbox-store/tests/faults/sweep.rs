//! Runs a history with a fault at each place, one after the other, and compares what is left with
//! what the same history leaves without.

use std::path::Path;
use std::sync::Arc;

use crate::common::{NOW, account, assert_sound, copy, list, open};
use crate::disk::{Fault, FaultyDisk};
use mail_types::AccountId;
use mailbox_store::{Account, MailStore, Operation, Options, StoreError, Target};

/// A mailbox: its name, UIDNEXT and HIGHESTMODSEQ, and UIDs, contents and flags of its messages.
type Mailbox = (String, u32, u64, Vec<(u32, String, u64)>);

/// What all accounts have.
pub type Contents = Vec<Mailbox>;

#[derive(Debug, Clone)]
pub enum Step {
    /// Changes an account.
    Change(u64, Operation),
    /// Reads all of an account, so that its index is opened and others are closed.
    Read(u64),
}

/// Steps, and what they are done with.
#[derive(Debug, Clone)]
pub struct History {
    pub accounts: u64,
    pub steps: Vec<Step>,
    pub options: Options,
}

impl History {
    fn options(&self, disk: &FaultyDisk) -> Options {
        Options {
            disk: Arc::new(disk.clone()),
            ..self.options.clone()
        }
    }

    fn contents(&self, store: &MailStore) -> Contents {
        let mut found = Vec::new();
        for id in 0..self.accounts {
            let account = account(store, id);
            assert_sound(&account);
            for mailbox in account.mailboxes() {
                let status = account.status(&Target::Id(mailbox.id)).unwrap();
                found.push((
                    format!("{id} {}", mailbox.name),
                    status.uid_next,
                    status.highest_modseq,
                    list(&account, mailbox.id),
                ));
            }
        }
        found
    }

    /// What the store has after each number of steps, without any fault.
    fn expected(&self) -> Vec<Contents> {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let mut states = vec![self.contents(&store)];
        for step in &self.steps {
            match step {
                Step::Change(id, operation) => {
                    let told = account(&store, *id).apply(operation.clone(), NOW);
                    told.unwrap().unwrap();
                    states.push(self.contents(&store));
                }
                Step::Read(_) => states.push(states.last().unwrap().clone()),
            }
        }
        states
    }

    /// Accounts that are there already: what is durable of them is certain.
    pub fn template(&self) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        self.contents(&store);
        drop(store);
        folder
    }

    /// Does the steps from one on, until one fails.
    pub fn run(&self, store: &MailStore, from: usize) -> Failed {
        for (at, step) in self.steps.iter().enumerate().skip(from) {
            let outcome = match step {
                Step::Change(id, operation) => change(store, *id, operation),
                Step::Read(id) => {
                    read(store, *id);
                    continue;
                }
            };
            match outcome {
                Err(error) => return Some((at, error)),
                Ok(Ok(_)) => {}
                Ok(Err(refused)) => panic!("step {at}: {refused:?}"),
            }
        }
        None
    }

    /// Runs all steps with one fault; what is left is looked at by `then`.
    pub fn with_fault(
        &self,
        at: usize,
        fault: Fault,
        template: &Path,
        then: impl FnOnce(&FaultyDisk, MailStore, Failed, &Path),
    ) -> bool {
        let folder = tempfile::tempdir().unwrap();
        copy(template, folder.path());
        let disk = FaultyDisk::new(folder.path());
        let store = MailStore::open(folder.path().to_owned(), self.options(&disk)).unwrap();
        disk.set_fault(at, fault);
        let failed = self.run(&store, 0);
        let happened = disk.has_happened();
        then(&disk, store, failed, folder.path());
        happened
    }

    /// A process that ended at any moment, and then the power.
    pub fn ends_anywhere(&self, fault: Fault, template: &Path, usual: usize) {
        let states = self.expected();
        let (mut at, mut places) = (0, 0);
        loop {
            let happened = self.with_fault(at, fault, template, |disk, store, failed, folder| {
                // What is done in the background may be what fails.
                let done = failed.as_ref().map_or(self.steps.len(), |(done, _)| *done);
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
                    let found = self.contents(&store);
                    let is_right = found == states[done] || states.get(done + 1) == Some(&found);
                    assert!(
                        is_right,
                        "{fault:?} at {at}, seed {seed}, after {done} steps ({failed:?}):\n{}",
                        difference(&states[done], &found)
                    );
                    // And it works.
                    if let Some((from, _)) = &failed {
                        let from = from + usize::from(found != states[done]);
                        assert!(self.run(&store, from).is_none());
                        assert_eq!(self.contents(&store), states[self.steps.len()]);
                    }
                }
            });
            places += 1;
            if !happened {
                break;
            }
            at += stride(usual);
        }
        assert!(places > 10, "only {places}");
    }

    /// A write fails, and the process goes on.
    pub fn goes_on(&self, fault: Fault, usual: usize) {
        let states = self.expected();
        let template = self.template();
        for at in (0..).step_by(stride(usual)) {
            let happened =
                self.with_fault(at, fault, template.path(), |disk, store, failed, folder| {
                    self.look_while_it_goes_on(&states, (at, fault), disk, &store, &failed);
                    let wanted = &states[self.steps.len()];
                    disk.turn_off();
                    drop(store);
                    for seed in 0..2 {
                        let target = tempfile::tempdir().unwrap();
                        if seed == 0 {
                            copy(folder, target.path());
                        } else {
                            disk.after_power_failure(target.path(), at as u64 * 7919 + seed);
                        }
                        let found = self.contents(&open(target.path()));
                        let wrong = difference(wanted, &found);
                        assert!(
                            &found == wanted,
                            "{fault:?} at {at}, later, {failed:?}:\n{wrong}"
                        );
                    }
                });
            if !happened {
                break;
            }
        }
    }

    fn look_while_it_goes_on(
        &self,
        states: &[Contents],
        (at, fault): (usize, Fault),
        disk: &FaultyDisk,
        store: &MailStore,
        failed: &Failed,
    ) {
        if let Some((done, error)) = failed {
            assert!(!error.is_fatal(), "{fault:?} at {at}: {error}");
            // More of it, while the disk is as it is.
            if fault == Fault::Full {
                assert!(self.run(store, *done).is_some());
            }
            disk.mend();
            let found = self.contents(store);
            let is_right = found == states[*done] || states.get(done + 1) == Some(&found);
            let wrong = difference(&states[*done], &found);
            assert!(
                is_right,
                "{fault:?} at {at}, step {done}, {error}:\n{wrong}"
            );
            let from = done + usize::from(found != states[*done]);
            let again = self.run(store, from);
            assert!(again.is_none(), "{fault:?} at {at}: {again:?}");
        }
        disk.mend();
        let wanted = &states[self.steps.len()];
        let found = self.contents(store);
        let wrong = difference(wanted, &found);
        assert!(&found == wanted, "{fault:?} at {at}, {failed:?}:\n{wrong}");
    }

    /// Once a sync has failed nothing is acknowledged any more, in no account.
    pub fn ends_with_a_failed_sync(&self, usual: usize) {
        let template = self.template();
        let mut fatal = 0;
        for at in (0..).step_by(stride(usual)) {
            let happened =
                self.with_fault(at, Fault::Sync, template.path(), |_, store, failed, _| {
                    let Some((step, error)) = failed else {
                        return;
                    };
                    // If it failed behind the scenes the account is closed, and the next one tells.
                    let again = self.run(&store, step);
                    let is_told = again.as_ref().is_some_and(|(_, again)| again.is_fatal());
                    assert!(error.is_fatal() || is_told, "sync {at}: {error}, {again:?}");
                    fatal += 1;
                    for id in 0..self.accounts {
                        let late = crate::common::mail("INBOX", "late", 100, Some(9999));
                        assert!(change(&store, id, &late).is_err(), "sync {at}, step {step}");
                    }
                });
            if !happened {
                break;
            }
        }
        assert!(fatal > 3, "only {fatal}");
        self.ends_anywhere(Fault::Sync, template.path(), 2 * usual + 1);
    }
}

/// Which step failed, and how; `None` if all are done.
pub type Failed = Option<(usize, Arc<StoreError>)>;

type Outcome = Result<Result<mailbox_store::Applied, mailbox_store::ApplyError>, Arc<StoreError>>;

fn change(store: &MailStore, id: u64, operation: &Operation) -> Outcome {
    let opened = store.account(AccountId::from(id), NOW).map_err(Arc::new);
    opened.and_then(|account: Arc<Account>| account.apply(operation.clone(), NOW))
}

/// Whether it can be read is not the question while the disk fails.
fn read(store: &MailStore, id: u64) {
    if let Ok(account) = store.account(AccountId::from(id), NOW) {
        let _ = account.read_messages(1.into(), &crate::common::all(), true, |_| true);
    }
}

/// All places if `CORREO_ALL_FAULTS` is set, else one in so many.
fn stride(usual: usize) -> usize {
    if std::env::var_os("CORREO_ALL_FAULTS").is_some() {
        1
    } else {
        usual
    }
}

fn difference(wanted: &Contents, found: &Contents) -> String {
    let short = |all: &Contents| -> Vec<String> {
        let line = |(name, uid_next, modseq, messages): &Mailbox| {
            let messages = messages.iter().map(|(uid, text, flags)| {
                let subject = text.lines().next().unwrap_or("damaged").to_owned();
                (*uid, subject, *flags)
            });
            let messages: Vec<_> = messages.collect();
            format!("{name}, next {uid_next}, {modseq}: {messages:?}")
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
