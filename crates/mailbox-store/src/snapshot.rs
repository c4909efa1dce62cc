//! A copy of what only the index knows, beside it: mailboxes with their UIDVALIDITY and keywords,
//! subscriptions, and each message's UID, flags and MODSEQ. An index is made anew from it and the
//! segments.
//!
//! `snapshot` is the last one, `snapshot.old` the one before it. One octet in front of the data says
//! whether changes followed that the segments do not tell of; the first such change sets it. So
//! writing costs the way of a change nothing but that, once a snapshot.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mail_types::Uid;
use redb::ReadTransaction;

use crate::account::{Counters, State, load};
use crate::disk::{Disk, sync_folder};
use crate::packed::{self, Lookup};
use crate::record::Reader;
use crate::schema::{EMAILS, EmailRow, MESSAGES, MailboxRow, MessageRow, email_key, push_bytes};
use crate::{Operation, StoreError};

/// Its name in the account's folder.
const NAME: &str = "snapshot";
const OLD: &str = "snapshot.old";
const NEW: &str = "snapshot.new";
/// `CSN`, then the version.
const MAGIC: [u8; 4] = *b"CSN2";
/// Magic, whether changes followed, padding, length, checksum.
const FIXED: usize = 20;
/// Where it says whether changes followed.
const STALE_AT: u64 = 4;

/// A message in a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) mailbox: u64,
    pub(crate) uid: Uid,
    pub(crate) row: MessageRow,
    pub(crate) thread: u64,
}

/// See the module's head.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct IndexCopy {
    /// Unix time in seconds at which it was taken.
    pub(crate) taken: i64,
    pub(crate) counters: Counters,
    pub(crate) subscriptions: BTreeSet<String>,
    pub(crate) mailboxes: Vec<(u64, MailboxRow)>,
    pub(crate) places: Vec<Place>,
}

impl IndexCopy {
    /// What an index says at this instant.
    pub(crate) fn of(txn: &ReadTransaction, now: i64) -> Result<Self, StoreError> {
        let (state, ..) = load(txn)?;
        let mut emails = Lookup::<EmailRow>::new(txn.open_table(EMAILS)?);
        let mut places = Vec::new();
        packed::each_of_all(&txn.open_table(MESSAGES)?, |mailbox, uid, row| {
            let row: MessageRow = row;
            let email = emails.get(email_key(row.email))?;
            let thread = email.map_or(0, |email| email.thread);
            places.extend(Uid::new(uid).map(|uid| Place {
                mailbox,
                uid,
                row,
                thread,
            }));
            Ok(())
        })?;
        let State {
            mailboxes,
            subscriptions,
            counters,
            ..
        } = state;
        Ok(Self {
            taken: now,
            counters,
            subscriptions: subscriptions.as_ref().clone(),
            mailboxes: mailboxes
                .iter()
                .map(|(id, row)| (*id, row.as_ref().clone()))
                .collect(),
            places,
        })
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024 + self.places.len() * 24);
        let counters = self.counters;
        for number in [
            self.taken.cast_unsigned(),
            counters.next_email,
            counters.next_mailbox,
            counters.next_thread,
            counters.uid_validity,
            counters.applied,
        ] {
            push(&mut out, number);
        }
        push(&mut out, self.subscriptions.len() as u64);
        for name in &self.subscriptions {
            push_bytes(&mut out, name.as_bytes());
        }
        push(&mut out, self.mailboxes.len() as u64);
        for (id, row) in &self.mailboxes {
            push(&mut out, *id);
            push_bytes(&mut out, &row.encode());
        }
        push(&mut out, self.places.len() as u64);
        let mut last = Last::default();
        for place in &self.places {
            place.encode(&mut last, &mut out);
        }
        out
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let mut copy = Self {
            taken: pull(&mut reader)?.cast_signed(),
            ..Self::default()
        };
        copy.counters.next_email = pull(&mut reader)?;
        copy.counters.next_mailbox = pull(&mut reader)?;
        copy.counters.next_thread = pull(&mut reader)?;
        copy.counters.uid_validity = pull(&mut reader)?;
        copy.counters.applied = pull(&mut reader)?;
        for _ in 0..pull(&mut reader)? {
            copy.subscriptions
                .insert(String::from_utf8(reader.bytes()?).ok()?);
        }
        for _ in 0..pull(&mut reader)? {
            let id = pull(&mut reader)?;
            copy.mailboxes
                .push((id, MailboxRow::decode(&reader.bytes()?).ok()?));
        }
        let mut last = Last::default();
        for _ in 0..pull(&mut reader)? {
            copy.places.push(Place::parse(&mut last, &mut reader)?);
        }
        reader.0.is_empty().then_some(copy)
    }

    /// The last snapshot that is whole. Tells of those that are damaged.
    pub(crate) fn read(folder: &Path, mut damaged: impl FnMut(String)) -> Kept {
        let mut kept = Kept::default();
        for name in [NAME, OLD] {
            let path = folder.join(name);
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    damaged(format!("{}: {error}", path.display()));
                    kept.is_stale = true;
                    continue;
                }
            };
            let Some((copy, is_stale)) = decode_file(&bytes) else {
                damaged(format!("{}: the snapshot is damaged", path.display()));
                kept.is_stale = true;
                continue;
            };
            // Something came between the one before and the one that is damaged.
            kept.is_stale |= is_stale || name == OLD;
            kept.copy = copy;
            break;
        }
        kept
    }
}

/// What is there of snapshots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The last whole one.
    pub(crate) copy: Option<IndexCopy>,
    /// Changes followed it, or came without one, of which segments do not tell.
    pub(crate) is_stale: bool,
}

/// A file without data is the mark of a change before the first snapshot.
fn decode_file(bytes: &[u8]) -> Option<(Option<IndexCopy>, bool)> {
    let mut reader = Reader(bytes);
    let magic = reader.array::<4>()?;
    let [stale, ..] = reader.array::<4>()?;
    let (len, crc) = (reader.u64()?, reader.u32()?);
    let is_whole =
        magic == MAGIC && reader.0.len() as u64 == len && crc32c::crc32c(reader.0) == crc;
    if !is_whole {
        return None;
    }
    if len == 0 {
        return Some((None, true));
    }
    let copy = IndexCopy::parse(reader.0)?;
    Some((Some(copy), stale != 0))
}

/// What the place before said: most differ from it by little.
#[derive(Default)]
struct Last {
    mailbox: u64,
    uid: u32,
    email: u64,
    date: i64,
}

impl Place {
    fn encode(&self, last: &mut Last, out: &mut Vec<u8>) {
        let row = &self.row;
        if self.mailbox != last.mailbox {
            last.uid = 0;
        }
        let numbers = [
            self.mailbox,
            u64::from(self.uid.get().wrapping_sub(last.uid)),
            row.flags.bits(),
            row.modseq,
            row.size,
            zigzag(row.email.wrapping_sub(last.email).cast_signed()),
            zigzag(row.internal_date.wrapping_sub(last.date)),
            zigzag(row.internal_offset.into()),
            zigzag(row.save_date.wrapping_sub(row.internal_date)),
            self.thread,
        ];
        for number in numbers {
            push(out, number);
        }
        *last = Last {
            mailbox: self.mailbox,
            uid: self.uid.get(),
            email: row.email,
            date: row.internal_date,
        };
    }

    fn parse(last: &mut Last, reader: &mut Reader<'_>) -> Option<Self> {
        let mailbox = pull(reader)?;
        if mailbox != last.mailbox {
            last.uid = 0;
        }
        let uid = last.uid.wrapping_add(u32::try_from(pull(reader)?).ok()?);
        let flags = pull(reader)?.into();
        let (modseq, size) = (pull(reader)?, pull(reader)?);
        let email = last
            .email
            .wrapping_add(unzigzag(pull(reader)?).cast_unsigned());
        let internal_date = last.date.wrapping_add(unzigzag(pull(reader)?));
        let internal_offset = i32::try_from(unzigzag(pull(reader)?)).ok()?;
        let save_date = internal_date.wrapping_add(unzigzag(pull(reader)?));
        let thread = pull(reader)?;
        *last = Last {
            mailbox,
            uid,
            email,
            date: internal_date,
        };
        let row = MessageRow {
            flags,
            modseq,
            size,
            email,
            internal_date,
            internal_offset,
            save_date,
        };
        Some(Self {
            mailbox,
            uid: Uid::new(uid)?,
            row,
            thread,
        })
    }
}

/// When is a snapshot due?
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    /// Changes so far that the segments do not tell of.
    changes: AtomicU64,
    /// How many of them the last snapshot has.
    kept: AtomicU64,
    /// The file says that something followed, or there is none.
    is_marked: AtomicBool,
}

impl Keeper {
    /// Before a change is committed; the caller holds the account's writer.
    pub(crate) fn note(
        &self,
        disk: &dyn Disk,
        folder: &Path,
        changes: u64,
    ) -> Result<(), StoreError> {
        if changes == 0 {
            return Ok(());
        }
        self.changes.fetch_add(changes, Ordering::Relaxed);
        if !self.is_marked.load(Ordering::Relaxed) {
            mark(disk, folder)?;
            self.is_marked.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Changes so far.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Changes that the last snapshot lacks.
    pub(crate) fn unkept(&self) -> u64 {
        self.changes() - self.kept.load(Ordering::Relaxed)
    }

    /// Puts a copy in the last one's place. `changes` is what [`Self::changes`] said when it was
    /// taken; `lock` keeps changes from coming for as long as its value lives, or says that the
    /// folder is not the account's any more.
    pub(crate) fn keep<T>(
        &self,
        disk: &dyn Disk,
        folder: &Path,
        copy: &IndexCopy,
        changes: u64,
        lock: impl FnOnce() -> Option<T>,
    ) -> Result<(), StoreError> {
        let path = folder.join(NEW);
        let failed = |error| StoreError::io(&path, error);
        let file = disk.open(&path).map_err(failed)?;
        file.set_length(0).map_err(failed)?;
        file.write_at(&frame(&copy.encode()), 0).map_err(failed)?;
        file.sync().map_err(StoreError::Fatal)?;
        let name = folder.join(NAME);
        let Some(held) = lock() else {
            return Ok(());
        };
        if name.exists() {
            disk.rename(&name, &folder.join(OLD)).map_err(failed)?;
        }
        if self.changes() == changes {
            file.write_at(&[0], STALE_AT).map_err(failed)?;
            self.is_marked.store(false, Ordering::Relaxed);
        }
        disk.rename(&path, &name).map_err(failed)?;
        self.kept.store(changes, Ordering::Relaxed);
        drop(held);
        file.sync().map_err(StoreError::Fatal)?;
        sync_folder(disk, folder)
    }
}

/// The octet is durable before the change is. Without a snapshot the mark is alone.
fn mark(disk: &dyn Disk, folder: &Path) -> Result<(), StoreError> {
    let path = folder.join(NAME);
    let failed = |error| StoreError::io(&path, error);
    if path.exists() {
        let file = disk.open(&path).map_err(failed)?;
        file.write_at(&[1], STALE_AT).map_err(failed)?;
        return file.sync().map_err(StoreError::Fatal);
    }
    let new = folder.join(NEW);
    let file = disk.open(&new).map_err(failed)?;
    file.set_length(0).map_err(failed)?;
    file.write_at(&frame(&[]), 0).map_err(failed)?;
    file.sync().map_err(StoreError::Fatal)?;
    disk.rename(&new, &path).map_err(failed)?;
    sync_folder(disk, folder)
}

/// Data as it is in a file, with the mark that changes followed.
fn frame(data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FIXED + data.len());
    bytes.extend(MAGIC);
    bytes.extend([1, 0, 0, 0]);
    bytes.extend((data.len() as u64).to_le_bytes());
    bytes.extend(crc32c::crc32c(data).to_le_bytes());
    bytes.extend(data);
    bytes
}

/// Does the segment's record tell all of it?
pub(crate) fn is_told_by_record(operation: &Operation) -> bool {
    matches!(operation, Operation::Deliver(deliver) if deliver.flags.keywords.is_empty())
}

fn push(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push((number & 0x7f) as u8);
}

fn pull(reader: &mut Reader<'_>) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..70).step_by(7) {
        let [octet] = reader.array::<1>()?;
        number |= u64::from(octet & 0x7f).checked_shl(shift)?;
        if octet < 0x80 {
            return Some(number);
        }
    }
    None
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::SpecialUse;

    fn place(mailbox: u64, uid: u32, email: u64, date: i64) -> Place {
        let row = MessageRow {
            flags: (u64::MAX >> uid).into(),
            modseq: u64::MAX - email,
            size: 70_000,
            email,
            internal_date: date,
            internal_offset: -90,
            save_date: date + 5,
        };
        Place {
            mailbox,
            uid: Uid::new(uid).unwrap(),
            row,
            thread: email / 2,
        }
    }

    fn example() -> IndexCopy {
        let row = MailboxRow {
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
            keywords: vec!["$a".into()],
        };
        IndexCopy {
            taken: 1_700_000_000,
            counters: Counters {
                next_email: 4,
                next_mailbox: 5,
                next_thread: 6,
                uid_validity: 7,
                applied: 8,
                ..Counters::default()
            },
            subscriptions: ["INBOX".to_owned(), "x".to_owned()].into(),
            mailboxes: vec![(1, row.clone()), (9, row)],
            places: vec![
                place(1, 1, 3, -5),
                place(1, 7, 1, 1_700_000_000),
                place(9, 2, 2, i64::MAX - 9),
            ],
        }
    }

    #[test]
    fn round_trip_and_damage() {
        let folder = tempfile::tempdir().unwrap();
        let keeper = Keeper::default();
        let disk = &crate::disk::FileSystem;
        let read = || IndexCopy::read(folder.path(), |what| panic!("{what}"));
        let kept = |copy, is_stale| Kept { copy, is_stale };
        assert_eq!(read(), kept(None, false));
        keeper.note(disk, folder.path(), 3).unwrap();
        assert_eq!((keeper.unkept(), read()), (3, kept(None, true)));
        keeper
            .keep(disk, folder.path(), &example(), 3, || Some(()))
            .unwrap();
        assert_eq!((keeper.unkept(), read()), (0, kept(Some(example()), false)));
        keeper.note(disk, folder.path(), 1).unwrap();
        assert_eq!(read(), kept(Some(example()), true));
        // A change that came while it was written.
        keeper
            .keep(disk, folder.path(), &example(), 3, || Some(()))
            .unwrap();
        assert_eq!((keeper.unkept(), read()), (1, kept(Some(example()), true)));
        let path = folder.path().join(NAME);
        let whole = fs::read(&path).unwrap();
        for at in (0..4).chain(8..whole.len()) {
            let mut bad = whole.clone();
            bad[at] ^= 0x10;
            assert!(decode_file(&bad).is_none(), "{at}");
            assert!(decode_file(&whole[..at]).is_none(), "{at}");
        }
        fs::write(&path, b"rubbish").unwrap();
        let mut told = Vec::new();
        let read = IndexCopy::read(folder.path(), |what| told.push(what));
        assert_eq!((read, told.len()), (kept(Some(example()), true), 1));
    }

    #[test]
    fn numbers() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            push(&mut out, number);
            assert_eq!(pull(&mut Reader(&out)), Some(number));
            assert_eq!(pull(&mut Reader(&out[..out.len() - 1])), None);
            let signed = number.cast_signed();
            assert_eq!(unzigzag(zigzag(signed)), signed);
        }
    }
}
