//! Reading what the log says behind the last checkpoint.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use tracing::{error, info};

use super::change::{Change, read_batch, read_durable};
use super::frame::{Frames, Header, Kind};
use super::log::{self, Place, path, segments, silence};
use super::state::State;
use crate::store::StoreError;

/// What the log has.
#[derive(Debug)]
pub(super) struct Replayed {
    pub(super) next_segment: u64,
    pub(super) next_batch: u64,
    /// Octets that cannot be read, with more behind them.
    pub(super) damaged: u64,
}

/// A batch, and where it is.
struct Found {
    segment: u64,
    at: u64,
    header: Header,
    /// All with lower numbers were on disk when it was written.
    durable: u64,
    changes: Vec<Change>,
}

/// Takes the batches behind the checkpoint into `state`; the first of them is to be number `batch`.
/// Of what nobody was told of, that is taken which is whole up to the first gap.
pub(super) fn replay(folder: &Path, batch: u64, state: &mut State) -> Result<Replayed, StoreError> {
    let mut replayed = Replayed {
        next_segment: state.checkpoint.segment,
        next_batch: batch,
        damaged: 0,
    };
    let mut found = Vec::new();
    for segment in segments(folder)? {
        replayed.next_segment = replayed.next_segment.max(segment + 1);
        if segment < state.checkpoint.segment {
            continue;
        }
        let from = if segment == state.checkpoint.segment {
            state.checkpoint.at
        } else {
            0
        };
        let is_empty = read_segment(folder, segment, from, &mut found, &mut replayed.damaged)?;
        if is_empty && segment > state.checkpoint.segment {
            log::remove(folder, segment)?;
        }
    }
    let durable = found.iter().map(|found| found.durable).max();
    let durable = durable.unwrap_or_default().max(batch);
    let mut batches = found.into_iter();
    while let Some(one) = batches.next() {
        let number = one.header.number;
        if number != replayed.next_batch {
            error!(number, "batches are missing in the queue's log");
            if replayed.next_batch >= durable {
                // Nobody was told of the missing one, nor of what builds on it.
                for one in [one].into_iter().chain(batches) {
                    silence(folder, one.segment, one.at, one.header)?;
                }
                break;
            }
        }
        replayed.next_batch = number + 1;
        for mut change in one.changes {
            if number >= durable && !is_whole(folder, &change)? {
                info!("a message that was coming in is not whole");
                continue;
            }
            change.resolve(one.segment, one.at);
            state.replay(change);
        }
    }
    Ok(replayed)
}

/// Adds a segment's batches; true if there is nothing in it, not even content.
fn read_segment(
    folder: &Path,
    segment: u64,
    from: u64,
    found: &mut Vec<Found>,
    damaged: &mut u64,
) -> Result<bool, StoreError> {
    let octets = read_synced(folder, segment)?;
    let Some(tag) = tag_of(&octets, segment) else {
        // It may have been in the making.
        info!(segment, "a segment of the queue's log has no head");
        return Ok(true);
    };
    let from = usize::try_from(from).map_err(StoreError::failed)?;
    let mut frames = Frames::new(&octets, tag, from);
    let mut is_empty = true;
    for frame in frames.by_ref() {
        is_empty &= frame.header.kind == Kind::Segment;
        if frame.header.kind != Kind::Batch {
            continue;
        }
        let changes = read_batch(frame.octets).zip(read_durable(frame.octets));
        let (changes, durable) = changes.ok_or_else(|| {
            StoreError::failed("the queue's log is not of a version that this program knows")
        })?;
        found.push(Found {
            segment,
            at: frame.at,
            header: frame.header,
            durable,
            changes,
        });
    }
    if frames.damaged > 0 {
        error!(
            segment,
            octets = frames.damaged,
            "the queue's log is damaged"
        );
        *damaged += frames.damaged;
    }
    Ok(is_empty)
}

/// What is read is on disk: a checkpoint will build on it, and who wrote it may not have lived to
/// sync it.
fn read_synced(folder: &Path, segment: u64) -> Result<Vec<u8>, StoreError> {
    let read = || {
        let mut file = File::open(path(folder, segment))?;
        file.sync_data()?;
        // Pages that could not be written count as clean; only the disk tells.
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        let mut octets = Vec::new();
        file.read_to_end(&mut octets)?;
        Ok::<_, std::io::Error>(octets)
    };
    read().map_err(StoreError::failed)
}

/// Content that came before its record is as it was written.
fn is_whole(folder: &Path, change: &Change) -> Result<bool, StoreError> {
    let Change::Insert { places, .. } = change else {
        return Ok(true);
    };
    for place in places {
        let is_apart = place.segment != 0 && *place != Place::MISSING;
        if is_apart && log::read(folder, *place)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn tag_of(octets: &[u8], segment: u64) -> Option<u64> {
    let header = Header::read(octets)?;
    (header.kind == Kind::Segment && header.number == segment).then_some(header.tag)
}
