//! The same for histories of several accounts of which one index stays open: mail and changes of all
//! are in one journal, whose files go while most indexes are closed, and behind the scenes indexes are
//! opened, brought up to date and closed. Which of these the fault meets is left to chance; the
//! histories follow from seeds.

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

use std::num::NonZeroUsize;

use common::{mail, name};
use disk::{Chance, Fault};
use mail_types::{SystemFlag, Uid, UidSet};
use mailbox_store::{CopyMail, Expunge, FlagChange, FlagMode, FlagNames, Operation, Options};
use sweep::{History, Step};

const ACCOUNTS: u64 = 4;
const STEPS: u64 = 70;

fn some(chance: &mut Chance) -> UidSet {
    let low = 1 + chance.below(8) as u32;
    let high = low + chance.below(3) as u32;
    (low..=high).filter_map(Uid::new).collect()
}

fn change(chance: &mut Chance, number: u64) -> Operation {
    let mailbox = 1.into();
    match chance.below(10) {
        0..4 => mail(
            "INBOX",
            &format!("d{number}"),
            300 + 50 * number as usize,
            Some(number),
        ),
        // The queue's ids do not always rise.
        4 => mail("INBOX", &format!("late{number}"), 200, Some(1000 - number)),
        5 | 6 => Operation::Flags(FlagChange {
            mailbox,
            uids: some(chance),
            mode: if chance.below(3) == 0 {
                FlagMode::Replace
            } else {
                FlagMode::Add
            },
            flags: FlagNames {
                system: [SystemFlag::Seen, SystemFlag::Deleted][chance.below(2) as usize].into(),
                keywords: vec![format!("$k{}", chance.below(3))],
            },
            unchanged_since: None,
        }),
        7 | 8 => Operation::Copy(CopyMail {
            mailbox,
            uids: some(chance),
            target: name(["Archive", "INBOX"][chance.below(2) as usize]),
            remove: chance.below(2) == 0,
            quota: 0,
        }),
        _ => Operation::Expunge(Expunge {
            mailbox,
            uids: (chance.below(2) == 0).then(|| some(chance)),
            only_deleted: chance.below(3) > 0,
        }),
    }
}

fn history(seed: u64) -> History {
    let mut chance = Chance(seed | 1);
    let mut steps = Vec::new();
    for number in 0..STEPS {
        let id = chance.below(ACCOUNTS);
        steps.push(Step::Change(id, change(&mut chance, number)));
        if chance.below(4) == 0 {
            steps.push(Step::Read(chance.below(ACCOUNTS)));
        }
    }
    History {
        accounts: ACCOUNTS,
        steps,
        options: Options {
            segment_size: 6000,
            journal_size: 5000,
            open_accounts: NonZeroUsize::MIN,
            ..Options::default()
        },
    }
}

#[test]
fn the_power_goes() {
    let history = history(11);
    history.ends_anywhere(Fault::Off, history.template().path(), 47);
}

#[test]
fn a_sync_fails() {
    history(21).ends_with_a_failed_sync(37);
}

#[test]
fn a_write_fails() {
    history(31).goes_on(Fault::Fail, 61);
}

#[test]
fn a_write_is_torn() {
    history(41).goes_on(Fault::Tear, 61);
}

#[test]
fn the_disk_is_full() {
    history(51).goes_on(Fault::Full, 61);
}

/// Memory for what waits is so small that all of it goes into the indexes at once.
#[test]
fn the_power_goes_while_room_is_made() {
    let history = history(61);
    let options = Options {
        pending: 10_000,
        ..history.options.clone()
    };
    let history = History { options, ..history };
    history.ends_anywhere(Fault::Off, history.template().path(), 67);
}
