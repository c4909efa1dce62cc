//! Mail for many accounts at once: one sync makes all of it durable.

use std::collections::BTreeMap;
use std::sync::Arc;

use mail_types::AccountId;

use crate::account::{Account, Outcome, Staged};
use crate::journal::Waiting;
use crate::{Deliver, MailStore, Operation, StoreError};

/// A message for a mailbox of an account.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Whose.
    pub account: AccountId,
    /// What.
    pub deliver: Box<Deliver>,
}

/// What one account gets, by its place in the list.
struct Share {
    account: Arc<Account>,
    places: Vec<usize>,
}

impl MailStore {
    /// Delivers to all of them, durably when this returns, and answers in their order. Those for one
    /// account get their UIDs in that order too. `now` is Unix time in seconds.
    pub fn deliver(&self, deliveries: &[Delivery], now: i64) -> Vec<Outcome> {
        self.shared.journal.wait_for_room();
        let mut outcomes: Vec<Option<Outcome>> = vec![None; deliveries.len()];
        let shares = self.shares(deliveries, &mut outcomes, now);
        let mut staged = Vec::with_capacity(shares.len());
        // In the order of accounts, so that nobody waits for a turn that waits for theirs.
        for share in &shares {
            let mails: Vec<&Deliver> = deliver_of(deliveries, share).collect();
            if let Ok(Some(one)) = share.account.stage(&mails, now) {
                staged.push((share, one));
            }
        }
        self.append(staged, &mut outcomes);
        for share in &shares {
            share.account.limit_own_pending();
            deliver_alone(deliveries, share, &mut outcomes, now);
        }
        let lost = || Err(Arc::new(StoreError::Engine("no outcome".to_owned())));
        let told = outcomes.into_iter();
        told.map(|outcome| outcome.unwrap_or_else(lost)).collect()
    }

    fn shares(
        &self,
        deliveries: &[Delivery],
        outcomes: &mut [Option<Outcome>],
        now: i64,
    ) -> Vec<Share> {
        let mut places: BTreeMap<AccountId, Vec<usize>> = BTreeMap::new();
        for (at, delivery) in deliveries.iter().enumerate() {
            places.entry(delivery.account).or_default().push(at);
        }
        let mut shares = Vec::with_capacity(places.len());
        for (id, places) in places {
            match self.account(id, now) {
                Ok(account) => shares.push(Share { account, places }),
                Err(error) => {
                    let error = Arc::new(error);
                    for at in places {
                        set(outcomes, at, Err(error.clone()));
                    }
                }
            }
        }
        shares
    }

    /// Into the journal. If that fails they have no outcome yet.
    fn append(&self, staged: Vec<(&Share, Staged<'_>)>, outcomes: &mut [Option<Outcome>]) {
        let waiting = staged.iter().map(|(share, one)| Waiting {
            account: share.account.id(),
            records: one.records(),
        });
        let Ok(marks) = self.shared.journal.append(waiting.collect()) else {
            return;
        };
        for ((share, one), mark) in staged.into_iter().zip(marks) {
            for (at, told) in share.places.iter().zip(one.publish(mark)) {
                set(outcomes, *at, Ok(told));
            }
        }
    }
}

/// What has no outcome yet: it is not for the journal, or the journal does not take it all.
fn deliver_alone(
    deliveries: &[Delivery],
    share: &Share,
    outcomes: &mut [Option<Outcome>],
    now: i64,
) {
    let is_open = |at: &usize| outcomes.get(*at).is_some_and(Option::is_none);
    let open: Vec<usize> = share.places.iter().copied().filter(is_open).collect();
    if open.is_empty() {
        return;
    }
    let operations = open.iter().filter_map(|at| deliveries.get(*at));
    let operations = operations.map(|one| Operation::Deliver(one.deliver.clone()));
    let told = share.account.apply_all(operations.collect(), now);
    for (at, told) in open.into_iter().zip(told) {
        set(outcomes, at, told);
    }
}

fn deliver_of<'a>(
    deliveries: &'a [Delivery],
    share: &'a Share,
) -> impl Iterator<Item = &'a Deliver> {
    let mine = share.places.iter().filter_map(|at| deliveries.get(*at));
    mine.map(|delivery| &*delivery.deliver)
}

fn set(outcomes: &mut [Option<Outcome>], at: usize, outcome: Outcome) {
    if let Some(place) = outcomes.get_mut(at) {
        *place = Some(outcome);
    }
}
