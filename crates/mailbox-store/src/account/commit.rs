//! Changes become durable: through the journal, or in the account's own files.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use redb::{Durability, WriteTransaction};

use super::index::Reading;
use super::recent::Part;
use super::stage::LAZY_MAX;
use super::{Account, Outcome, State, Writer, load, lock};
use crate::error::caught;
use crate::journal::{Mark, Waiting};
use crate::redo::{is_operation, is_redone};
use crate::snapshot::is_told_by_record;
use crate::write::{Batch, Finished};
use crate::{Applied, ApplyError, Deliver, Operation, StoreError};

/// What an operation counts as beside its record where only the journal has made it durable: doing it
/// again costs more than a message does.
const OPERATION: u64 = 64 * 1024;

impl Account {
    /// Does one operation; it is durable when this returns. `now` is Unix time in seconds.
    pub fn apply(&self, operation: Operation, now: i64) -> Outcome {
        let mut outcomes = self.apply_all(vec![operation], now);
        let none = || Err(Arc::new(StoreError::Engine("no outcome".to_owned())));
        outcomes.pop().unwrap_or_else(none)
    }

    /// Does several operations, one after the other, in one transaction with whatever else waits.
    /// Answers in their order.
    pub fn apply_all(&self, operations: Vec<Operation>, now: i64) -> Vec<Outcome> {
        let count = operations.len();
        let outcomes = self.group.run(operations, |batch| {
            let batch: Vec<&Operation> = batch.iter().collect();
            self.write(&batch, now)
        });
        self.limit_pending();
        outcomes.unwrap_or_else(|| {
            let lost = Arc::new(StoreError::Engine("the writer panicked".to_owned()));
            vec![Err(lost); count]
        })
    }

    fn write(&self, batch: &[&Operation], now: i64) -> Vec<Outcome> {
        match self.journal_or_transact(batch, now) {
            Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
            Err(error) if batch.len() == 1 || error.is_fatal() || self.has_failed() => {
                let error = Arc::new(error);
                vec![Err(error); batch.len()]
            }
            // One that cannot be done must not take the others with it.
            Err(_) => batch
                .iter()
                .flat_map(|one| self.write(&[one], now))
                .collect(),
        }
    }

    fn journal_or_transact(
        &self,
        operations: &[&Operation],
        now: i64,
    ) -> Result<Vec<Result<Applied, ApplyError>>, StoreError> {
        let delivers: Option<Vec<&Deliver>> = operations.iter().map(|one| deliver(one)).collect();
        if let Some(delivers) = delivers
            && let Some(staged) = self.stage(&delivers, now)?
        {
            let waiting = Waiting {
                account: self.id,
                records: staged.records(),
            };
            let marks = self.journal.append(vec![waiting]);
            let marks = marks.map_err(|error| StoreError::shared(&error))?;
            return Ok(staged.publish(marks.first().copied().unwrap_or_default()));
        }
        let _turn = lock(&self.turn);
        let mut writer = lock(&self.writer);
        self.transact(&mut writer, operations, now)
    }

    fn transact(
        &self,
        writer: &mut Writer,
        operations: &[&Operation],
        now: i64,
    ) -> Result<Vec<Result<Applied, ApplyError>>, StoreError> {
        let is_lazy = self.may_lag() && operations.iter().all(|one| is_redone(one));
        self.or_as_before(writer, |writer| {
            let (state, part) = self.part();
            let db = self.index.get()?;
            let mut txn = db.begin_write()?;
            if is_lazy {
                txn.set_durability(Durability::None)?;
            }
            let mut batch = self.begin(&txn, &state, writer, now)?;
            batch.take_in(&part.mails, &part.unsaved)?;
            let mut outcomes = Vec::with_capacity(operations.len());
            let mut records = Vec::new();
            for operation in operations {
                let outcome = batch.apply(operation)?;
                if is_lazy && outcome.is_ok() {
                    records.push(batch.record(operation));
                }
                outcomes.push(outcome);
            }
            let finished = batch.finish()?;
            let untold = operations.iter().filter(|one| !is_told_by_record(one));
            let untold = untold.count() as u64;
            self.may_have_dead.fetch_or(untold > 0, Ordering::Relaxed);
            self.keeper.note(&*self.disk, &self.folder, untold)?;
            if is_lazy {
                // The instant at which they count. The index has them behind it, not durably.
                let lag = self.append_operations(records)?;
                self.end_transaction(txn)?;
                self.publish(finished, &part, [], Some(lag));
                return Ok(outcomes);
            }
            writer.appender.sync()?;
            self.end_transaction(txn)?;
            // What was refused may come again, and must not count as delivered then.
            let done = operations.iter().zip(&outcomes);
            let done = done.filter(|(_, outcome)| outcome.is_ok());
            let keys = done.filter_map(|(one, _)| deliver(one)?.key);
            self.publish(finished, &part, keys, None);
            self.journal.settle_to(self.id, part.journaled);
            Ok(outcomes)
        })
    }

    /// Is little enough to be done again after a crash?
    fn may_lag(&self) -> bool {
        lock(&self.recent).lazy() < LAZY_MAX
    }

    /// Into the journal; tells up to where, and what weight they have.
    fn append_operations(&self, records: Vec<Bytes>) -> Result<(Mark, u64), StoreError> {
        if records.is_empty() {
            return Ok((Mark::default(), 0));
        }
        let octets = |record: &Bytes| record.len() as u64 + OPERATION;
        let weight = records.iter().map(octets).sum();
        let waiting = Waiting {
            account: self.id,
            records,
        };
        let marks = self.journal.append(vec![waiting]);
        let marks = marks.map_err(|error| StoreError::shared(&error))?;
        Ok((marks.first().copied().unwrap_or_default(), weight))
    }

    /// Does what writes to the account's files. If it fails they are as before.
    fn or_as_before<T>(
        &self,
        writer: &mut Writer,
        work: impl FnOnce(&mut Writer) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.has_failed() {
            return Err(StoreError::Engine("the account was closed".to_owned()));
        }
        let before = writer.appender.position();
        let result = caught(|| work(writer));
        if let Err(error) = &result {
            if matches!(error, StoreError::Engine(_)) {
                self.failed.store(true, Ordering::Release);
            }
            // An account that is opened again cuts its segment where the index says.
            if !self.has_failed() {
                writer.appender.rewind(before)?;
            }
        }
        result
    }

    /// What waits for the index, and the state that is to be in it then.
    fn part(&self) -> (Arc<State>, Part) {
        let recent = lock(&self.recent);
        (self.state(), recent.part())
    }

    /// Puts into the index what waits for it, without a sync: the journal answers for it.
    /// Returns what the index has got, and how far it has what the journal has.
    pub(super) fn catch_up(&self, writer: &mut Writer) -> Result<Part, StoreError> {
        let part = lock(&self.recent).part();
        if part.is_empty() {
            return Ok(part);
        }
        self.catch_up_with(writer, |_| Ok(()))
    }

    /// The same with a change that no state tells of.
    pub(super) fn catch_up_with(
        &self,
        writer: &mut Writer,
        change: impl FnOnce(&mut Batch<'_>) -> Result<(), StoreError>,
    ) -> Result<Part, StoreError> {
        let (state, part) = self.part();
        self.or_as_before(writer, |writer| {
            let db = self.index.get()?;
            let mut txn = db.begin_write()?;
            txn.set_durability(Durability::None)?;
            let mut batch = self.begin(&txn, &state, writer, 0)?;
            batch.take_in(&part.mails, &part.unsaved)?;
            change(&mut batch)?;
            batch.finish()?;
            self.end_transaction(txn)
        })?;
        let mut recent = lock(&self.recent);
        self.journal.give_room(recent.drain(&part));
        self.has_pending
            .store(!recent.is_empty(), Ordering::Release);
        Ok(part)
    }

    /// An index that has all that was answered so far. On a full disk it lacks what waits, since
    /// older mail can be read even then.
    pub(crate) fn read(&self) -> Result<Reading, StoreError> {
        if self.has_pending.load(Ordering::Acquire) {
            match self.catch_up(&mut lock(&self.writer)) {
                Err(StoreError::Full) | Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        self.index.read()
    }

    /// Makes durable in the account's own files what only the journal has so far.
    pub(crate) fn checkpoint(&self) -> Result<(), StoreError> {
        if lock(&self.recent).is_settled() {
            return Ok(());
        }
        self.checkpoint_now()
    }

    /// Makes all durable that the index has.
    pub(super) fn checkpoint_now(&self) -> Result<(), StoreError> {
        self.sync_segment()?;
        let mut writer = lock(&self.writer);
        if self.has_failed() {
            return Ok(());
        }
        // What is published from here on is in the journal alone and stays open there.
        let part = self.catch_up(&mut writer)?;
        self.settle(&mut writer, &part)
    }

    /// Most of what makes an account durable, while others may write.
    pub(super) fn sync_segment(&self) -> Result<(), StoreError> {
        let (file, position) = {
            let mut writer = lock(&self.writer);
            if self.has_failed() {
                return Ok(());
            }
            self.catch_up(&mut writer)?;
            (writer.appender.unsynced(), writer.appender.position())
        };
        if let Some(file) = file {
            file.sync().map_err(StoreError::Fatal)?;
        }
        lock(&self.writer).appender.is_synced(position);
        Ok(())
    }

    pub(super) fn settle(&self, writer: &mut Writer, part: &Part) -> Result<(), StoreError> {
        writer.appender.sync()?;
        let db = self.index.get()?;
        self.end_transaction(db.begin_write()?)?;
        self.is_settled(part);
        Ok(())
    }

    /// The account's own files durably have what `part` tells of.
    pub(super) fn is_settled(&self, part: &Part) {
        lock(&self.recent).settle(part);
        self.journal.settle_to(self.id, part.journaled);
    }

    /// Does what the journal has and the index lacks, after a crash or a failed commit.
    pub(super) fn replay(&self, now: i64) -> Result<(), StoreError> {
        let entries = self.journal.entries(self.id)?;
        if entries.is_empty() {
            return Ok(());
        }
        let mut writer = lock(&self.writer);
        let db = self.index.get()?;
        let txn = db.begin_write()?;
        let mut batch = self.begin(&txn, &self.state(), &mut writer, now)?;
        let mut keys = Vec::new();
        for (header, content) in entries {
            if is_operation(&header) {
                batch.redo(&header, &content)?;
                continue;
            }
            let key = header.key;
            batch.restore(header, &Bytes::from(content))?;
            if batch.is_delivered(key)? {
                keys.extend(key);
            }
        }
        let finished = batch.finish()?;
        writer.appender.sync()?;
        txn.commit()?;
        self.publish(finished, &self.part().1, keys, None);
        self.journal.settle(self.id);
        Ok(())
    }

    /// If it fails, only opening the account again tells what the index has. The journal may have
    /// what the index has not; opening puts that right too.
    fn end_transaction(&self, txn: WriteTransaction) -> Result<(), StoreError> {
        txn.commit().map_err(|error| {
            self.failed.store(true, Ordering::Release);
            error.into()
        })
    }

    fn begin<'t>(
        &'t self,
        txn: &'t WriteTransaction,
        state: &State,
        writer: &'t mut Writer,
        now: i64,
    ) -> Result<Batch<'t>, StoreError> {
        let appender = &mut writer.appender;
        Batch::begin(txn, self.id.get(), state, appender, &self.hub, now)
    }

    /// The index has it, durably unless it lags behind the journal, and what waited before it.
    fn publish(
        &self,
        finished: Finished,
        part: &Part,
        keys: impl IntoIterator<Item = crate::DeliveryKey>,
        lag: Option<(Mark, u64)>,
    ) {
        let mut recent = lock(&self.recent);
        self.journal.give_room(recent.drain(part));
        match lag {
            Some((mark, octets)) => recent.lag(mark, octets),
            None => recent.settle(part),
        }
        keys.into_iter().for_each(|key| recent.note_key(key));
        self.has_pending
            .store(!recent.is_empty(), Ordering::Release);
        self.set_state(finished.state);
        for effect in finished.effects {
            effect.tell(&self.hub);
        }
    }

    /// Changes the index with other means than operations; nobody else writes meanwhile. Watchers
    /// have to watch anew. What the change answers beside its outcome says whether there was one.
    pub(crate) fn rewrite<T>(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<(T, bool), StoreError>,
    ) -> Result<T, StoreError> {
        let _turn = lock(&self.turn);
        let mut writer = lock(&self.writer);
        if self.has_failed() {
            return Err(StoreError::Busy);
        }
        self.catch_up(&mut writer)?;
        let (_, part) = self.part();
        let db = self.index.get()?;
        let txn = db.begin_write()?;
        let (outcome, is_changed) = change(&txn)?;
        if !is_changed {
            return Ok(outcome);
        }
        self.keeper.note(&*self.disk, &self.folder, 1)?;
        writer.appender.sync()?;
        self.end_transaction(txn)?;
        let (state, ..) = load(&*self.index.read()?)?;
        let effects = Vec::new();
        self.publish(Finished { state, effects }, &part, [], None);
        self.journal.settle_to(self.id, part.journaled);
        self.begin_epoch();
        self.hub.drop_all();
        Ok(outcome)
    }
}

fn deliver<'a>(operation: &'a &Operation) -> Option<&'a Deliver> {
    match operation {
        Operation::Deliver(deliver) => Some(deliver),
        _ => None,
    }
}
