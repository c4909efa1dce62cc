//! STORE, COPY, MOVE and EXPUNGE in the journal: what was asked for, so that a crash has it done
//! again. The state before it is the same then, since all that came before is there or done again.
//!
//! Each has a number of its account's own, and the index says which it has, so that none is done
//! twice.

use mail_types::{Flags, Uid, UidSet};

use crate::operation::{CopyMail, Expunge, FlagChange, FlagMode, FlagNames};
use crate::record::{Reader, RecordHeader};
use crate::schema::{email_id, push_bytes};
use crate::{Operation, StoreError};

/// What a record of an operation has in the place of the UIDVALIDITY; its UID is 0.
const MARK: u32 = 1;

const FLAGS: u8 = 1;
const COPY: u8 = 2;
const EXPUNGE: u8 = 3;

/// May the journal answer for it?
pub(crate) fn is_redone(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::Copy(_) | Operation::Expunge(_) | Operation::Flags(_)
    )
}

/// Is it a record of an operation, not of a message?
pub(crate) fn is_operation(header: &RecordHeader) -> bool {
    header.uid == 0 && header.uid_validity == MARK
}

/// The number of an operation's record.
pub(crate) fn number(header: &RecordHeader) -> u64 {
    header.internal_date.cast_unsigned()
}

/// The header of an operation's record. `now` is Unix time in seconds.
pub(crate) fn header(account: u64, number: u64, now: i64) -> RecordHeader {
    RecordHeader {
        email_id: email_id(account, 0),
        mailbox_id: 0.into(),
        uid_validity: MARK,
        uid: 0,
        flags: 0,
        internal_date: number.cast_signed(),
        internal_offset: 0,
        saved: now,
        key: None,
        mailbox: String::new(),
    }
}

/// What the record has of an operation that [`is_redone`]; of others nothing.
pub(crate) fn encode(operation: &Operation) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    match operation {
        Operation::Flags(change) => {
            out.push(FLAGS);
            out.extend(change.mailbox.get().to_le_bytes());
            out.push(match change.mode {
                FlagMode::Add => 0,
                FlagMode::Remove => 1,
                FlagMode::Replace => 2,
            });
            out.push(change.unchanged_since.is_some().into());
            out.extend(change.unchanged_since.unwrap_or(0).to_le_bytes());
            out.extend(change.flags.system.bits().to_le_bytes());
            push_count(&mut out, change.flags.keywords.len());
            for keyword in &change.flags.keywords {
                push_bytes(&mut out, keyword.as_bytes());
            }
            push_set(&mut out, Some(&change.uids));
        }
        Operation::Copy(copy) => {
            out.push(COPY);
            out.extend(copy.mailbox.get().to_le_bytes());
            out.push(copy.remove.into());
            push_bytes(&mut out, copy.target.as_str().as_bytes());
            push_set(&mut out, Some(&copy.uids));
        }
        Operation::Expunge(expunge) => {
            out.push(EXPUNGE);
            out.extend(expunge.mailbox.get().to_le_bytes());
            out.push(expunge.only_deleted.into());
            push_set(&mut out, expunge.uids.as_ref());
        }
        _ => {}
    }
    out
}

/// The operation of a record.
pub(crate) fn parse(content: &[u8]) -> Result<Operation, StoreError> {
    let wrong = || StoreError::Engine("an operation of the journal does not parse".to_owned());
    let mut reader = Reader(content);
    let operation = pull(&mut reader).filter(|_| reader.0.is_empty());
    operation.ok_or_else(wrong)
}

fn pull(reader: &mut Reader<'_>) -> Option<Operation> {
    let [kind] = reader.array()?;
    let mailbox = reader.u64()?.into();
    Some(match kind {
        FLAGS => {
            let mode = match reader.array()? {
                [0] => FlagMode::Add,
                [1] => FlagMode::Remove,
                [2] => FlagMode::Replace,
                _ => return None,
            };
            let has_limit = pull_bool(reader)?;
            let limit = reader.u64()?;
            let system = Flags::from(reader.u64()?);
            let mut keywords = Vec::new();
            for _ in 0..reader.u32()? {
                keywords.push(String::from_utf8(reader.bytes()?).ok()?);
            }
            Operation::Flags(FlagChange {
                mailbox,
                mode,
                flags: FlagNames { system, keywords },
                unchanged_since: has_limit.then_some(limit),
                uids: pull_set(reader)?.1,
            })
        }
        COPY => Operation::Copy(CopyMail {
            mailbox,
            remove: pull_bool(reader)?,
            target: std::str::from_utf8(reader.slice()?).ok()?.parse().ok()?,
            uids: pull_set(reader)?.1,
            // It was within the quota.
            quota: 0,
        }),
        EXPUNGE => {
            let only_deleted = pull_bool(reader)?;
            let (is_there, uids) = pull_set(reader)?;
            Operation::Expunge(Expunge {
                mailbox,
                only_deleted,
                uids: is_there.then_some(uids),
            })
        }
        _ => return None,
    })
}

fn push_count(out: &mut Vec<u8>, count: usize) {
    out.extend(u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

fn push_set(out: &mut Vec<u8>, set: Option<&UidSet>) {
    out.push(set.is_some().into());
    let ranges = set.map_or(&[][..], UidSet::ranges);
    push_count(out, ranges.len());
    for (low, high) in ranges {
        out.extend(low.get().to_le_bytes());
        out.extend(high.get().to_le_bytes());
    }
}

fn pull_bool(reader: &mut Reader<'_>) -> Option<bool> {
    match reader.array()? {
        [0] => Some(false),
        [1] => Some(true),
        _ => None,
    }
}

/// Whether there is a set, and the set.
fn pull_set(reader: &mut Reader<'_>) -> Option<(bool, UidSet)> {
    let is_there = pull_bool(reader)?;
    let mut set = UidSet::new();
    for _ in 0..reader.u32()? {
        let (low, high) = (Uid::new(reader.u32()?)?, Uid::new(reader.u32()?)?);
        set.insert_range(low, high);
    }
    Some((is_there, set))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uids(uids: &[u32]) -> UidSet {
        uids.iter().filter_map(|uid| Uid::new(*uid)).collect()
    }

    #[test]
    fn round_trip_and_damage() {
        let flags = FlagChange {
            mailbox: 7.into(),
            uids: uids(&[1, 2, 3, 9]),
            mode: FlagMode::Replace,
            flags: FlagNames {
                system: Flags::from(5),
                keywords: vec!["$Work".to_owned(), "ä".to_owned()],
            },
            unchanged_since: Some(99),
        };
        let copy = CopyMail {
            mailbox: 8.into(),
            uids: uids(&[4_000_000_000]),
            target: "Ärger/x".parse().unwrap(),
            remove: true,
            quota: 0,
        };
        let expunge = |uids| Expunge {
            mailbox: 9.into(),
            uids,
            only_deleted: true,
        };
        for operation in [
            Operation::Flags(flags),
            Operation::Copy(copy),
            Operation::Expunge(expunge(None)),
            Operation::Expunge(expunge(Some(uids(&[])))),
            Operation::Expunge(expunge(Some(uids(&[5])))),
        ] {
            let octets = encode(&operation);
            let parsed = parse(&octets).unwrap();
            assert_eq!(format!("{parsed:?}"), format!("{operation:?}"));
            for end in 0..octets.len() {
                assert!(parse(&octets[..end]).is_err(), "{end}");
            }
            assert!(parse(&[&octets[..], &[0]].concat()).is_err());
            assert!(is_redone(&operation));
        }
        assert!(is_operation(&header(1, 2, 3)));
        assert_eq!(number(&header(1, u64::MAX, 3)), u64::MAX);
    }
}
