//! A message comes in.

use mail_message::{Summary, ThreadIds};
use mail_types::{SystemFlag, Uid};
use redb::ReadableTable;

use super::Batch;
use crate::operation::{Deliver, DeliveryKey};
use crate::record::{RecordHeader, push_record};
use crate::schema::{EmailRow, MessageRow, email_id, encode_summary};
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
        if let Some(key) = deliver.key
            && self
                .tables
                .deliveries
                .get((key.queue_id, key.index))?
                .is_some()
        {
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
        let Some(uid) = Uid::new(row.uid_next).filter(|uid| uid.next().is_some()) else {
            return Ok(Err(ApplyError::UidsUsedUp));
        };
        let name = row.name.clone();
        let email = self.store_email(deliver, id, uid, flags.bits(), name)?;
        let claimed = self.hub.claims_recent(id.into());
        let Some(row) = self.row_mut(id) else {
            return Ok(Err(ApplyError::NoSuchMailbox));
        };
        row.keywords.extend(new_keywords.iter().cloned());
        row.uid_next += 1;
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

    /// Appends the record and tells the index where it is.
    fn store_email(
        &mut self,
        deliver: &Deliver,
        mailbox: u64,
        uid: Uid,
        flags: u64,
        mailbox_name: String,
    ) -> Result<u64, StoreError> {
        let email = self.state.counters.next_email;
        self.state.counters.next_email += 1;
        let header = RecordHeader {
            email_id: email_id(self.account, email),
            mailbox_id: mailbox.into(),
            uid: uid.get(),
            flags,
            internal_date: deliver.internal_date,
            internal_offset: deliver.internal_offset,
            key: deliver.key,
            mailbox: mailbox_name,
        };
        let pieces: Vec<&[u8]> = deliver.content.iter().map(AsRef::as_ref).collect();
        let content_len = pieces.iter().map(|piece| piece.len()).sum();
        let mut record = Vec::new();
        push_record(&mut record, &header, &pieces);
        let location = self.appender.append(&record, content_len)?;
        let summary: &Summary = &deliver.summary;
        let row = EmailRow {
            location,
            references: 1,
            thread: self.thread(&summary.thread)?,
            sent_day: summary.sent_date.map(mail_message::MailDate::day),
            header_len: summary.header_len,
        };
        self.tables.emails.insert(email, row.encode().as_slice())?;
        self.tables
            .summaries
            .insert(email, encode_summary(summary).as_slice())?;
        Ok(email)
    }

    /// The thread of the first message id that is known, or a new one; all its ids lead there from
    /// now on, so that an answer that came before its question is in the same thread.
    fn thread(&mut self, ids: &ThreadIds) -> Result<u64, StoreError> {
        let skipped = ids.references.len().saturating_sub(THREAD_REFERENCES);
        let references = ids.references.iter().skip(skipped);
        let hashes: Vec<u64> = references
            .chain(&ids.message_id)
            .map(|id| hash(self.account, id))
            .collect();
        let mut known = None;
        for id in &hashes {
            if let Some(thread) = self.tables.threads.get(*id)? {
                known = Some(thread.value());
                break;
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

    fn remember(&mut self, key: DeliveryKey) -> Result<(), StoreError> {
        self.tables
            .deliveries
            .insert((key.queue_id, key.index), self.now)?;
        self.tables
            .delivered_at
            .insert((self.now, key.queue_id, key.index), ())?;
        let limit = self.now.saturating_sub(KEY_LIFETIME);
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

/// FNV-1a, seeded: two ids with one hash only put two conversations into one.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ seed;
    bytes.iter().fold(start, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
