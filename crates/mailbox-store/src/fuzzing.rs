//! What the fuzz targets need of the files' format; only there with `--cfg fuzzing`.

use std::path::Path;

use crate::StoreError;
use crate::journal;
use crate::operation::DeliveryKey;
use crate::record::{FIXED, RecordHeader, push_record};
use crate::scan::Records;
use crate::schema::{email_id, number_of};

/// The account that all records are of.
const ACCOUNT: u64 = 7;

/// What differs between records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The email's number.
    pub email: u64,
    /// Its UID.
    pub uid: u32,
    /// Queue id and index of the delivery.
    pub key: Option<(u64, u32)>,
    /// The mailbox's name.
    pub mailbox: String,
    /// The message.
    pub content: Vec<u8>,
}

impl Record {
    fn header(&self) -> RecordHeader {
        RecordHeader {
            email_id: email_id(ACCOUNT, self.email),
            mailbox_id: 1.into(),
            uid_validity: 5,
            uid: self.uid,
            flags: 3,
            internal_date: 1_700_000_000,
            internal_offset: 60,
            saved: 1_700_000_000,
            key: self
                .key
                .map(|(queue_id, index)| DeliveryKey { queue_id, index }),
            mailbox: self.mailbox.clone(),
        }
    }
}

/// A file of records, and where each begins; last its end.
pub fn write(records: &[Record]) -> (Vec<u8>, Vec<usize>) {
    let mut file = Vec::new();
    let mut starts = vec![0];
    for record in records {
        push_record(&mut file, &record.header(), &[&record.content]);
        starts.push(file.len());
    }
    (file, starts)
}

/// What looks like a record of ours: the header's checksum is right, the content's length is what
/// the second to ninth octet say, and the octets themselves follow.
pub fn forge(content: &[u8]) -> Vec<u8> {
    let record = Record {
        email: 1000,
        uid: 1000,
        key: None,
        mailbox: "forged".to_owned(),
        content: content.to_vec(),
    };
    let (mut file, _) = write(&[record]);
    let mut len = [0; 8];
    for (to, from) in len.iter_mut().zip(content.iter().skip(1)) {
        *to = *from;
    }
    let header_end = file.len() - content.len();
    if let Some(place) = file.get_mut(8..16) {
        place.copy_from_slice(&len);
    }
    let sum = file.get(..FIXED - 4).map_or(0, crc32c::crc32c);
    let sum = crc32c::crc32c_append(sum, file.get(FIXED..header_end).unwrap_or_default());
    if let Some(place) = file.get_mut(FIXED - 4..FIXED) {
        place.copy_from_slice(&sum.to_le_bytes());
    }
    file
}

/// The whole records of a file, walked over as a rebuild does, and where each begins.
pub fn scan(path: &Path) -> Result<Vec<(u64, Record)>, StoreError> {
    let records = Records::open(path)?;
    let mut whole = Vec::new();
    let mut offset = 0;
    while offset < records.len() {
        let found = records.at(offset)?;
        let next = records.next_from(offset, found.as_ref())?;
        assert!(next > offset, "it goes backwards");
        if let Some(found) = found
            && let Some(content) = found.content
        {
            let header = found.header;
            whole.push((
                offset,
                Record {
                    email: number_of(header.email_id),
                    uid: header.uid,
                    key: header.key.map(|key| (key.queue_id, key.index)),
                    mailbox: header.mailbox,
                    content,
                },
            ));
        }
        offset = next;
    }
    Ok(whole)
}

/// How many entries the journal `00000001.journal` in a folder is taken to have after a crash.
pub fn journal(folder: &Path) -> Result<usize, StoreError> {
    journal::count(folder, 1)
}
