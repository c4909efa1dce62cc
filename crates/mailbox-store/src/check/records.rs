//! The segments read from their beginning to their end, and compared with the index.

use std::collections::BTreeMap;

use mail_types::Uid;

use super::index::Emails;
use crate::account::Account;
use crate::maintain::Told;
use crate::packed::{self, Lookup};
use crate::scan::Records;
use crate::schema::{
    EMAILS, EmailRow, MAILBOXES, MESSAGES, MailboxRow, MessageRow, email_key, number_of,
};
use crate::segment::{Location, numbers};
use crate::{StoreError, scan};

/// Emails with what is wrong with them.
pub(crate) type Damaged = BTreeMap<u64, String>;

/// Records that the index points at, by where they begin.
type Wanted = BTreeMap<u64, (u64, EmailRow)>;

/// `end` is the last segment and how much of it counts. Reading each segment once, in order, is
/// what a disk does best.
pub(crate) fn check(
    account: &Account,
    emails: &Emails,
    (last, end): (u32, u64),
    told: &mut Told<'_, '_>,
) -> Result<Damaged, StoreError> {
    let mut wanted: BTreeMap<u32, Wanted> = BTreeMap::new();
    for (email, row) in emails {
        let of_segment = wanted.entry(row.location.segment).or_default();
        of_segment.insert(row.location.offset, (*email, *row));
    }
    let mut damaged = Damaged::new();
    let segments: Vec<u32> = numbers(&account.folder().join("segments"))?
        .into_iter()
        .filter(|number| *number <= last)
        .collect();
    let len = |number: &u32| {
        let metadata = std::fs::metadata(account.segments.path(*number));
        metadata.map_or(0, |metadata| metadata.len())
    };
    told.expect(segments.iter().map(len).sum());
    for number in segments {
        let wanted = wanted.remove(&number).unwrap_or_default();
        let path = account.segments.path(number);
        let records = match Records::open(&path) {
            Ok(records) => records,
            // Given back while this goes on: the index says where its messages are now.
            Err(_) if !path.exists() => {
                let gone = wanted.values().map(|(email, _)| *email);
                damaged.extend(gone.map(|email| (email, gone_segment(number))));
                continue;
            }
            Err(error) => return Err(error),
        };
        let limit = if number == last { end } else { records.len() };
        Walk {
            records: &records,
            limit: limit.min(records.len()),
            wanted,
            damaged: &mut damaged,
            told,
        }
        .run()?;
        if told.is_stopped() {
            return Ok(Damaged::new());
        }
    }
    for (number, wanted) in wanted {
        let lost = wanted.values().map(|(email, _)| *email);
        damaged.extend(lost.map(|email| (email, gone_segment(number))));
    }
    Ok(damaged)
}

fn gone_segment(number: u32) -> String {
    format!("the segment {number} is not there")
}

struct Walk<'w, 'a, 'b, 'c> {
    records: &'w Records<'w>,
    limit: u64,
    wanted: Wanted,
    damaged: &'w mut Damaged,
    told: &'a mut Told<'b, 'c>,
}

impl Walk<'_, '_, '_, '_> {
    fn run(mut self) -> Result<(), StoreError> {
        let mut offset = 0;
        while offset < self.limit && !self.told.is_stopped() {
            let next = match self.records.at(offset)? {
                Some(found) if found.end() <= self.records.len() => {
                    self.compare(offset, &found);
                    match found.content {
                        Some(_) => found.end(),
                        None => self.skip(offset)?,
                    }
                }
                _ => self.skip(offset)?,
            };
            self.told.read(next - offset);
            offset = next;
        }
        for (at, (email, _)) in std::mem::take(&mut self.wanted) {
            self.damaged
                .insert(email, format!("there is no whole record at {at}"));
        }
        Ok(())
    }

    /// What the index says of the record, if it says anything.
    fn compare(&mut self, offset: u64, found: &scan::Found) {
        let Some((email, row)) = self.wanted.remove(&offset) else {
            if found.content.is_none() {
                let path = self.records.path().display();
                self.told.note(format!(
                    "{path}: the record at {offset} is damaged; no message needs it"
                ));
            }
            return;
        };
        let location = found.location;
        let is_other = location.header_len != row.location.header_len
            || location.content_len != row.location.content_len
            || number_of(found.header.email_id) != email;
        if is_other {
            let what = format!("the record at {offset} is another than the index says");
            self.damaged.insert(email, what);
        } else if found.content.is_none() {
            let what =
                format!("the record at {offset} is damaged: the content's checksum is wrong");
            self.damaged.insert(email, what);
        }
    }

    /// Over octets that are no record, to where the next one is or should be.
    fn skip(&self, offset: u64) -> Result<u64, StoreError> {
        let mark = self.records.next_mark(offset + 1)?;
        let known = self.wanted.range(offset + 1..).next().map(|(at, _)| *at);
        let next = mark.into_iter().chain(known).min();
        Ok(next.unwrap_or(self.limit).min(self.limit).max(offset + 1))
    }
}

/// Where an email is: mailboxes' names and UIDs.
pub(crate) type Places = Vec<(String, Uid)>;

impl Account {
    /// Those of which the index still says the same: mail may be expunged or moved to another
    /// segment while all is read. With a sentence for people.
    pub(crate) fn name_damaged(
        &self,
        damaged: &Damaged,
    ) -> Result<BTreeMap<u64, (String, Places)>, StoreError> {
        let mut named = BTreeMap::new();
        if damaged.is_empty() {
            return Ok(named);
        }
        let txn = self.index.read()?;
        let mut emails = Lookup::<EmailRow>::new(txn.open_table(EMAILS)?);
        let mailboxes = txn.open_table(MAILBOXES)?;
        let mut places: BTreeMap<u64, Places> = BTreeMap::new();
        packed::each_of_all(
            &txn.open_table(MESSAGES)?,
            |mailbox, uid, row: MessageRow| {
                let email = row.email;
                let Some(uid) = Uid::new(uid).filter(|_| damaged.contains_key(&email)) else {
                    return Ok(());
                };
                let row = mailboxes.get(mailbox)?;
                let row = row.map(|row| MailboxRow::decode(row.value())).transpose()?;
                let name = row.map_or_else(|| format!("mailbox {mailbox}"), |row| row.name);
                places.entry(email).or_default().push((name, uid));
                Ok(())
            },
        )?;
        for (email, what) in damaged {
            let Some(row) = emails.get(email_key(*email))? else {
                continue;
            };
            let location = row.location;
            if self.is_whole(*email, location) {
                continue;
            }
            let places = places.remove(email).unwrap_or_default();
            let path = self.segments.path(location.segment);
            let names: Vec<String> = places
                .iter()
                .map(|(name, uid)| format!("UID {} of {name}", uid.get()))
                .collect();
            let names = names.join(", ");
            let what = format!("{names} is damaged: {}: {what}", path.display());
            named.insert(*email, (what, places));
        }
        Ok(named)
    }

    fn is_whole(&self, email: u64, location: Location) -> bool {
        let header = self.segments.read_header(location.segment, location.offset);
        header.is_ok_and(|(_, header)| number_of(header.email_id) == email)
            && self.segments.verify(location).is_ok()
    }

    /// Can what the journal has of the account be read?
    pub(super) fn check_journal(&self, told: &mut Told<'_, '_>) {
        if let Err(error) = self.journal().entries(self.id()) {
            told.wrong(format!("the journal: {error}"));
        }
    }
}
