//! The store against a simple model: random operations, with reopening and crashes between them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are not seen as tests"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use common::{NOW, assert_sound, copy, list, mail, name, open, text};
use mail_types::{Flags, SystemFlag, UidSet};
use mailbox_store::{
    Account, Applied, ApplyError, CopyMail, Expunge, FlagChange, FlagMode, FlagNames, MailStore,
    Operation, SpecialUse, Target,
};
use proptest::prelude::*;
use tempfile::TempDir;

const NAMES: [&str; 4] = ["INBOX", "Archive", "a", "a/b"];

#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    Copy(usize, usize, BTreeSet<u32>, bool),
    Crash,
    Create(usize),
    Delete(usize),
    Deliver(usize, u64),
    Expunge(usize, BTreeSet<u32>),
    Flag(usize, BTreeSet<u32>, bool),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let uids = || prop::collection::btree_set(1..12_u32, 0..6);
    let place = || 0..NAMES.len();
    let step = prop_oneof![
        2 => place().prop_map(Step::Append),
        2 => (place(), place(), uids(), any::<bool>()).prop_map(|(a, b, c, d)| Step::Copy(a, b, c, d)),
        1 => Just(Step::Crash),
        1 => place().prop_map(Step::Create),
        1 => place().prop_map(Step::Delete),
        6 => (place(), 0..15_u64).prop_map(|(a, b)| Step::Deliver(a, b)),
        1 => (place(), uids()).prop_map(|(a, b)| Step::Expunge(a, b)),
        2 => (place(), uids(), any::<bool>()).prop_map(|(a, b, c)| Step::Flag(a, b, c)),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..40)
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct ModelMailbox {
    uid_next: u32,
    messages: BTreeMap<u32, (String, u64)>,
}

/// Mailboxes by name, and the keys that came.
#[derive(Debug, Default)]
struct Model {
    mailboxes: BTreeMap<&'static str, ModelMailbox>,
    keys: BTreeSet<u64>,
    appended: u64,
}

impl Model {
    fn put(&mut self, at: usize, text: String, flags: u64) -> Option<u32> {
        let mailbox = self.mailboxes.get_mut(NAMES[at])?;
        let uid = mailbox.uid_next;
        mailbox.uid_next += 1;
        mailbox.messages.insert(uid, (text, flags));
        Some(uid)
    }
}

struct Rig {
    folder: TempDir,
    /// Dropped before the folder and before another store opens it.
    open: Option<(Arc<Account>, MailStore)>,
    model: Model,
}

impl Rig {
    fn new() -> Self {
        let mut model = Model::default();
        for name in ["INBOX", "Archive"] {
            let empty = ModelMailbox {
                uid_next: 1,
                ..ModelMailbox::default()
            };
            model.mailboxes.insert(name, empty);
        }
        let mut rig = Self {
            folder: tempfile::tempdir().unwrap(),
            open: None,
            model,
        };
        rig.reopen();
        rig
    }

    fn reopen(&mut self) {
        self.open = None;
        let store = open(self.folder.path());
        let account = common::account(&store, 7);
        self.open = Some((account, store));
    }

    /// Goes on with the files as a killed process would have left them.
    fn crash(&mut self) {
        let crashed = tempfile::tempdir().unwrap();
        copy(self.folder.path(), crashed.path());
        self.open = None;
        self.folder = crashed;
        self.reopen();
    }

    fn account(&self) -> &Account {
        &self.open.as_ref().unwrap().0
    }

    fn apply(&self, operation: Operation) -> Result<Applied, ApplyError> {
        self.account().apply(operation, NOW).unwrap()
    }

    fn id(&self, at: usize) -> Option<mail_types::MailboxId> {
        let target = Target::Name(name(NAMES[at]));
        self.account().status(&target).map(|status| status.id)
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Append(at) => {
                self.model.appended += 1;
                let subject = format!("a{}", self.model.appended);
                let told = self.apply(mail(NAMES[*at], &subject, 200, None));
                let wanted = self.model.put(*at, text(&subject, 200), 0);
                assert_eq!(uid_of(told), wanted);
            }
            Step::Copy(from, to, uids, remove) => self.copy(*from, *to, uids, *remove),
            Step::Crash => self.crash(),
            Step::Create(at) => {
                let told = self.apply(Operation::Create(name(NAMES[*at]), SpecialUse::None));
                let is_new = !self.model.mailboxes.contains_key(NAMES[*at]);
                assert_eq!(told.is_ok(), is_new);
                let empty = ModelMailbox {
                    uid_next: 1,
                    ..ModelMailbox::default()
                };
                self.model.mailboxes.entry(NAMES[*at]).or_insert(empty);
            }
            Step::Delete(at) => {
                let told = self.apply(Operation::Delete(name(NAMES[*at])));
                let goes = *at != 0 && self.model.mailboxes.remove(NAMES[*at]).is_some();
                assert_eq!(told.is_ok(), goes);
            }
            Step::Deliver(at, key) => {
                let subject = format!("d{key}");
                let told = self.apply(mail(NAMES[*at], &subject, 200, Some(*key)));
                if self.model.keys.contains(key) {
                    assert_eq!(told, Ok(Applied::DeliveredBefore));
                    return;
                }
                let wanted = self.model.put(*at, text(&subject, 200), 0);
                if wanted.is_some() {
                    self.model.keys.insert(*key);
                }
                assert_eq!(uid_of(told), wanted);
            }
            Step::Expunge(at, uids) => {
                let Some(mailbox) = self.id(*at) else { return };
                let expunge = Expunge {
                    mailbox,
                    uids: Some(uid_set(uids)),
                    only_deleted: true,
                };
                self.apply(Operation::Expunge(expunge)).unwrap();
                let deleted = Flags::from(SystemFlag::Deleted).bits();
                let model = self.model.mailboxes.get_mut(NAMES[*at]).unwrap();
                model
                    .messages
                    .retain(|uid, (_, flags)| !uids.contains(uid) || *flags & deleted == 0);
            }
            Step::Flag(at, uids, add) => self.flag(*at, uids, *add),
            Step::Reopen => self.reopen(),
        }
    }

    fn copy(&mut self, from: usize, to: usize, uids: &BTreeSet<u32>, remove: bool) {
        let (Some(mailbox), Some(_)) = (self.id(from), self.id(to)) else {
            return;
        };
        let copy = CopyMail {
            mailbox,
            uids: uid_set(uids),
            target: name(NAMES[to]),
            remove,
            quota: 0,
        };
        self.apply(Operation::Copy(copy)).unwrap();
        let source = &self.model.mailboxes[NAMES[from]].messages;
        let there: Vec<_> = source
            .iter()
            .filter(|(uid, _)| uids.contains(uid))
            .map(|(uid, message)| (*uid, message.clone()))
            .collect();
        for (uid, (text, flags)) in there {
            self.model.put(to, text, flags).unwrap();
            if remove {
                let source = self.model.mailboxes.get_mut(NAMES[from]).unwrap();
                source.messages.remove(&uid);
            }
        }
    }

    fn flag(&mut self, at: usize, uids: &BTreeSet<u32>, add: bool) {
        let Some(mailbox) = self.id(at) else { return };
        let system = Flags::from(SystemFlag::Deleted) | SystemFlag::Seen.into();
        let change = FlagChange {
            mailbox,
            uids: uid_set(uids),
            mode: if add { FlagMode::Add } else { FlagMode::Remove },
            flags: FlagNames {
                system,
                keywords: Vec::new(),
            },
            unchanged_since: None,
        };
        self.apply(Operation::Flags(change)).unwrap();
        let model = self.model.mailboxes.get_mut(NAMES[at]).unwrap();
        for (uid, (_, flags)) in &mut model.messages {
            if uids.contains(uid) {
                *flags = if add { system.bits() } else { 0 };
            }
        }
    }

    fn compare(&self) {
        for (at, text) in NAMES.iter().enumerate() {
            let id = self.id(at);
            let model = self.model.mailboxes.get(text);
            assert_eq!(id.is_some(), model.is_some(), "{text}");
            let (Some(id), Some(model)) = (id, model) else {
                continue;
            };
            let messages = list(self.account(), id).into_iter();
            let messages: BTreeMap<_, _> = messages
                .map(|(uid, text, flags)| (uid, (text, flags)))
                .collect();
            assert_eq!(messages, model.messages);
            let status = self.account().status(&Target::Id(id)).unwrap();
            assert_eq!(status.uid_next, model.uid_next);
        }
        assert_sound(self.account());
    }
}

fn uid_of(told: Result<Applied, ApplyError>) -> Option<u32> {
    match told {
        Ok(Applied::Delivered { uid, .. }) => Some(uid.get()),
        Err(ApplyError::NoSuchMailbox) => None,
        other => panic!("{other:?}"),
    }
}

fn uid_set(uids: &BTreeSet<u32>) -> UidSet {
    uids.iter()
        .filter_map(|uid| mail_types::Uid::new(*uid))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn equals_a_model(steps in steps()) {
        let mut rig = Rig::new();
        for step in &steps {
            rig.step(step);
        }
        rig.compare();
        rig.crash();
        rig.compare();
        rig.reopen();
        rig.compare();
    }
}
