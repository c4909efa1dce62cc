//! Many small messages in two values: what the engine does costs about the same for each value,
//! however small it is.
//!
//! One value has the records with a table in front, the other the contents, one behind the other.
//! So whoever reads records reads no content. Each part is checked by itself: one message is read
//! without summing up the others.

use bytes::Bytes;
use mail_types::QueueId;

use crate::codec::{decode_head, encode_head};
use crate::message::Message;
use crate::store::StoreError;

/// The most octets of content in one pack; like every other value it is at most 64 KiB.
const MAX_CONTENT: usize = 60 * 1024;
/// The most messages in one pack.
pub(super) const MAX_MESSAGES: usize = 256;
/// The largest content that goes into a pack: at least three share one.
const LARGEST: usize = 20 * 1024;
/// The largest record: what is beyond has long reports of many recipients.
const LARGEST_RECORD: usize = 4 * 1024;

const VERSION: u8 = 1;
/// Version, number of messages, sum of the table.
const HEADER: usize = 7;
/// Id, octets of the record, octets of the content, sum of the content.
const ROW: usize = 20;

/// A pack that is being filled.
#[derive(Debug, Default)]
pub(super) struct Builder {
    table: Vec<u8>,
    records: Vec<u8>,
    content: Vec<u8>,
    count: usize,
}

impl Builder {
    /// The record if the message may go into a pack at all.
    pub(super) fn record(message: &Message, content: usize) -> Option<Vec<u8>> {
        if content > LARGEST || message.recipients.len() > crate::codec::PAGE {
            return None;
        }
        Some(encode_head(message)).filter(|record| record.len() <= LARGEST_RECORD)
    }

    pub(super) fn has_room(&self, content: usize) -> bool {
        self.count < MAX_MESSAGES && self.content.len() + content <= MAX_CONTENT
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Adds a message. There has to be room.
    pub(super) fn push(&mut self, id: QueueId, record: &[u8], content: &[Bytes]) {
        let start = self.content.len();
        for piece in content {
            self.content.extend_from_slice(piece);
        }
        let added = self.content.get(start..).unwrap_or_default();
        let len = |octets: &[u8]| u32::try_from(octets.len()).unwrap_or(u32::MAX);
        self.table.extend_from_slice(&id.get().to_le_bytes());
        self.table.extend_from_slice(&len(record).to_le_bytes());
        self.table.extend_from_slice(&len(added).to_le_bytes());
        self.table
            .extend_from_slice(&crc32c::crc32c(added).to_le_bytes());
        self.records.extend_from_slice(record);
        self.count += 1;
    }

    /// The value with the records, and that with the contents.
    pub(super) fn finish(self) -> (Vec<u8>, Vec<u8>) {
        let count = u16::try_from(self.count).unwrap_or(u16::MAX).to_le_bytes();
        let sum = table_sum(count, &self.table);
        let mut value = Vec::with_capacity(HEADER + self.table.len() + self.records.len());
        value.push(VERSION);
        value.extend_from_slice(&count);
        value.extend_from_slice(&sum.to_le_bytes());
        value.extend_from_slice(&self.table);
        value.extend_from_slice(&self.records);
        (value, self.content)
    }
}

fn table_sum(count: [u8; 2], table: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&count), table)
}

/// The value with the records.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pack<'a> {
    table: &'a [u8],
    records: &'a [u8],
}

/// One message of a pack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member<'a> {
    pub(super) id: QueueId,
    record: &'a [u8],
    content_start: usize,
    content_len: usize,
    content_sum: u32,
}

impl<'a> Pack<'a> {
    /// Reads the table; `None` if it is not what was written.
    pub(super) fn read(value: &'a [u8]) -> Option<Self> {
        let (header, rest) = value.split_at_checked(HEADER)?;
        let &[VERSION, low, high, ref sum @ ..] = header else {
            return None;
        };
        let count = usize::from(u16::from_le_bytes([low, high]));
        let (table, records) = rest.split_at_checked(count * ROW)?;
        (*sum == table_sum([low, high], table).to_le_bytes()).then_some(Self { table, records })
    }

    /// The messages in the order of their places.
    pub(super) fn members(self) -> impl Iterator<Item = Member<'a>> {
        let (mut record_start, mut content_start) = (0, 0);
        self.table.chunks_exact(ROW).map(move |row| {
            let word = |at: usize| {
                let bytes = row.get(at..at + 4).and_then(|b| b.try_into().ok());
                u32::from_le_bytes(bytes.unwrap_or_default())
            };
            let id = row.get(..8).and_then(|b| b.try_into().ok());
            let (record_len, content_len) = (word(8) as usize, word(12) as usize);
            let record = self.records.get(record_start..record_start + record_len);
            let member = Member {
                id: u64::from_le_bytes(id.unwrap_or_default()).into(),
                // One that is cut fails its own check.
                record: record.unwrap_or_default(),
                content_start,
                content_len,
                content_sum: word(16),
            };
            record_start += record_len;
            content_start += content_len;
            member
        })
    }

    pub(super) fn member(self, slot: u16) -> Option<Member<'a>> {
        self.members().nth(slot.into())
    }
}

impl Member<'_> {
    pub(super) fn message(&self) -> Result<Message, StoreError> {
        let (message, total) = decode_head(self.id, self.record)?;
        if message.recipients.len() == total {
            Ok(message)
        } else {
            Err(self.damaged("recipients"))
        }
    }

    /// Its part of the value with the contents.
    pub(super) fn content<'b>(&self, value: &'b [u8]) -> Result<&'b [u8], StoreError> {
        let end = self.content_start + self.content_len;
        value
            .get(self.content_start..end)
            .filter(|content| crc32c::crc32c(content) == self.content_sum)
            .ok_or_else(|| self.damaged("content"))
    }

    fn damaged(&self, what: &'static str) -> StoreError {
        StoreError::Damaged { id: self.id, what }
    }
}
