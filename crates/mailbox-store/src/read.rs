//! Reading: each read sees one committed state and waits for no writer.

use mail_types::{EmailId, Flags, MailboxId, Uid, UidSet};
use redb::ReadableDatabase;

use crate::account::Account;
use crate::schema::{
    EMAILS, EmailRow, MESSAGES, MailboxRow, MessageRow, SUMMARIES, SpecialUse, SummaryRow,
    decode_summary, email_id,
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

impl Account {
    pub(crate) fn snapshot(&self, id: u64, row: &MailboxRow) -> Result<Snapshot, StoreError> {
        let txn = self.db.begin_read()?;
        let table = txn.open_table(MESSAGES)?;
        let mut messages = Vec::with_capacity(row.messages as usize);
        for entry in table.range((id, 0)..=(id, u32::MAX))? {
            let (key, value) = entry?;
            let message = MessageRow::decode(value.value())?;
            messages.extend(Uid::new(key.value().1).map(|uid| MessageState {
                uid,
                flags: message.flags,
                modseq: message.modseq,
                size: message.size,
            }));
        }
        Ok(Snapshot {
            mailbox_id: id.into(),
            name: row.name.clone(),
            uid_validity: row.uid_validity,
            uid_next: row.uid_next,
            highest_modseq: row.highest_modseq,
            keywords: row.keywords.clone(),
            first_recent: None,
            messages,
        })
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
        let txn = self.read()?;
        let messages = txn.open_table(MESSAGES)?;
        let emails = txn.open_table(EMAILS)?;
        let summaries = txn.open_table(SUMMARIES)?;
        let mailbox = mailbox.get();
        for (low, high) in uids.ranges() {
            for entry in messages.range((mailbox, low.get())..=(mailbox, high.get()))? {
                let (key, value) = entry?;
                let row = MessageRow::decode(value.value())?;
                let lost = || StoreError::Engine(format!("email {} is not there", row.email));
                let email = emails.get(row.email)?.ok_or_else(lost)?;
                let email = EmailRow::decode(email.value())?;
                let summary = if with_summary {
                    decode_summary(summaries.get(row.email)?.ok_or_else(lost)?.value())?
                } else {
                    SummaryRow::default()
                };
                let Some(uid) = Uid::new(key.value().1) else {
                    continue;
                };
                if !each(self.message(uid, &row, &email, summary)) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn message(
        &self,
        uid: Uid,
        row: &MessageRow,
        email: &EmailRow,
        summary: SummaryRow,
    ) -> Message {
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
            envelope: summary.envelope,
            body_structure: summary.body_structure,
            body: summary.body,
            parts: summary.parts,
            common_fields: summary.common_fields,
            location: email.location,
        }
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
