//! Reading a file of records from its beginning, over damage if need be.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::StoreError;
use crate::record::{FIXED, Fixed, MAGIC, RecordHeader};
use crate::segment::Location;

/// Octets that are searched at a time for the next record.
const WINDOW: usize = 64 * 1024;

/// A record that was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) header: RecordHeader,
    /// Where it is, if the file is the segment 0.
    pub(crate) location: Location,
    /// `None` if the octets are not those that were written.
    pub(crate) content: Option<Vec<u8>>,
}

impl Found {
    /// Where the next record begins. A length that no file can have, which mail can hold behind
    /// octets that look like a record's beginning, ends where no file does.
    pub(crate) fn end(&self) -> u64 {
        let start = self.location.content_offset();
        start.saturating_add(self.location.content_len)
    }
}

/// A file of records.
#[derive(Debug)]
pub(crate) struct Records<'a> {
    path: &'a Path,
    file: File,
    len: u64,
}

impl<'a> Records<'a> {
    pub(crate) fn open(path: &'a Path) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(|error| StoreError::io(path, error))?;
        let metadata = file
            .metadata()
            .map_err(|error| StoreError::io(path, error))?;
        let len = metadata.len();
        Ok(Self { path, file, len })
    }

    pub(crate) fn path(&self) -> &Path {
        self.path
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The record at `offset`, or `None` if there is none whose header is what was written.
    pub(crate) fn at(&self, offset: u64) -> Result<Option<Found>, StoreError> {
        let Some(fixed) = self.read(offset, FIXED as u64)? else {
            return Ok(None);
        };
        let Some(fixed) = fixed.first_chunk().and_then(Fixed::parse) else {
            return Ok(None);
        };
        let header_len = fixed.header_len as u64;
        let Some(header) = self.read(offset + FIXED as u64, header_len)? else {
            return Ok(None);
        };
        let Some(header) = fixed.header(&header) else {
            return Ok(None);
        };
        let location = Location {
            segment: 0,
            offset,
            header_len: u32::try_from(FIXED + fixed.header_len).unwrap_or(u32::MAX),
            content_len: fixed.content_len,
        };
        let content = self
            .read(location.content_offset(), fixed.content_len)?
            .filter(|content| crc32c::crc32c(content) == fixed.content_crc);
        Ok(Some(Found {
            header,
            location,
            content,
        }))
    }

    /// Where to go on behind what was found at `offset`. Behind content that is not what was
    /// written, its length is not trusted: what looks like a record may stand in mail, with a
    /// length that leads past records which are whole.
    pub(crate) fn next_from(&self, offset: u64, found: Option<&Found>) -> Result<u64, StoreError> {
        match found {
            Some(found) if found.content.is_some() => Ok(found.end()),
            _ => Ok(self.next_mark(offset + 1)?.unwrap_or(self.len)),
        }
    }

    /// Where the next thing that looks like a record begins, at `from` or behind it.
    pub(crate) fn next_mark(&self, mut from: u64) -> Result<Option<u64>, StoreError> {
        let magic = MAGIC.len() as u64;
        while from + magic <= self.len {
            let len = (self.len - from).min(WINDOW as u64);
            let Some(window) = self.read(from, len)? else {
                return Ok(None);
            };
            let found = window.windows(MAGIC.len()).position(|bytes| bytes == MAGIC);
            if let Some(at) = found {
                return Ok(Some(from + at as u64));
            }
            // A mark can lie across two windows.
            from += (len + 1).saturating_sub(magic);
        }
        Ok(None)
    }

    /// Octets, or `None` if the file does not have so many.
    fn read(&self, offset: u64, len: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.len);
        let (true, Ok(len)) = (inside, usize::try_from(len)) else {
            return Ok(None);
        };
        let mut out = vec![0; len];
        self.file
            .read_exact_at(&mut out, offset)
            .map_err(|error| StoreError::io(self.path, error))?;
        Ok(Some(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::push_record;

    #[test]
    fn finds_what_is_behind_damage() {
        let header = |uid| RecordHeader {
            email_id: [1; 16].into(),
            mailbox_id: 1.into(),
            uid_validity: 1,
            uid,
            flags: 0,
            internal_date: 0,
            internal_offset: 0,
            saved: 0,
            key: None,
            mailbox: "INBOX".into(),
        };
        let mut bytes = Vec::new();
        push_record(&mut bytes, &header(1), &[&vec![b'a'; 2 * WINDOW - 90]]);
        let second = bytes.len() as u64;
        push_record(&mut bytes, &header(2), &[b"b"]);
        bytes[5] ^= 1;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, &bytes).unwrap();
        let records = Records::open(&path).unwrap();
        assert!(records.at(0).unwrap().is_none());
        assert_eq!(records.next_mark(1).unwrap(), Some(second));
        let found = records.at(second).unwrap().unwrap();
        assert_eq!((found.header.uid, found.end()), (2, records.len()));
        assert_eq!(records.next_mark(second + 1).unwrap(), None);
    }
}
