//! A message in a segment: a header that tells all that is needed to put it back into an index,
//! then its octets, each with a checksum.

use mail_types::{EmailId, MailboxId};

use crate::operation::DeliveryKey;

/// `CRSG`, then the version.
pub(crate) const MAGIC: [u8; 4] = *b"CRS3";
/// The fixed part: magic, two lengths, two checksums.
pub(crate) const FIXED: usize = 24;
/// More than any header has; a larger length is damage.
pub(crate) const MAX_HEADER: usize = 8 * 1024;

/// What a record says of its message, as it was when it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) email_id: EmailId,
    pub(crate) mailbox_id: MailboxId,
    /// UIDVALIDITY of the mailbox.
    pub(crate) uid_validity: u32,
    pub(crate) uid: u32,
    pub(crate) flags: u64,
    pub(crate) internal_date: i64,
    pub(crate) internal_offset: i32,
    /// Unix time in seconds at which it came.
    pub(crate) saved: i64,
    pub(crate) key: Option<DeliveryKey>,
    pub(crate) mailbox: String,
}

impl RecordHeader {
    fn push(&self, out: &mut Vec<u8>) {
        out.extend(self.email_id.to_bytes());
        out.extend(self.mailbox_id.get().to_le_bytes());
        out.extend(self.uid_validity.to_le_bytes());
        out.extend(self.uid.to_le_bytes());
        out.extend(self.flags.to_le_bytes());
        out.extend(self.internal_date.to_le_bytes());
        out.extend(self.internal_offset.to_le_bytes());
        out.extend(self.saved.to_le_bytes());
        let key = self
            .key
            .map_or((0, 0, 0), |key| (1, key.queue_id, key.index));
        out.push(key.0);
        out.extend(key.1.to_le_bytes());
        out.extend(key.2.to_le_bytes());
        out.extend(self.mailbox.as_bytes());
    }

    /// `None` if the bytes are no header.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let email_id = EmailId::from(reader.array::<16>()?);
        let mailbox_id = reader.u64()?.into();
        let uid_validity = reader.u32()?;
        let uid = reader.u32()?;
        let flags = reader.u64()?;
        let internal_date = i64::from_le_bytes(reader.array()?);
        let internal_offset = i32::from_le_bytes(reader.array()?);
        let saved = i64::from_le_bytes(reader.array()?);
        let [has_key] = reader.array::<1>()?;
        let (queue_id, index) = (reader.u64()?, reader.u32()?);
        let key = (has_key == 1).then_some(DeliveryKey { queue_id, index });
        let mailbox = std::str::from_utf8(reader.0).ok()?.to_owned();
        Some(Self {
            email_id,
            mailbox_id,
            uid_validity,
            uid,
            flags,
            internal_date,
            internal_offset,
            saved,
            key,
            mailbox,
        })
    }
}

/// Takes little-endian numbers off the front of bytes.
#[derive(Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn slice(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()? as usize;
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    pub(crate) fn bytes(&mut self) -> Option<Vec<u8>> {
        self.slice().map(<[u8]>::to_vec)
    }
}

/// Octets of a header at most, beside the mailbox's name.
const HEADER: usize = 80;

/// Appends a whole record; the content comes in pieces that stand behind each other.
pub(crate) fn push_record(out: &mut Vec<u8>, header: &RecordHeader, content: &[&[u8]]) {
    let len: usize = content.iter().map(|piece| piece.len()).sum();
    let content_crc = content
        .iter()
        .fold(0, |crc, piece| crc32c::crc32c_append(crc, piece));
    out.reserve_exact(FIXED + HEADER + header.mailbox.len() + len);
    let start = out.len();
    out.extend([0; FIXED]);
    header.push(out);
    let header = out.get(start + FIXED..).unwrap_or_default();
    let header_len = u32::try_from(header.len()).unwrap_or(u32::MAX);
    let mut fixed = [0; FIXED];
    let (checked, crc) = fixed.split_at_mut(FIXED - 4);
    let values = MAGIC
        .into_iter()
        .chain(header_len.to_le_bytes())
        .chain((len as u64).to_le_bytes())
        .chain(content_crc.to_le_bytes());
    for (octet, value) in checked.iter_mut().zip(values) {
        *octet = value;
    }
    let header_crc = crc32c::crc32c_append(crc32c::crc32c(checked), header);
    crc.copy_from_slice(&header_crc.to_le_bytes());
    if let Some(place) = out.get_mut(start..start + FIXED) {
        place.copy_from_slice(&fixed);
    }
    for piece in content {
        out.extend_from_slice(piece);
    }
}

/// The fixed part of a record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fixed {
    pub(crate) header_len: usize,
    pub(crate) content_len: u64,
    pub(crate) content_crc: u32,
    header_crc: u32,
    without_crc: u32,
}

impl Fixed {
    pub(crate) fn parse(bytes: &[u8; FIXED]) -> Option<Self> {
        let mut reader = Reader(bytes);
        if reader.array::<4>()? != MAGIC {
            return None;
        }
        let header_len = reader.u32()? as usize;
        let content_len = reader.u64()?;
        let content_crc = reader.u32()?;
        let header_crc = reader.u32()?;
        if header_len > MAX_HEADER {
            return None;
        }
        let without_crc = crc32c::crc32c(bytes.get(..FIXED - 4)?);
        Some(Self {
            header_len,
            content_len,
            content_crc,
            header_crc,
            without_crc,
        })
    }

    /// The header, if it and the fixed part are what was written.
    pub(crate) fn header(&self, bytes: &[u8]) -> Option<RecordHeader> {
        if crc32c::crc32c_append(self.without_crc, bytes) != self.header_crc {
            return None;
        }
        RecordHeader::parse(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_damage() {
        let header = RecordHeader {
            email_id: [7; 16].into(),
            mailbox_id: 9.into(),
            uid_validity: 4,
            uid: 3,
            flags: 1,
            internal_date: -5,
            internal_offset: 60,
            saved: 7,
            key: Some(DeliveryKey {
                queue_id: 1,
                index: 2,
            }),
            mailbox: "INBOX".into(),
        };
        let mut out = Vec::new();
        push_record(&mut out, &header, &[b"ab", b"c"]);
        let fixed = Fixed::parse(out.first_chunk().unwrap()).unwrap();
        let body = FIXED + fixed.header_len;
        assert_eq!(fixed.header(&out[FIXED..body]).unwrap(), header);
        assert_eq!(&out[body..], b"abc");
        assert_eq!(fixed.content_crc, crc32c::crc32c(b"abc"));
        for at in 0..body {
            let mut bad = out.clone();
            bad[at] ^= 1;
            let fixed = Fixed::parse(bad.first_chunk().unwrap());
            let header = fixed.and_then(|f| f.header(bad.get(FIXED..FIXED + f.header_len)?));
            assert!(header.is_none() || at >= body, "{at}");
        }
    }
}
