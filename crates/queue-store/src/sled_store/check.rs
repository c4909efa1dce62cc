//! Reading everything, to say what is wrong.

use mail_types::QueueId;
use sled::Batch;

use super::pack::Pack;
use super::{SledStore, keys};
use crate::codec::{decode_head, page_count};
use crate::fsck::{FsckReport, Problem};
use crate::message::Message;
use crate::store::{CHUNK_SIZE, QueueStore, Scanned, StoreError, chunk_count};

const PAGE: usize = 256;

pub(super) fn fsck(store: &SledStore, repair: bool) -> Result<FsckReport, StoreError> {
    let mut report = FsckReport::default();
    let mut after = None;
    loop {
        let found = store.scan(after, PAGE)?;
        let Some(last) = found.last() else { break };
        after = Some(last.id());
        for item in found {
            match item {
                Scanned::Damaged(id) => report.problems.push(Problem::Record { id }),
                Scanned::Message(message) => check_content(store, &message, &mut report)?,
            }
        }
    }
    for prefix in [keys::CHUNKS, keys::PAGES] {
        check_orphans(store, &prefix, repair, &mut report)?;
    }
    for prefix in [keys::PACKS_CONTENT, keys::PACKS_GONE] {
        check_packs(store, &prefix, repair, &mut report)?;
    }
    if repair {
        store.sync()?;
    }
    Ok(report)
}

/// Looks for what belongs to a pack that is not there, and for packs that cannot be read.
fn check_packs(
    store: &SledStore,
    prefix: &[u8],
    repair: bool,
    report: &mut FsckReport,
) -> Result<(), StoreError> {
    for key in store.db.scan_prefix(prefix).keys() {
        let key = key.map_err(StoreError::failed)?;
        let Some(pack) = keys::id(&key) else { continue };
        // In one batch with what belongs to it, so that it may not be older.
        let records = store.db.get(keys::pack(pack.get()));
        let records = records.map_err(StoreError::failed)?;
        let still = store.db.contains_key(&key).map_err(StoreError::failed)?;
        match records {
            Some(records) if Pack::read(&records).is_some() => {}
            _ if !still => {}
            Some(_) => report.problems.push(Problem::Record { id: pack }),
            None => {
                report.problems.push(Problem::Orphan {
                    id: pack,
                    removed: repair,
                });
                if repair {
                    store.db.remove(&key).map_err(StoreError::failed)?;
                }
            }
        }
    }
    Ok(())
}

fn check_content(
    store: &SledStore,
    message: &Message,
    report: &mut FsckReport,
) -> Result<(), StoreError> {
    let chunks = chunk_count(message.size);
    let mut whole = true;
    for chunk in 0..chunks {
        let before = u64::from(chunk) * CHUNK_SIZE as u64;
        let expected = (message.size - before).min(CHUNK_SIZE as u64);
        match store.read_chunk(message.id, chunk) {
            Ok(Some(data)) if data.len() as u64 == expected => {}
            Err(error) if error.is_fatal() => return Err(error),
            _ => {
                whole = false;
                let id = message.id;
                report.problems.push(Problem::Content { id, chunk });
            }
        }
    }
    if whole {
        report.messages += 1;
        report.octets += message.size;
    }
    Ok(())
}

/// Looks for chunks or pages that no record covers. Those of a damaged record are not touched.
fn check_orphans(
    store: &SledStore,
    prefix: &[u8],
    repair: bool,
    report: &mut FsckReport,
) -> Result<(), StoreError> {
    let mut current: Option<(QueueId, u32)> = None;
    let mut batch = Batch::default();
    for key in store.db.scan_prefix(prefix).keys() {
        let key = key.map_err(StoreError::failed)?;
        let (Some(id), Some(number)) = (keys::id(&key), keys::number(&key)) else {
            continue;
        };
        if current.is_none_or(|(known, _)| known != id) {
            current = Some((id, covered(store, id, prefix)?));
        }
        if current.is_some_and(|(_, covered)| number < covered) {
            continue;
        }
        let problem = Problem::Orphan {
            id,
            removed: repair,
        };
        if report.problems.last() != Some(&problem) {
            report.problems.push(problem);
        }
        if repair {
            batch.remove(key);
        }
    }
    store.db.apply_batch(batch).map_err(StoreError::failed)
}

/// How many chunks or pages belong to the message. A message that is coming in covers its own.
fn covered(store: &SledStore, id: QueueId, prefix: &[u8]) -> Result<u32, StoreError> {
    if store
        .db
        .contains_key(keys::upload(id))
        .map_err(StoreError::failed)?
    {
        return Ok(u32::MAX);
    }
    let head = store.db.get(keys::head(id)).map_err(StoreError::failed)?;
    let Some(head) = head else { return Ok(0) };
    Ok(match decode_head(id, &head) {
        Ok((message, _)) if prefix == keys::CHUNKS => chunk_count(message.size),
        Ok((_, total)) => page_count(total),
        Err(_) => u32::MAX,
    })
}
