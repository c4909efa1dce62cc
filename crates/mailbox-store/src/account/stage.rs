//! Mail gets its UID in memory; once the journal has it, it counts.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, MutexGuard};

use bytes::Bytes;

use super::{Account, State, lock};
use crate::error::caught;
use crate::journal::Mark;
use crate::schema::DELIVERIES;
use crate::write::{Admitted, Mail};
use crate::{Applied, ApplyError, Change, Deliver, DeliveryKey, StoreError};

/// Octets of one message from which on it is synced itself: the journal would write it twice.
const JOURNAL_MAX: u64 = 256 * 1024;
/// Octets of an account's mail for which the journal alone answers; then its own files are synced.
pub(super) const LAZY_MAX: u64 = 16 * 1024 * 1024;
/// Octets of an account's mail that wait in memory for its index; then it gets them.
pub(crate) const PENDING_MAX: usize = 1024 * 1024;
/// And at most, while others open the index.
const PENDING_LIMIT: usize = 8 * PENDING_MAX;

/// Messages that have their places and are not durable yet. Nobody else decides anything for the
/// account meanwhile.
pub(crate) struct Staged<'a> {
    account: &'a Account,
    _turn: MutexGuard<'a, ()>,
    /// What it was decided on, and what it is then.
    base: Arc<State>,
    state: State,
    mails: Vec<Mail>,
    keys: HashSet<DeliveryKey>,
    told: Vec<(u64, Change)>,
    outcomes: Vec<Result<Applied, ApplyError>>,
}

impl Account {
    /// Gives messages their places; `None` if the journal may not answer for them.
    pub(crate) fn stage(
        &self,
        delivers: &[&Deliver],
        now: i64,
    ) -> Result<Option<Staged<'_>>, StoreError> {
        let turn = lock(&self.turn);
        if self.has_failed() {
            return Err(StoreError::Engine("the account was closed".to_owned()));
        }
        if !self.may_wait() || !delivers.iter().all(|deliver| is_journaled(deliver)) {
            return Ok(None);
        }
        let base = self.state();
        let mut staged = Staged {
            account: self,
            _turn: turn,
            state: State::clone(&base),
            base,
            mails: Vec::with_capacity(delivers.len()),
            keys: HashSet::new(),
            told: Vec::with_capacity(delivers.len()),
            outcomes: Vec::with_capacity(delivers.len()),
        };
        for deliver in delivers {
            staged.deliver(deliver, now)?;
        }
        Ok(Some(staged))
    }

    /// Memory that is twice as full as it should be is that of an index that takes nothing.
    fn may_wait(&self) -> bool {
        let recent = lock(&self.recent);
        let is_small = recent.octets() < PENDING_LIMIT && self.journal.fullness() < 2;
        recent.lazy() < LAZY_MAX && is_small
    }

    /// Octets of memory that wait for the index.
    pub(crate) fn pending(&self) -> usize {
        lock(&self.recent).octets()
    }

    /// Puts what waits into the index, if it is too much. The journal has it in any case.
    pub(crate) fn limit_pending(&self) {
        let at = if self.journal.fullness() > 0 {
            1
        } else {
            PENDING_MAX
        };
        self.limit_pending_to(at);
    }

    /// The same if it is too much for one account and the index is open. Else it is others' to take
    /// away, as is too much of all accounts: who delivers opens no index.
    pub(crate) fn limit_own_pending(&self) {
        if self.pending() < PENDING_MAX {
            return;
        }
        if self.index.is_at_rest() {
            self.journal.tell();
        } else {
            self.limit_pending_to(PENDING_MAX);
        }
    }

    fn limit_pending_to(&self, octets: usize) {
        if self.pending() >= octets {
            let mut writer = lock(&self.writer);
            if let Err(error) = self.catch_up(&mut writer) {
                tracing::warn!(account = %self.id, %error, "mail waits for its index");
            }
        }
    }

    fn is_in_index(&self, key: DeliveryKey) -> Result<bool, StoreError> {
        caught(|| {
            let txn = self.index.read()?;
            let table = txn.open_table(DELIVERIES)?;
            Ok(table.get((key.queue_id, key.index))?.is_some())
        })
    }
}

fn is_journaled(deliver: &Deliver) -> bool {
    // A record does not tell what a keyword's bit means.
    deliver.flags.keywords.is_empty() && deliver.size() <= JOURNAL_MAX
}

impl Staged<'_> {
    fn deliver(&mut self, deliver: &Deliver, now: i64) -> Result<(), StoreError> {
        if let Some(key) = deliver.key
            && self.is_delivered(key)?
        {
            self.outcomes.push(Ok(Applied::DeliveredBefore));
            return Ok(());
        }
        match self.state.admit(self.account.id.get(), deliver, now) {
            Ok(Admitted {
                mail,
                applied,
                change,
            }) => {
                self.keys.extend(mail.key);
                self.told.push((mail.mailbox, change));
                self.mails.push(mail);
                self.outcomes.push(Ok(applied));
            }
            Err(refused) => self.outcomes.push(Err(refused)),
        }
        Ok(())
    }

    fn is_delivered(&self, key: DeliveryKey) -> Result<bool, StoreError> {
        if self.keys.contains(&key) {
            return Ok(true);
        }
        let known = lock(&self.account.recent).is_delivered(key);
        known.map_or_else(|| self.account.is_in_index(key), Ok)
    }

    /// What the journal gets.
    pub(crate) fn records(&self) -> Vec<Bytes> {
        self.mails.iter().map(|mail| mail.record.clone()).collect()
    }

    /// The journal has it, up to `mark`.
    pub(crate) fn publish(self, mark: Mark) -> Vec<Result<Applied, ApplyError>> {
        if self.mails.is_empty() {
            return self.outcomes;
        }
        let account = self.account;
        let mut recent = lock(&account.recent);
        let mut state = self.state;
        let now = account.state();
        if !Arc::ptr_eq(&now, &self.base) {
            // Meanwhile somebody has claimed what is recent, and nothing else happened.
            for (id, row) in now.mailboxes.iter() {
                let old = state.mailboxes.get(id);
                if old.is_some_and(|old| old.recent_from != row.recent_from)
                    && let Some(new) = state.row_mut(*id)
                {
                    new.recent_from = row.recent_from;
                }
            }
        }
        let touched: BTreeSet<u64> = self.mails.iter().map(|mail| mail.mailbox).collect();
        for id in touched {
            if account.hub.claims_recent(id.into())
                && let Some(row) = state.row_mut(id)
            {
                row.recent_from = row.uid_next;
            }
        }
        let octets = recent.push(self.mails, mark);
        account.journal.take_room(octets);
        account
            .has_pending
            .store(true, std::sync::atomic::Ordering::Release);
        account.set_state(state);
        for (mailbox, change) in self.told {
            account.hub.tell(mailbox.into(), &Arc::new(change));
        }
        self.outcomes
    }
}
