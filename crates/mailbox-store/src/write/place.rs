//! A message whose places are known comes into an index that is made anew.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use mail_types::SystemFlag;

use super::{Batch, mailboxes::new_row};
use crate::record::{RecordHeader, push_record};
use crate::schema::{MailboxRow, SpecialUse, email_key, number_of};
use crate::segment::Location;
use crate::snapshot::Place;
use crate::{StoreError, account::Counters};

impl Batch<'_> {
    /// Mailboxes and counters as a snapshot has them, without messages.
    pub(crate) fn adopt_mailboxes(
        &mut self,
        mailboxes: &[(u64, MailboxRow)],
        subscriptions: &std::collections::BTreeSet<String>,
        counters: Counters,
    ) -> Result<(), StoreError> {
        let old: Vec<u64> = self.state.mailboxes.keys().copied().collect();
        self.changed.extend(old);
        (self.state.mailboxes, self.state.names) = Default::default();
        for name in self.state.subscriptions.iter() {
            self.tables.subscriptions.remove(name.as_str())?;
        }
        for (id, row) in mailboxes {
            self.changed.insert(*id);
            self.state.insert(*id, row.clone());
        }
        for name in subscriptions {
            self.tables.subscriptions.insert(name.as_str(), ())?;
        }
        self.state.subscriptions = Arc::new(subscriptions.clone());
        self.state.counters = counters;
        Ok(())
    }

    /// Puts a content into its places; without any, only its delivery is remembered. False if the
    /// index has it already. Without a location it is appended.
    pub(crate) fn place(
        &mut self,
        header: &RecordHeader,
        content: &Bytes,
        location: Option<Location>,
        places: &[Place],
    ) -> Result<bool, StoreError> {
        let email = number_of(header.email_id);
        if self.tables.emails.get(email_key(email))?.is_some() {
            return Ok(false);
        }
        if let Some(key) = header.key
            && !self.is_delivered(Some(key))?
        {
            self.remember(key, header.saved)?;
        }
        let Some(first) = places.first() else {
            return Ok(false);
        };
        let location = if let Some(location) = location {
            location
        } else {
            let mut record = Vec::new();
            push_record(&mut record, header, &[content]);
            self.appender.append(&record, content.len() as u64)?
        };
        let summary = mail_message::summarize(content);
        let thread = Some(first.thread).filter(|thread| *thread > 0);
        self.store_email(email, &summary, location, thread)?;
        let counters = &mut self.state.counters;
        counters.next_email = counters.next_email.max(email + 1);
        self.refer(email, places)?;
        for place in places {
            self.put_place(place)?;
        }
        Ok(true)
    }

    /// The email's row tells of all its places.
    fn refer(&mut self, email: u64, places: &[Place]) -> Result<(), StoreError> {
        let Some(mut row) = self.tables.emails.get(email_key(email))? else {
            return Ok(());
        };
        row.references = u32::try_from(places.len()).unwrap_or(u32::MAX);
        self.tables.emails.insert(email_key(email), &row)?;
        Ok(())
    }

    fn put_place(&mut self, place: &Place) -> Result<(), StoreError> {
        let (flags, size) = (place.row.flags, place.row.size);
        let Some(row) = self.row_mut(place.mailbox) else {
            return Ok(());
        };
        row.uid_next = row.uid_next.max(place.uid.get().saturating_add(1));
        row.highest_modseq = row.highest_modseq.max(place.row.modseq);
        row.messages += 1;
        row.unseen += u32::from(!flags.has(SystemFlag::Seen));
        row.deleted += u32::from(flags.has(SystemFlag::Deleted));
        row.size += size;
        self.state.counters.used_bytes += size;
        self.state.counters.used_messages += 1;
        self.tables
            .messages
            .insert((place.mailbox, place.uid.get()), &place.row)?;
        Ok(())
    }

    /// Makes the mailbox that a record names, if it is not there. An account that is made anew has
    /// the usual ones; their UIDVALIDITY is what records say.
    pub(crate) fn ensure_mailbox(&mut self, header: &RecordHeader) {
        let id = header.mailbox_id.get();
        if !self.state.mailboxes.contains_key(&id) {
            let mut name = header.mailbox.clone();
            while self.state.names.contains_key(&name) {
                name.push('_');
            }
            let counters = &mut self.state.counters;
            let next = counters.next_mailbox;
            counters.next_mailbox = id.saturating_sub(1);
            let row = new_row(counters, &name, SpecialUse::None, self.now);
            counters.next_mailbox = next.max(id.saturating_add(1));
            self.state.insert(id, row);
            self.changed.insert(id);
        }
        let Some(row) = self.row_mut(id).filter(|row| row.uid_next == 1) else {
            return;
        };
        row.uid_validity = header.uid_validity;
        let last = &mut self.state.counters.uid_validity;
        *last = u64::from(header.uid_validity).max(*last);
    }

    /// Puts UIDNEXT and HIGHESTMODSEQ of all mailboxes ahead of what may have been given out.
    /// `not` are those where that is done.
    pub(crate) fn raise(&mut self, by: u32, not: &HashMap<u64, u64>) {
        let ids = self.state.mailboxes.keys();
        let ids: Vec<u64> = ids.filter(|id| !not.contains_key(id)).copied().collect();
        for id in ids {
            if let Some(row) = self.row_mut(id) {
                row.uid_next = row.uid_next.saturating_add(by);
                row.highest_modseq += u64::from(by);
            }
        }
    }

    /// The mailbox's row, for what is decided from outside.
    pub(crate) fn mailbox(&self, id: u64) -> Option<&MailboxRow> {
        self.row(id)
    }

    /// Is there a message with that UID?
    pub(crate) fn is_taken(&mut self, mailbox: u64, uid: u32) -> Result<bool, StoreError> {
        Ok(self.tables.messages.get((mailbox, uid))?.is_some())
    }
}
