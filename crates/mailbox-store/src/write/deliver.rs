//! A message comes in.

use std::sync::Arc;

use bytes::Bytes;
use mail_message::{Summary, ThreadIds};
use mail_types::{Flags, SystemFlag, Uid};
use redb::ReadableTable;

use super::Batch;
use crate::operation::{Deliver, DeliveryKey, FlagNames, Target};
use crate::record::{RecordHeader, push_record};
use crate::schema::{EmailRow, MessageRow, email_id, encode_summary, number_of};
use crate::segment::Location;
use crate::{Applied, ApplyError, Change, MessageState, StoreError};

/// How long a delivery's key is kept, in seconds: far longer than any queue keeps a message.
const KEY_LIFETIME: i64 = 60 * 24 * 3600;
/// Keys that are forgotten with one delivery at most: more than come in, and never a long pause.
const KEYS_FORGOTTEN: usize = 4;
/// References that are tied to a message's thread. The last ones are the nearest.
const THREAD_REFERENCES: usize = 20;

impl Batch<'_> {
    pub(super) fn deliver(
        &mut self,
        deliver: &Deliver,
    ) -> Result<Result<Applied, ApplyError>, StoreError> {
        if self.is_delivered(deliver.key)? {
            return Ok(Ok(Applied::DeliveredBefore));
        }
        let Some(id) = self.state.find(&deliver.mailbox) else {
            return Ok(Err(ApplyError::NoSuchMailbox));
        };
        let size = deliver.content.iter().map(|piece| piece.len() as u64).sum();
        if let Err(refused) = self.check_quota(size, deliver.quota) {
            return Ok(Err(refused));
        }
        let Some(row) = self.row(id) else {
            return Ok(Err(ApplyError::NoSuchMailbox));
        };
        let (flags, new_keywords) = match Self::flags_of(row, &deliver.flags) {
            Ok(flags) => flags,
            Err(refused) => return Ok(Err(refused)),
        };
        let wanted = deliver.uid.map_or(0, Uid::get).max(row.uid_next);
        let Some(uid) = Uid::new(wanted).filter(|uid| uid.next().is_some()) else {
            return Ok(Err(ApplyError::UidsUsedUp));
        };
        if let Some(row) = self.row_mut(id) {
            row.keywords.extend(new_keywords.iter().cloned());
        }
        self.put(deliver, id, uid, flags, new_keywords, None)
    }

    /// Puts back a message that a record tells of: of the journal, or with its place in a segment.
    /// False if the index has it or its mailbox is gone.
    pub(crate) fn restore(
        &mut self,
        header: &RecordHeader,
        content: Bytes,
        location: Option<Location>,
    ) -> Result<bool, StoreError> {
        let id = header.mailbox_id.get();
        let (Some(row), Some(uid)) = (self.row(id), Uid::new(header.uid)) else {
            return Ok(false);
        };
        // Records of a segment are read into an index that knows no message but from them.
        let is_known = uid.get() < row.uid_next && location.is_none();
        let is_there = self.tables.messages.get((id, uid.get()))?.is_some();
        if is_known || is_there || self.is_delivered(header.key)? {
            return Ok(false);
        }
        if let Some(row) = self.row_mut(id) {
            row.uid_next = row.uid_next.max(uid.get());
        }
        let counters = &mut self.state.counters;
        counters.next_email = counters.next_email.max(number_of(header.email_id));
        self.now = header.internal_date;
        // What a keyword's bit means is not in a record.
        let flags = system_only(header.flags.into());
        let deliver = Deliver {
            key: header.key,
            mailbox: Target::Id(id.into()),
            uid: None,
            flags: FlagNames::default(),
            internal_date: header.internal_date,
            internal_offset: header.internal_offset,
            summary: Arc::new(mail_message::summarize(&content)),
            content: vec![content],
            quota: 0,
        };
        let put = self.put(&deliver, id, uid, flags, Vec::new(), location)?;
        Ok(put.is_ok())
    }

    pub(super) fn is_delivered(&self, key: Option<DeliveryKey>) -> Result<bool, StoreError> {
        let Some(key) = key else { return Ok(false) };
        let known = self.tables.deliveries.get((key.queue_id, key.index))?;
        Ok(known.is_some())
    }

    /// The message gets its row; nothing can refuse it any more.
    fn put(
        &mut self,
        deliver: &Deliver,
        id: u64,
        uid: Uid,
        flags: Flags,
        new_keywords: Vec<String>,
        location: Option<Location>,
    ) -> Result<Result<Applied, ApplyError>, StoreError> {
        let size = deliver.content.iter().map(|piece| piece.len() as u64).sum();
        let known = (location, None);
        let email = self.store_email(deliver, id, uid, flags.bits(), known)?;
        let claimed = self.hub.claims_recent(id.into());
        let Some(row) = self.row_mut(id) else {
            return Ok(Err(ApplyError::NoSuchMailbox));
        };
        row.uid_next = uid.get().saturating_add(1).max(row.uid_next);
        row.highest_modseq += 1;
        if claimed {
            row.recent_from = row.uid_next;
        }
        row.messages += 1;
        row.unseen += u32::from(!flags.has(SystemFlag::Seen));
        row.deleted += u32::from(flags.has(SystemFlag::Deleted));
        row.size += size;
        let (modseq, uid_validity) = (row.highest_modseq, row.uid_validity);
        let message = MessageRow {
            flags,
            modseq,
            size,
            email,
            internal_date: deliver.internal_date,
            internal_offset: deliver.internal_offset,
            save_date: self.now,
        };
        self.tables
            .messages
            .insert((id, uid.get()), message.encode().as_slice())?;
        self.state.counters.used_bytes += size;
        self.state.counters.used_messages += 1;
        if let Some(key) = deliver.key {
            self.remember(key)?;
        }
        let appended = vec![MessageState {
            uid,
            flags,
            modseq,
            size,
        }];
        self.tell(
            id,
            Change {
                modseq,
                new_keywords,
                appended,
                ..Change::default()
            },
        );
        Ok(Ok(Applied::Delivered {
            mailbox: id.into(),
            uid_validity,
            uid,
            modseq,
        }))
    }

    /// Would so many more octets be too many?
    pub(super) fn check_quota(&self, more: u64, quota: u64) -> Result<(), ApplyError> {
        let used = self.state.counters.used_bytes.saturating_add(more);
        if quota > 0 && used > quota {
            Err(ApplyError::OverQuota)
        } else {
            Ok(())
        }
    }

    /// Tells the index of a content, where it is and what thread it is in. Without a place it is
    /// appended.
    pub(super) fn store_email(
        &mut self,
        deliver: &Deliver,
        mailbox: u64,
        uid: Uid,
        flags: u64,
        (location, thread): (Option<Location>, Option<u64>),
    ) -> Result<u64, StoreError> {
        let email = self.state.counters.next_email;
        self.state.counters.next_email += 1;
        let location = match location {
            Some(location) => location,
            None => self.append(deliver, email, mailbox, uid, flags)?,
        };
        let summary: &Summary = &deliver.summary;
        let row = EmailRow {
            location,
            references: 1,
            thread: self.thread(&summary.thread, thread)?,
            sent_day: summary.sent_date.map(mail_message::MailDate::day),
            header_len: summary.header_len,
        };
        self.tables.emails.insert(email, row.encode().as_slice())?;
        self.tables
            .summaries
            .insert(email, encode_summary(summary).as_slice())?;
        Ok(email)
    }

    /// Appends the record to the segment.
    fn append(
        &mut self,
        deliver: &Deliver,
        email: u64,
        mailbox: u64,
        uid: Uid,
        flags: u64,
    ) -> Result<Location, StoreError> {
        let row = self.row(mailbox);
        let name = row.map(|row| row.name.clone());
        let uid_validity = row.map_or(0, |row| row.uid_validity);
        let header = RecordHeader {
            email_id: email_id(self.account, email),
            mailbox_id: mailbox.into(),
            uid_validity,
            uid: uid.get(),
            flags,
            internal_date: deliver.internal_date,
            internal_offset: deliver.internal_offset,
            key: deliver.key,
            mailbox: name.unwrap_or_default(),
        };
        let pieces: Vec<&[u8]> = deliver.content.iter().map(AsRef::as_ref).collect();
        let content_len = pieces.iter().map(|piece| piece.len()).sum();
        let start = self.records.len();
        push_record(&mut self.records, &header, &pieces);
        let record = self.records.get(start..).unwrap_or_default();
        let location = self.appender.append(record, content_len)?;
        if !self.keep_records {
            self.records.clear();
        }
        Ok(location)
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

    pub(super) fn remember(&mut self, key: DeliveryKey) -> Result<(), StoreError> {
        // What is imported is older than its key.
        let now = self.now.max(self.began);
        self.tables
            .deliveries
            .insert((key.queue_id, key.index), now)?;
        self.tables
            .delivered_at
            .insert((now, key.queue_id, key.index), ())?;
        let limit = self.now.min(self.began).saturating_sub(KEY_LIFETIME);
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
