//! A message comes in.

use std::sync::Arc;

use bytes::Bytes;
use mail_message::{Summary, ThreadIds};
use mail_types::{Flags, SystemFlag, Uid};
use redb::ReadableTable;

use super::Batch;
use crate::account::State;
use crate::operation::{Deliver, DeliveryKey};
use crate::record::{RecordHeader, push_record};
use crate::schema::{EmailRow, MessageRow, email_id, email_key, encode_summary, number_of};
use crate::segment::Location;
use crate::{Applied, ApplyError, Change, MessageState, StoreError};

/// How long a delivery's key is kept, in seconds: far longer than any queue keeps a message.
const KEY_LIFETIME: i64 = 60 * 24 * 3600;
/// Keys that are forgotten with one delivery at most: more than come in, and never a long pause.
const KEYS_FORGOTTEN: usize = 4;
/// References that are tied to a message's thread. The last ones are the nearest.
const THREAD_REFERENCES: usize = 20;

/// A message that has got its place: nothing can refuse it any more.
#[derive(Debug)]
pub(crate) struct Mail {
    pub(crate) mailbox: u64,
    pub(crate) uid: Uid,
    pub(crate) row: MessageRow,
    pub(crate) key: Option<DeliveryKey>,
    pub(crate) summary: Arc<Summary>,
    /// What the segment gets.
    pub(crate) record: Bytes,
}

/// A message with its place, what the caller is answered, and what watchers are told.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) mail: Mail,
    pub(crate) applied: Applied,
    pub(crate) change: Change,
}

impl State {
    /// Gives a message its place. `now` is Unix time in seconds.
    pub(crate) fn admit(
        &mut self,
        account: u64,
        deliver: &Deliver,
        now: i64,
    ) -> Result<Admitted, ApplyError> {
        let mailbox = self.find(&deliver.mailbox);
        let mailbox = mailbox.ok_or(ApplyError::NoSuchMailbox)?;
        let size = deliver.size();
        self.check_quota(size, deliver.quota)?;
        let row = self.mailboxes.get(&mailbox);
        let row = row.ok_or(ApplyError::NoSuchMailbox)?;
        let (flags, new_keywords) = Batch::flags_of(row, &deliver.flags)?;
        let wanted = deliver.uid.map_or(0, Uid::get).max(row.uid_next);
        let uid = Uid::new(wanted).filter(|uid| uid.next().is_some());
        let uid = uid.ok_or(ApplyError::UidsUsedUp)?;
        let email = self.counters.next_email;
        let header = RecordHeader {
            email_id: email_id(account, email),
            mailbox_id: mailbox.into(),
            uid_validity: row.uid_validity,
            uid: uid.get(),
            flags: flags.bits(),
            internal_date: deliver.internal_date,
            internal_offset: deliver.internal_offset,
            saved: now,
            key: deliver.key,
            mailbox: row.name.clone(),
        };
        let uid_validity = row.uid_validity;
        if let Some(row) = self.row_mut(mailbox) {
            row.keywords.extend(new_keywords.iter().cloned());
        }
        let pieces: Vec<&[u8]> = deliver.content.iter().map(AsRef::as_ref).collect();
        let mut record = Vec::new();
        push_record(&mut record, &header, &pieces);
        let row = self.enter(&header, size);
        let modseq = row.modseq;
        let appended = vec![MessageState {
            uid,
            flags,
            modseq,
            size,
        }];
        Ok(Admitted {
            mail: Mail {
                mailbox,
                uid,
                row,
                key: deliver.key,
                summary: deliver.summary.clone(),
                record: record.into(),
            },
            applied: Applied::Delivered {
                mailbox: mailbox.into(),
                uid_validity,
                uid,
                modseq,
            },
            change: Change {
                modseq,
                new_keywords,
                appended,
                ..Change::default()
            },
        })
    }

    /// Counts a message in, with the UID and number that its header says.
    fn enter(&mut self, header: &RecordHeader, size: u64) -> MessageRow {
        let flags = Flags::from(header.flags);
        let email = number_of(header.email_id);
        let counters = &mut self.counters;
        counters.next_email = counters.next_email.max(email + 1);
        counters.used_bytes += size;
        counters.used_messages += 1;
        let mut modseq = 1;
        if let Some(row) = self.row_mut(header.mailbox_id.get()) {
            row.uid_next = header.uid.saturating_add(1).max(row.uid_next);
            row.highest_modseq += 1;
            row.messages += 1;
            row.unseen += u32::from(!flags.has(SystemFlag::Seen));
            row.deleted += u32::from(flags.has(SystemFlag::Deleted));
            row.size += size;
            modseq = row.highest_modseq;
        }
        MessageRow {
            flags,
            modseq,
            size,
            email,
            internal_date: header.internal_date,
            internal_offset: header.internal_offset,
            save_date: header.saved,
        }
    }

    /// Would so many more octets be too many?
    pub(crate) fn check_quota(&self, more: u64, quota: u64) -> Result<(), ApplyError> {
        let used = self.counters.used_bytes.saturating_add(more);
        if quota > 0 && used > quota {
            Err(ApplyError::OverQuota)
        } else {
            Ok(())
        }
    }
}

impl Batch<'_> {
    pub(super) fn deliver(
        &mut self,
        deliver: &Deliver,
    ) -> Result<Result<Applied, ApplyError>, StoreError> {
        if self.is_delivered(deliver.key)? {
            return Ok(Ok(Applied::DeliveredBefore));
        }
        let admitted = self.state.admit(self.account, deliver, self.now);
        let Admitted {
            mail,
            applied,
            change,
        } = match admitted {
            Ok(admitted) => admitted,
            Err(refused) => return Ok(Err(refused)),
        };
        if self.hub.claims_recent(mail.mailbox.into())
            && let Some(row) = self.row_mut(mail.mailbox)
        {
            row.recent_from = row.uid_next;
        }
        self.store(&mail)?;
        self.tell(mail.mailbox, change);
        Ok(Ok(applied))
    }

    /// Puts back a message that the journal tells of. False if the index has it or its mailbox is
    /// gone.
    pub(crate) fn restore(
        &mut self,
        mut header: RecordHeader,
        content: &Bytes,
    ) -> Result<bool, StoreError> {
        let mailbox = header.mailbox_id.get();
        let (Some(row), Some(uid)) = (self.row(mailbox), Uid::new(header.uid)) else {
            return Ok(false);
        };
        if uid.get() < row.uid_next || self.is_delivered(header.key)? {
            return Ok(false);
        }
        // What a keyword's bit means is not in a record.
        header.flags = system_only(header.flags.into()).bits();
        let mut record = Vec::new();
        push_record(&mut record, &header, &[content]);
        let row = self.state.enter(&header, content.len() as u64);
        let mail = Mail {
            mailbox,
            uid,
            row,
            key: header.key,
            summary: Arc::new(mail_message::summarize(content)),
            record: record.into(),
        };
        self.store(&mail)?;
        Ok(true)
    }

    /// Does the index know the key?
    pub(crate) fn is_delivered(&self, key: Option<DeliveryKey>) -> Result<bool, StoreError> {
        let Some(key) = key else { return Ok(false) };
        let known = self.tables.deliveries.get((key.queue_id, key.index))?;
        Ok(known.is_some())
    }

    /// Writes the rows of a message that is counted in.
    pub(super) fn store(&mut self, mail: &Mail) -> Result<(), StoreError> {
        let location = self.appender.append(&mail.record, mail.row.size)?;
        self.store_at(mail, location)
    }

    /// The same of one whose record is there.
    pub(super) fn store_at(&mut self, mail: &Mail, location: Location) -> Result<(), StoreError> {
        self.changed.insert(mail.mailbox);
        self.store_email(mail.row.email, &mail.summary, location, None)?;
        self.tables
            .messages
            .insert((mail.mailbox, mail.uid.get()), &mail.row)?;
        if let Some(key) = mail.key {
            self.remember(key, mail.row.save_date)?;
        }
        Ok(())
    }

    /// A copy of the record takes the old one's place, unless the email is gone or elsewhere.
    pub(crate) fn relocate(
        &mut self,
        email: u64,
        from: Location,
        record: &[u8],
    ) -> Result<(), StoreError> {
        let row = self.tables.emails.get(email_key(email))?;
        let Some(mut row) = row.filter(|row| row.location == from) else {
            return Ok(());
        };
        row.location = self.appender.append(record, from.content_len)?;
        self.tables.emails.insert(email_key(email), &row)?;
        Ok(())
    }

    /// Tells the index of a content, where it is, and what thread it is in if that is known.
    pub(super) fn store_email(
        &mut self,
        email: u64,
        summary: &Summary,
        location: Location,
        thread: Option<u64>,
    ) -> Result<(), StoreError> {
        let row = EmailRow {
            location,
            references: 1,
            thread: self.thread(&summary.thread, thread)?,
            sent_day: summary.sent_date.map(mail_message::MailDate::day),
            header_len: summary.header_len,
        };
        self.tables.emails.insert(email_key(email), &row)?;
        self.tables
            .summaries
            .insert(email, encode_summary(summary).as_slice())?;
        Ok(())
    }

    /// The thread of the first message id that is known, or a new one; all its ids lead there from
    /// now on, so that an answer that came before its question is in the same thread.
    fn thread(&mut self, ids: &ThreadIds, mut known: Option<u64>) -> Result<u64, StoreError> {
        let skipped = ids.references.len().saturating_sub(THREAD_REFERENCES);
        let references = ids.references.iter().skip(skipped);
        let hashes: Vec<u64> = references
            .chain(&ids.message_id)
            .map(|id| hash(self.account, id))
            .collect();
        for id in &hashes {
            if known.is_some() {
                break;
            }
            if let Some(thread) = self.tables.threads.get(*id)? {
                known = Some(thread.value());
            }
        }
        let thread = known.unwrap_or_else(|| {
            let new = self.state.counters.next_thread;
            self.state.counters.next_thread += 1;
            new
        });
        for id in hashes {
            if self.tables.threads.get(id)?.is_none() {
                self.tables.threads.insert(id, thread)?;
            }
        }
        Ok(thread)
    }

    pub(super) fn remember(&mut self, key: DeliveryKey, now: i64) -> Result<(), StoreError> {
        self.tables
            .deliveries
            .insert((key.queue_id, key.index), now)?;
        self.tables
            .delivered_at
            .insert((now, key.queue_id, key.index), ())?;
        let limit = now.saturating_sub(KEY_LIFETIME);
        for _ in 0..KEYS_FORGOTTEN {
            let first = self
                .tables
                .delivered_at
                .first()?
                .map(|(key, _)| key.value());
            let Some((time, queue_id, index)) = first.filter(|(time, ..)| *time < limit) else {
                break;
            };
            self.tables.delivered_at.remove((time, queue_id, index))?;
            self.tables.deliveries.remove((queue_id, index))?;
        }
        Ok(())
    }
}

fn system_only(flags: Flags) -> Flags {
    SystemFlag::ALL
        .into_iter()
        .fold(Flags::NONE, |all, flag| all | (flags & flag.into()))
}

/// FNV-1a, seeded: two ids with one hash only put two conversations into one.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ seed;
    bytes.iter().fold(start, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
