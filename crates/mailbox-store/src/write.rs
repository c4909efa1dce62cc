//! One transaction: operations become rows, records and what watchers are told.

mod deliver;
mod mailboxes;
mod messages;
mod place;

pub(crate) use deliver::{Admitted, Mail};

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use mail_types::{Flags, MailboxId};
use redb::{Database, Durability, ReadableTable, Table, WriteTransaction};
use tracing::warn;

use crate::account::{Counters, State};
use crate::change::Hub;
use crate::operation::FlagNames;
use crate::packed::Packed;
use crate::record::{RecordHeader, push_record};
use crate::redo;
use crate::schema::{
    self, DELIVERED_AT, DELIVERIES, EMAILS, EmailRow, MAILBOXES, MESSAGES, META, MailboxRow,
    MessageRow, SUBSCRIPTIONS, SUMMARIES, THREADS, meta,
};
use crate::segment::Appender;
use crate::{Applied, ApplyError, Change, Operation, StoreError};

/// The tables of a write transaction.
pub(crate) struct Tables<'t> {
    meta: Table<'t, &'static str, u64>,
    mailboxes: Table<'t, u64, &'static [u8]>,
    subscriptions: Table<'t, &'static str, ()>,
    messages: Packed<'t, MessageRow>,
    emails: Packed<'t, EmailRow>,
    summaries: Table<'t, u64, &'static [u8]>,
    deliveries: Table<'t, (u64, u32), i64>,
    delivered_at: Table<'t, (i64, u64, u32), ()>,
    threads: Table<'t, u64, u64>,
}

impl<'t> Tables<'t> {
    fn open(txn: &'t WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            meta: txn.open_table(META)?,
            mailboxes: txn.open_table(MAILBOXES)?,
            subscriptions: txn.open_table(SUBSCRIPTIONS)?,
            messages: Packed::new(txn.open_table(MESSAGES)?),
            emails: Packed::new(txn.open_table(EMAILS)?),
            summaries: txn.open_table(SUMMARIES)?,
            deliveries: txn.open_table(DELIVERIES)?,
            delivered_at: txn.open_table(DELIVERED_AT)?,
            threads: txn.open_table(THREADS)?,
        })
    }
}

/// What watchers are told once the transaction is committed.
pub(crate) enum Effect {
    Changed(MailboxId, Arc<Change>),
    Gone(MailboxId),
}

impl Effect {
    pub(crate) fn tell(self, hub: &Hub) {
        match self {
            Self::Changed(mailbox, change) => hub.tell(mailbox, &change),
            Self::Gone(mailbox) => hub.tell_gone(mailbox),
        }
    }
}

/// What a transaction leads to once it is committed.
pub(crate) struct Finished {
    pub(crate) state: State,
    pub(crate) effects: Vec<Effect>,
}

/// A transaction under way. Each operation checks all that can refuse it before it changes
/// anything, so that a refused one leaves no trace.
pub(crate) struct Batch<'t> {
    account: u64,
    tables: Tables<'t>,
    state: State,
    changed: BTreeSet<u64>,
    appender: &'t mut Appender,
    hub: &'t Hub,
    effects: Vec<Effect>,
    now: i64,
}

impl<'t> Batch<'t> {
    pub(crate) fn begin(
        txn: &'t WriteTransaction,
        account: u64,
        state: &State,
        appender: &'t mut Appender,
        hub: &'t Hub,
        now: i64,
    ) -> Result<Self, StoreError> {
        let tables = Tables::open(txn)?;
        let mut state = state.clone();
        // Threads are found when mail comes into the index, not when it gets its UID.
        let next_thread = tables.meta.get(meta::NEXT_THREAD)?;
        state.counters.next_thread = next_thread.map_or(1, |next| next.value());
        let (changed, effects) = Default::default();
        Ok(Self {
            account,
            tables,
            state,
            changed,
            appender,
            hub,
            effects,
            now,
        })
    }

    pub(crate) fn apply(
        &mut self,
        operation: &Operation,
    ) -> Result<Result<Applied, ApplyError>, StoreError> {
        match operation {
            Operation::Adopt(adopt) => Ok(self.adopt(adopt)),
            Operation::Copy(copy) => self.copy(copy),
            Operation::Create(name, special_use) => Ok(self.create(name, *special_use)),
            Operation::Delete(name) => self.delete(name),
            Operation::Deliver(deliver) => self.deliver(deliver),
            Operation::Expunge(expunge) => self.expunge(expunge),
            Operation::Flags(change) => self.change_flags(change),
            Operation::Rename(name, new_name) => self.rename(name, new_name),
            Operation::Subscribe(name, subscribed) => self.subscribe(name, *subscribed),
        }
    }

    /// What the journal gets of an operation that was applied. The index has it then.
    pub(crate) fn record(&mut self, operation: &Operation) -> Bytes {
        self.state.counters.applied += 1;
        let header = redo::header(self.account, self.state.counters.applied, self.now);
        let mut record = Vec::new();
        push_record(&mut record, &header, &[&redo::encode(operation)]);
        record.into()
    }

    /// Does what the journal tells of, unless the index has it.
    pub(crate) fn redo(&mut self, header: &RecordHeader, content: &[u8]) -> Result<(), StoreError> {
        let number = redo::number(header);
        if number <= self.state.counters.applied {
            return Ok(());
        }
        let now = std::mem::replace(&mut self.now, header.saved);
        // What was not refused then is not now.
        if let Err(refused) = self.apply(&redo::parse(content)?)? {
            warn!(account = self.account, number, %refused, "an operation is not done again");
        }
        self.now = now;
        self.state.counters.applied = number;
        Ok(())
    }

    /// Numbers up to there were given to operations.
    pub(crate) fn skip_operations(&mut self, last: u64) {
        let applied = &mut self.state.counters.applied;
        *applied = last.max(*applied);
    }

    /// Mail that has its place in the state already, and mailboxes whose rows are newer there.
    pub(crate) fn take_in(
        &mut self,
        mails: &[Arc<Mail>],
        unsaved: &BTreeSet<u64>,
    ) -> Result<(), StoreError> {
        self.changed.extend(unsaved);
        let records = mails.iter().map(|mail| (&*mail.record, mail.row.size));
        let locations = self.appender.append_all(records)?;
        for (mail, location) in mails.iter().zip(locations) {
            self.store_at(mail, location)?;
        }
        Ok(())
    }

    /// Writes what was only changed in memory.
    pub(crate) fn finish(mut self) -> Result<Finished, StoreError> {
        for id in &self.changed {
            match self.state.mailboxes.get(id) {
                Some(row) => self.tables.mailboxes.insert(*id, row.encode().as_slice())?,
                None => self.tables.mailboxes.remove(*id)?,
            };
        }
        self.tables.messages.flush()?;
        self.tables.emails.flush()?;
        let (segment, end) = self.appender.position();
        write_meta(&mut self.tables.meta, self.state.counters, segment, end)?;
        Ok(Finished {
            state: self.state,
            effects: self.effects,
        })
    }

    /// The row, to be changed.
    fn row_mut(&mut self, mailbox: u64) -> Option<&mut MailboxRow> {
        self.changed.insert(mailbox);
        self.state.row_mut(mailbox)
    }

    fn row(&self, mailbox: u64) -> Option<&MailboxRow> {
        self.state.mailboxes.get(&mailbox).map(Arc::as_ref)
    }

    fn tell(&mut self, mailbox: u64, change: Change) {
        self.effects
            .push(Effect::Changed(mailbox.into(), Arc::new(change)));
    }

    /// The flags' bits in a mailbox, and the keywords that its table lacks so far.
    fn flags_of(row: &MailboxRow, names: &FlagNames) -> Result<(Flags, Vec<String>), ApplyError> {
        let mut flags = names.system;
        let mut new: Vec<String> = Vec::new();
        for name in &names.keywords {
            let known = row.keywords.iter().chain(&new);
            let at = known
                .into_iter()
                .position(|known| known.eq_ignore_ascii_case(name));
            let at = at.unwrap_or_else(|| {
                new.push(name.clone());
                row.keywords.len() + new.len() - 1
            });
            flags = flags | Flags::keyword(at).ok_or(ApplyError::TooManyKeywords)?;
        }
        Ok((flags, new))
    }
}

fn write_meta(
    table: &mut Table<'_, &'static str, u64>,
    counters: Counters,
    segment: u32,
    end: u64,
) -> Result<(), StoreError> {
    let values = [
        (meta::NEXT_EMAIL, counters.next_email),
        (meta::NEXT_MAILBOX, counters.next_mailbox),
        (meta::NEXT_THREAD, counters.next_thread),
        (meta::UID_VALIDITY, counters.uid_validity),
        (meta::APPLIED, counters.applied),
        (meta::USED_BYTES, counters.used_bytes),
        (meta::USED_MESSAGES, counters.used_messages),
        (meta::SEGMENT, segment.into()),
        (meta::SEGMENT_END, end),
    ];
    for (name, value) in values {
        table.insert(name, value)?;
    }
    Ok(())
}

/// Writes a new account: INBOX and the mailboxes that clients look for, all subscribed.
pub(crate) fn defaults(db: &Database, now: i64) -> Result<(), StoreError> {
    let mut txn = db.begin_write()?;
    txn.set_durability(Durability::Immediate)?;
    {
        let mut tables = Tables::open(&txn)?;
        let mut counters = Counters {
            next_email: 1,
            next_thread: 1,
            ..Counters::default()
        };
        for (name, special_use) in mailboxes::DEFAULTS {
            let row = mailboxes::new_row(&mut counters, name, special_use, now);
            tables
                .mailboxes
                .insert(counters.next_mailbox, row.encode().as_slice())?;
            tables.subscriptions.insert(name, ())?;
        }
        counters.next_mailbox += 1;
        write_meta(&mut tables.meta, counters, 1, 0)?;
        tables.meta.insert(meta::VERSION, schema::VERSION)?;
    }
    txn.commit()?;
    Ok(())
}
