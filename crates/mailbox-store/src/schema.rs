//! The index's tables and the form of their values. Numbers are little-endian.

use mail_types::{AccountId, EmailId, Flags, MailboxId};
use redb::TableDefinition;

use crate::StoreError;
use crate::packed::{PackedTable, Row};
use crate::read::Rendered;
use crate::record::Reader;
use crate::segment::Location;

/// Counters by name, see [`meta`].
pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Mailbox id → [`MailboxRow`].
pub(crate) const MAILBOXES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("mailboxes");
/// Subscribed names.
pub(crate) const SUBSCRIPTIONS: TableDefinition<'_, &str, ()> =
    TableDefinition::new("subscriptions");
/// Mailbox id and UID → [`MessageRow`]: packed, since opening a mailbox reads all of them.
pub(crate) const MESSAGES: PackedTable = TableDefinition::new("messages");
/// Email id, in two parts by [`email_key`] → [`EmailRow`], packed.
pub(crate) const EMAILS: PackedTable = TableDefinition::new("emails");
/// Email id → the summary, see [`encode_summary`].
pub(crate) const SUMMARIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("summaries");
/// Queue id and recipient index of what was delivered → Unix time in seconds.
pub(crate) const DELIVERIES: TableDefinition<'_, (u64, u32), i64> =
    TableDefinition::new("deliveries");
/// The same by time, so that old ones are found.
pub(crate) const DELIVERED_AT: TableDefinition<'_, (i64, u64, u32), ()> =
    TableDefinition::new("delivered_at");
/// Hash of a message id → thread id.
pub(crate) const THREADS: TableDefinition<'_, u64, u64> = TableDefinition::new("threads");

/// Names in [`META`].
pub(crate) mod meta {
    /// The form of the index; another number is another program's.
    pub(crate) const VERSION: &str = "version";
    /// The next email number; the account's id and it make the EMAILID.
    pub(crate) const NEXT_EMAIL: &str = "next_email";
    /// The next mailbox id.
    pub(crate) const NEXT_MAILBOX: &str = "next_mailbox";
    /// The next thread id.
    pub(crate) const NEXT_THREAD: &str = "next_thread";
    /// The last UIDVALIDITY given out.
    pub(crate) const UID_VALIDITY: &str = "uid_validity";
    /// The segment that is written to.
    pub(crate) const SEGMENT: &str = "segment";
    /// How much of it counts.
    pub(crate) const SEGMENT_END: &str = "segment_end";
    /// The last operation of the journal that the index has.
    pub(crate) const APPLIED: &str = "applied";
    /// Octets of all messages, copies counted each.
    pub(crate) const USED_BYTES: &str = "used_bytes";
    /// Messages in all mailboxes.
    pub(crate) const USED_MESSAGES: &str = "used_messages";
}

/// The form that this program writes.
pub(crate) const VERSION: u64 = 2;

/// What a mailbox is for (RFC 6154 §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SpecialUse {
    /// Nothing special.
    #[default]
    None,
    /// `\Archive`
    Archive,
    /// `\Drafts`
    Drafts,
    /// `\Flagged`
    Flagged,
    /// `\Junk`
    Junk,
    /// `\Sent`
    Sent,
    /// `\Trash`
    Trash,
}

impl SpecialUse {
    const ALL: [Self; 7] = [
        Self::None,
        Self::Archive,
        Self::Drafts,
        Self::Flagged,
        Self::Junk,
        Self::Sent,
        Self::Trash,
    ];

    fn code(self) -> u8 {
        let at = Self::ALL.iter().position(|known| *known == self);
        at.and_then(|at| u8::try_from(at).ok()).unwrap_or(0)
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

/// A mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MailboxRow {
    pub(crate) name: String,
    pub(crate) special_use: SpecialUse,
    pub(crate) uid_validity: u32,
    pub(crate) uid_next: u32,
    pub(crate) highest_modseq: u64,
    /// UIDs from here on are recent to the next session that claims them.
    pub(crate) recent_from: u32,
    pub(crate) messages: u32,
    pub(crate) unseen: u32,
    pub(crate) deleted: u32,
    pub(crate) size: u64,
    pub(crate) keywords: Vec<String>,
}

/// A message in a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MessageRow {
    pub(crate) flags: Flags,
    pub(crate) modseq: u64,
    pub(crate) size: u64,
    pub(crate) email: u64,
    pub(crate) internal_date: i64,
    pub(crate) internal_offset: i32,
    pub(crate) save_date: i64,
}

/// A message content, however many mailboxes it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EmailRow {
    pub(crate) location: Location,
    pub(crate) references: u32,
    pub(crate) thread: u64,
    /// Day of the `Date` field as days since 1970-01-01, if there is one.
    pub(crate) sent_day: Option<i32>,
    /// Octets of the header.
    pub(crate) header_len: u64,
}

/// The EMAILID (RFC 8474): the account's id, then the email's number in it.
pub(crate) fn email_id(account: u64, email: u64) -> EmailId {
    let value = (u128::from(account) << 64) | u128::from(email);
    EmailId::from(value.to_be_bytes())
}

/// The account in an EMAILID, and the email's number in it.
pub(crate) fn account_of(id: EmailId) -> AccountId {
    number_in(id, 0).into()
}

/// An email's key in its table.
pub(crate) fn email_key(email: u64) -> (u64, u32) {
    let low = email & u64::from(u32::MAX);
    (email >> 32, u32::try_from(low).unwrap_or(u32::MAX))
}

/// The email that has the key.
pub(crate) fn email_of((high, low): (u64, u32)) -> u64 {
    (high << 32) | u64::from(low)
}

/// See [`account_of`].
pub(crate) fn number_of(id: EmailId) -> u64 {
    number_in(id, 8)
}

fn number_in(id: EmailId, at: usize) -> u64 {
    let bytes = id.to_bytes();
    let half = bytes.get(at..).and_then(<[u8]>::first_chunk);
    half.map_or(0, |half| u64::from_be_bytes(*half))
}

impl MailboxRow {
    /// A mailbox that never had mail.
    pub(crate) fn empty(name: String, special_use: SpecialUse, uid_validity: u32) -> Self {
        Self {
            name,
            special_use,
            uid_validity,
            uid_next: 1,
            highest_modseq: 1,
            recent_from: 1,
            messages: 0,
            unseen: 0,
            deleted: 0,
            size: 0,
            keywords: Vec::new(),
        }
    }

    pub(crate) fn id(raw: u64) -> MailboxId {
        raw.into()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        out.push(self.special_use.code());
        for number in [self.uid_validity, self.uid_next, self.recent_from] {
            out.extend(number.to_le_bytes());
        }
        for number in [self.messages, self.unseen, self.deleted] {
            out.extend(number.to_le_bytes());
        }
        out.extend(self.highest_modseq.to_le_bytes());
        out.extend(self.size.to_le_bytes());
        push_bytes(&mut out, self.name.as_bytes());
        for keyword in &self.keywords {
            push_bytes(&mut out, keyword.as_bytes());
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        Self::parse(&mut Reader(bytes)).ok_or_else(|| damaged("mailbox"))
    }

    fn parse(reader: &mut Reader<'_>) -> Option<Self> {
        let [special_use] = reader.array::<1>()?;
        let (uid_validity, uid_next, recent_from) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let (messages, unseen, deleted) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let (highest_modseq, size) = (reader.u64()?, reader.u64()?);
        let name = String::from_utf8(reader.bytes()?).ok()?;
        let mut keywords = Vec::new();
        while !reader.0.is_empty() {
            keywords.push(String::from_utf8(reader.bytes()?).ok()?);
        }
        Some(Self {
            name,
            special_use: SpecialUse::from_code(special_use)?,
            uid_validity,
            uid_next,
            highest_modseq,
            recent_from,
            messages,
            unseen,
            deleted,
            size,
            keywords,
        })
    }
}

impl Row for MessageRow {
    const NAME: &'static str = "message";
    const LEN: usize = 52;
    // 14 KiB, of which a page of 16 has room for.
    const PER_BLOCK: usize = 256;

    fn write(&self, out: &mut Vec<u8>) {
        for value in [
            self.flags.bits(),
            self.modseq,
            self.size,
            self.email,
            self.internal_date.cast_unsigned(),
            self.save_date.cast_unsigned(),
        ] {
            out.extend(value.to_le_bytes());
        }
        out.extend(self.internal_offset.to_le_bytes());
    }

    fn read(octets: &[u8]) -> Option<Self> {
        let mut reader = Reader(octets);
        Some(Self {
            flags: reader.u64()?.into(),
            modseq: reader.u64()?,
            size: reader.u64()?,
            email: reader.u64()?,
            internal_date: reader.u64()?.cast_signed(),
            save_date: reader.u64()?.cast_signed(),
            internal_offset: i32::from_le_bytes(reader.array()?),
        })
    }
}

impl Row for EmailRow {
    const NAME: &'static str = "email";
    const LEN: usize = 49;
    // One page of 4 KiB.
    const PER_BLOCK: usize = 72;

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.location.segment.to_le_bytes());
        out.extend(self.location.offset.to_le_bytes());
        out.extend(self.location.header_len.to_le_bytes());
        out.extend(self.location.content_len.to_le_bytes());
        out.extend(self.references.to_le_bytes());
        out.extend(self.thread.to_le_bytes());
        out.extend(self.header_len.to_le_bytes());
        out.push(self.sent_day.is_some().into());
        out.extend(self.sent_day.unwrap_or(0).to_le_bytes());
    }

    fn read(octets: &[u8]) -> Option<Self> {
        let mut reader = Reader(octets);
        let location = Location {
            segment: reader.u32()?,
            offset: reader.u64()?,
            header_len: reader.u32()?,
            content_len: reader.u64()?,
        };
        let references = reader.u32()?;
        let thread = reader.u64()?;
        let header_len = reader.u64()?;
        let [has_day] = reader.array::<1>()?;
        let day = i32::from_le_bytes(reader.array()?);
        let sent_day = (has_day == 1).then_some(day);
        Some(Self {
            location,
            references,
            thread,
            sent_day,
            header_len,
        })
    }
}

pub(crate) fn encode_summary(summary: &mail_message::Summary) -> Vec<u8> {
    let pieces = [
        &summary.envelope,
        &summary.body_structure,
        &summary.body,
        &summary.parts,
        &summary.common_fields,
    ];
    let mut out = Vec::with_capacity(pieces.iter().map(|piece| piece.len() + 4).sum());
    for piece in pieces {
        push_bytes(&mut out, piece);
    }
    out
}

pub(crate) fn decode_summary(bytes: &[u8]) -> Result<Rendered<'_>, StoreError> {
    let mut reader = Reader(bytes);
    let mut piece = || reader.slice().ok_or_else(|| damaged("summary"));
    Ok(Rendered {
        envelope: piece()?,
        body_structure: piece()?,
        body: piece()?,
        parts: piece()?,
        common_fields: piece()?,
    })
}

pub(crate) fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend(bytes);
}

fn damaged(what: &str) -> StoreError {
    StoreError::Engine(format!("a {what} row does not parse"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_round_trip() {
        let mailbox = MailboxRow {
            name: "Ärger/x".into(),
            special_use: SpecialUse::Trash,
            uid_validity: 1,
            uid_next: 2,
            highest_modseq: 3,
            recent_from: 4,
            messages: 5,
            unseen: 6,
            deleted: 7,
            size: 8,
            keywords: vec!["$a".into(), "b".into()],
        };
        assert_eq!(MailboxRow::decode(&mailbox.encode()).unwrap(), mailbox);
        let message = MessageRow {
            flags: 1.into(),
            modseq: 2,
            size: 3,
            email: 4,
            internal_date: -5,
            internal_offset: -60,
            save_date: 6,
        };
        let mut octets = Vec::new();
        message.write(&mut octets);
        assert_eq!(octets.len(), MessageRow::LEN);
        assert_eq!(MessageRow::read(&octets).unwrap(), message);
        let location = Location {
            segment: 1,
            offset: 2,
            header_len: 3,
            content_len: 4,
        };
        let email = EmailRow {
            location,
            references: 5,
            thread: 6,
            sent_day: Some(-7),
            header_len: 8,
        };
        let mut octets = Vec::new();
        email.write(&mut octets);
        assert_eq!(octets.len(), EmailRow::LEN);
        assert_eq!(EmailRow::read(&octets).unwrap(), email);
        assert!(EmailRow::read(&[1, 2]).is_none());
        let number = 7 << 32 | 9;
        assert_eq!(email_of(email_key(number)), number);
    }
}
