//! Reading: each read sees one committed state and waits for no writer.

use mail_types::{EmailId, Flags, MailboxId, Uid, UidSet};
use redb::{AccessGuard, ReadOnlyTable};

use crate::account::Account;
use crate::packed::{self, Lookup};
use crate::schema::{
    EMAILS, EmailRow, MESSAGES, MailboxRow, MessageRow, SUMMARIES, SpecialUse, decode_summary,
    email_id, email_key,
};
use crate::segment::Location;
use crate::{MessageState, Snapshot, StoreError, Target};

/// A mailbox in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxInfo {
    /// Its id.
    pub id: MailboxId,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub special_use: SpecialUse,
}

/// STATUS (RFC 3501 §6.3.10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxStatus {
    /// Its id.
    pub id: MailboxId,
    /// Messages.
    pub messages: u32,
    /// Messages that are recent to nobody so far.
    pub recent: u32,
    /// UIDNEXT.
    pub uid_next: u32,
    /// UIDVALIDITY.
    pub uid_validity: u32,
    /// Messages without `\Seen`.
    pub unseen: u32,
    /// Messages with `\Deleted`.
    pub deleted: u32,
    /// HIGHESTMODSEQ.
    pub highest_modseq: u64,
    /// Octets of all messages.
    pub size: u64,
}

/// What an account takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Messages in all mailboxes, each copy counted.
    pub messages: u64,
    /// Their octets.
    pub bytes: u64,
    /// Mailboxes.
    pub mailboxes: usize,
}

/// A message as the index knows it.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its UID.
    pub uid: Uid,
    /// Its flags.
    pub flags: Flags,
    /// Its MODSEQ.
    pub modseq: u64,
    /// Octets.
    pub size: u64,
    /// EMAILID.
    pub email_id: EmailId,
    /// Its thread in the account.
    pub thread: u64,
    /// Unix time in seconds.
    pub internal_date: i64,
    /// Minutes east.
    pub internal_offset: i32,
    /// Unix time in seconds.
    pub save_date: i64,
    /// The day of the `Date` field, as days since 1970-01-01.
    pub sent_day: Option<i32>,
    /// Octets of the header.
    pub header_len: u64,
    /// ENVELOPE as IMAP sends it; this and the next ones are empty if no summary was asked for.
    pub envelope: Vec<u8>,
    /// BODYSTRUCTURE.
    pub body_structure: Vec<u8>,
    /// BODY.
    pub body: Vec<u8>,
    /// `mail_message::PartIndex` in its stored form.
    pub parts: Vec<u8>,
    /// Common header fields.
    pub common_fields: Vec<u8>,
    location: Location,
}

/// Octets that are read at a time where messages lie behind each other.
const RUN: u64 = 1024 * 1024;
/// So many octets between two messages are read too, rather than to read twice.
const MAX_GAP: u64 = 16 * 1024;
/// So many rows are stepped over rather than looked up anew.
const MAX_SKIP: u64 = 8;

/// From so many summaries on the disk is told that most of an index is to be read.
const MANY: u64 = 256;

/// A summary as it lies in the index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rendered<'a> {
    /// ENVELOPE as IMAP sends it.
    pub envelope: &'a [u8],
    /// BODYSTRUCTURE.
    pub body_structure: &'a [u8],
    /// BODY.
    pub body: &'a [u8],
    /// `mail_message::PartIndex` in its stored form.
    pub parts: &'a [u8],
    /// Common header fields; empty where there are too many to keep.
    pub common_fields: &'a [u8],
}

/// Rows by ascending keys: messages of a mailbox mostly came in the order of their emails, so that
/// the next row is the next one of the table, and no way down the tree is needed.
struct Ahead {
    table: ReadOnlyTable<u64, &'static [u8]>,
    rows: Option<redb::Range<'static, u64, &'static [u8]>>,
    last: u64,
}

impl Ahead {
    fn new(table: ReadOnlyTable<u64, &'static [u8]>) -> Self {
        Self {
            table,
            rows: None,
            last: 0,
        }
    }

    fn get(&mut self, key: u64) -> Result<Option<AccessGuard<'static, &'static [u8]>>, StoreError> {
        if key <= self.last || key - self.last > MAX_SKIP {
            self.rows = None;
        }
        let rows = match &mut self.rows {
            Some(rows) => rows,
            None => self.rows.insert(self.table.range(key..)?),
        };
        for row in rows {
            let (found, value) = row?;
            self.last = found.value();
            if self.last >= key {
                return Ok((self.last == key).then_some(value));
            }
        }
        // Behind the last row: the next one is looked up.
        self.last = u64::MAX;
        Ok(None)
    }
}

impl Account {
    /// The messages of a mailbox that the index has.
    pub(crate) fn message_states(
        &self,
        id: u64,
        row: &MailboxRow,
    ) -> Result<Vec<MessageState>, StoreError> {
        let txn = self.index.read()?;
        let table = txn.open_table(MESSAGES)?;
        let mut messages = Vec::with_capacity(row.messages as usize);
        packed::each(&table, id, (0, u32::MAX), |uid, row: MessageRow| {
            messages.extend(Uid::new(uid).map(|uid| MessageState {
                uid,
                flags: row.flags,
                modseq: row.modseq,
                size: row.size,
            }));
            Ok(true)
        })?;
        Ok(messages)
    }

    /// A mailbox without its messages.
    pub(crate) fn snapshot(&self, id: u64, row: &MailboxRow) -> Snapshot {
        Snapshot {
            mailbox_id: id.into(),
            name: row.name.clone(),
            uid_validity: row.uid_validity,
            uid_next: row.uid_next,
            highest_modseq: row.highest_modseq,
            keywords: row.keywords.clone(),
            first_recent: None,
            epoch: self.epoch(),
            unchanged: false,
            messages: Vec::new(),
        }
    }

    /// All mailboxes in order of name, INBOX first.
    pub fn mailboxes(&self) -> Vec<MailboxInfo> {
        let state = self.state();
        let mut list: Vec<MailboxInfo> = state
            .mailboxes
            .iter()
            .map(|(id, row)| MailboxInfo {
                id: MailboxRow::id(*id),
                name: row.name.clone(),
                special_use: row.special_use,
            })
            .collect();
        list.sort_by(|a, b| (a.name != "INBOX", &a.name).cmp(&(b.name != "INBOX", &b.name)));
        list
    }

    /// Subscribed names in order.
    pub fn subscriptions(&self) -> Vec<String> {
        self.state().subscriptions.iter().cloned().collect()
    }

    /// A mailbox's keywords, or `None` if it is not there.
    pub fn keywords(&self, mailbox: MailboxId) -> Option<Vec<String>> {
        self.state()
            .mailboxes
            .get(&mailbox.get())
            .map(|row| row.keywords.clone())
    }

    /// A mailbox's counters, or `None` if it is not there.
    pub fn status(&self, target: &Target) -> Option<MailboxStatus> {
        let state = self.state();
        let id = state.find(target)?;
        let row = state.mailboxes.get(&id)?;
        Some(MailboxStatus {
            id: id.into(),
            messages: row.messages,
            recent: row
                .uid_next
                .saturating_sub(row.recent_from)
                .min(row.messages),
            uid_next: row.uid_next,
            uid_validity: row.uid_validity,
            unseen: row.unseen,
            deleted: row.deleted,
            highest_modseq: row.highest_modseq,
            size: row.size,
        })
    }

    /// What the account takes.
    pub fn usage(&self) -> Usage {
        let state = self.state();
        Usage {
            messages: state.counters.used_messages,
            bytes: state.counters.used_bytes,
            mailboxes: state.mailboxes.len(),
        }
    }

    /// Goes through messages in order of UID until `each` says false.
    pub fn read_messages(
        &self,
        mailbox: MailboxId,
        uids: &UidSet,
        with_summary: bool,
        mut each: impl FnMut(Message) -> bool,
    ) -> Result<(), StoreError> {
        self.scan_messages(mailbox, uids, with_summary, |mut message, rendered| {
            message.envelope = rendered.envelope.to_vec();
            message.body_structure = rendered.body_structure.to_vec();
            message.body = rendered.body.to_vec();
            message.parts = rendered.parts.to_vec();
            message.common_fields = rendered.common_fields.to_vec();
            each(message)
        })
    }

    /// The same without copying what the summary holds: it is lent, and the message's own fields
    /// for it are empty.
    pub fn scan_messages(
        &self,
        mailbox: MailboxId,
        uids: &UidSet,
        with_summary: bool,
        mut each: impl FnMut(Message, Rendered<'_>) -> bool,
    ) -> Result<(), StoreError> {
        let txn = self.read()?;
        let messages = txn.open_table(MESSAGES)?;
        let mut emails = Lookup::<EmailRow>::new(txn.open_table(EMAILS)?);
        let mut summaries = Ahead::new(txn.open_table(SUMMARIES)?);
        let mailbox = mailbox.get();
        if with_summary && self.is_much(mailbox, uids) {
            txn.will_be_read();
        }
        let mut one = |uid, row: MessageRow| -> Result<bool, StoreError> {
            let lost = || StoreError::Engine(format!("email {} is not there", row.email));
            let email = emails.get(email_key(row.email))?.ok_or_else(lost)?;
            let Some(uid) = Uid::new(uid) else {
                return Ok(true);
            };
            let message = self.message(uid, &row, &email);
            Ok(if with_summary {
                let summary = summaries.get(row.email)?.ok_or_else(lost)?;
                each(message, decode_summary(summary.value())?)
            } else {
                each(message, Rendered::default())
            })
        };
        for (low, high) in uids.ranges() {
            let mut goes_on = true;
            packed::each(&messages, mailbox, (low.get(), high.get()), |uid, row| {
                goes_on = one(uid, row)?;
                Ok(goes_on)
            })?;
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    /// Are the summaries of these much of the index? They lie in it in no order, so that a disk reads
    /// all of it sooner than them one by one.
    fn is_much(&self, mailbox: u64, uids: &UidSet) -> bool {
        let state = self.state();
        let all = state.counters.used_messages;
        let inside = state.mailboxes.get(&mailbox).map_or(0, |row| row.messages);
        let named = uids.ranges().iter().fold(0_u64, |sum, (low, high)| {
            sum + u64::from(high.get() - low.get()) + 1
        });
        let wanted = named.min(inside.into());
        wanted >= MANY && wanted >= all / 4
    }

    fn message(&self, uid: Uid, row: &MessageRow, email: &EmailRow) -> Message {
        Message {
            uid,
            flags: row.flags,
            modseq: row.modseq,
            size: row.size,
            email_id: email_id(self.id().get(), row.email),
            thread: email.thread,
            internal_date: row.internal_date,
            internal_offset: row.internal_offset,
            save_date: row.save_date,
            sent_day: email.sent_day,
            header_len: email.header_len,
            envelope: Vec::new(),
            body_structure: Vec::new(),
            body: Vec::new(),
            parts: Vec::new(),
            common_fields: Vec::new(),
            location: email.location,
        }
    }

    /// Reads whole messages, neighbours with one call, and gives each one's octets or why there
    /// are none, until `each` says false. `buffer` is kept from call to call; it holds at most
    /// 1 MiB, or one message.
    pub fn read_contents(
        &self,
        messages: &[Message],
        buffer: &mut Vec<u8>,
        mut each: impl FnMut(usize, Result<&[u8], StoreError>) -> bool,
    ) -> Result<(), StoreError> {
        let mut at = 0;
        while let Some(first) = messages.get(at) {
            let start = first.location.offset;
            let mut end = first.location.end();
            let mut count = 1;
            for next in messages.get(at + 1..).unwrap_or_default() {
                let next = next.location;
                if next.segment != first.location.segment
                    || next.offset < end
                    || next.offset - end > MAX_GAP
                    || next.end() - start > RUN
                {
                    break;
                }
                end = next.end();
                count += 1;
            }
            let run = messages.get(at..at + count).unwrap_or_default();
            let read = self
                .segments
                .read_run(first.location.segment, start, end - start, buffer);
            match read {
                Ok(octets) => {
                    for (place, message) in run.iter().enumerate() {
                        let content = self.segments.checked(message.location, start, octets);
                        if !each(at + place, content) {
                            return Ok(());
                        }
                    }
                }
                // One of them is damaged; which one shows when they are read one by one.
                Err(StoreError::Damaged { .. }) => {
                    for (place, message) in run.iter().enumerate() {
                        let content = self.segments.read_checked(message.location);
                        let goes_on = match content {
                            Ok(content) => each(at + place, Ok(&content)),
                            Err(error) => each(at + place, Err(error)),
                        };
                        if !goes_on {
                            return Ok(());
                        }
                    }
                }
                Err(error) => return Err(error),
            }
            at += count;
        }
        Ok(())
    }

    /// Compares a message with its checksum. For those that are read in pieces; see
    /// [`Self::read_content`].
    pub fn verify_content(&self, message: &Message) -> Result<(), StoreError> {
        self.at_its_place(message, |location| self.segments.verify(location))
    }

    /// Octets of a message from `offset` on, at most `len`. A message read whole is compared with
    /// its checksum.
    pub fn read_content(
        &self,
        message: &Message,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, StoreError> {
        self.at_its_place(message, |location| {
            if offset == 0 && len as u64 >= message.size {
                return self.segments.read_checked(location);
            }
            self.segments.read(location, offset, len)
        })
    }

    /// A message may have been moved to another segment since it was looked up, and the old one is
    /// gone then.
    fn at_its_place<T>(
        &self,
        message: &Message,
        read: impl Fn(Location) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match read(message.location) {
            Err(StoreError::Damaged { .. }) => {}
            result => return result,
        }
        let location = self.where_now(message)?;
        read(location.unwrap_or(message.location))
    }
}
