//! Reading everything, to say what is wrong.

use mail_types::QueueId;
use sled::Batch;

use super::keys;
use super::store::Store;
use crate::fsck::{FsckReport, Problem};
use crate::message::Message;
use crate::store::{CHUNK_SIZE, Scanned, StoreError, chunk_count};

const PAGE: usize = 256;

pub(super) fn fsck(store: &Store, repair: bool) -> Result<FsckReport, StoreError> {
    // Then the tree has everything.
    store.settle()?;
    let mut report = FsckReport::default();
    if store.damaged > 0 {
        let octets = store.damaged;
        report.problems.push(Problem::Log { octets });
    }
    let mut after = None;
    loop {
        let found = store.scan_from(after, PAGE)?;
        let Some(last) = found.last() else { break };
        after = Some(last.id());
        for item in found {
            match item {
                Scanned::Damaged(id) => report.problems.push(Problem::Record { id }),
                Scanned::Message(message) => check_content(store, &message, &mut report)?,
            }
        }
    }
    check_orphans(store, repair, &mut report)?;
    if repair {
        store.sync_sled()?;
    }
    Ok(report)
}

fn check_content(
    store: &Store,
    message: &Message,
    report: &mut FsckReport,
) -> Result<(), StoreError> {
    let chunks = chunk_count(message.size);
    let mut whole = true;
    for chunk in 0..chunks {
        let before = u64::from(chunk) * CHUNK_SIZE as u64;
        let expected = (message.size - before).min(CHUNK_SIZE as u64);
        match store.load_chunk(message.id, chunk) {
            Ok(Some(data)) if data.len() as u64 == expected => {}
            Err(error) if error.is_fatal() => return Err(error),
            // It was removed meanwhile.
            Ok(None) if store.load(message.id)?.is_none() => return Ok(()),
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

/// Looks for pages that no record covers. Those of a damaged record are not touched.
fn check_orphans(store: &Store, repair: bool, report: &mut FsckReport) -> Result<(), StoreError> {
    let mut current: Option<(QueueId, u32)> = None;
    let mut batch = Batch::default();
    for key in store.db.scan_prefix(keys::PAGES).keys() {
        let key = key.map_err(StoreError::failed)?;
        let (Some(id), Some(number)) = (keys::id(&key), keys::number(&key)) else {
            continue;
        };
        if current.is_none_or(|(known, _)| known != id) {
            current = Some((id, store.pages_in_sled(id)?));
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
