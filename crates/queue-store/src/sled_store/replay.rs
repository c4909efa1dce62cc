//! Reading what the log says behind the last checkpoint.

use std::fs;
use std::path::Path;

use tracing::{error, info};

use super::change::read_batch;
use super::frame::{Frames, Header, Kind};
use super::log::{path, segments};
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

/// Takes every batch behind the checkpoint into `state`. The last frames may be cut: nobody was
/// told of those.
pub(super) fn replay(folder: &Path, state: &mut State) -> Result<Replayed, StoreError> {
    let mut replayed = Replayed {
        next_segment: state.checkpoint.segment,
        next_batch: 0,
        damaged: 0,
    };
    let mut batches = 0_u64;
    for segment in segments(folder)? {
        replayed.next_segment = replayed.next_segment.max(segment + 1);
        if segment < state.checkpoint.segment {
            continue;
        }
        let octets = fs::read(path(folder, segment)).map_err(StoreError::failed)?;
        let Some(tag) = tag_of(&octets, segment) else {
            // The last one may have been in the making.
            info!(segment, "a segment of the queue's log has no head");
            continue;
        };
        let from = if segment == state.checkpoint.segment {
            usize::try_from(state.checkpoint.at).map_err(StoreError::failed)?
        } else {
            0
        };
        let mut frames = Frames::new(&octets, tag, from);
        for frame in frames.by_ref() {
            if frame.header.kind != Kind::Batch {
                continue;
            }
            let number = frame.header.number;
            if replayed.next_batch != 0 && number != replayed.next_batch {
                error!(segment, number, "batches are missing in the queue's log");
            }
            replayed.next_batch = number + 1;
            let changes = read_batch(frame.octets).ok_or_else(|| {
                StoreError::failed("the queue's log is not of a version that this program knows")
            })?;
            for mut change in changes {
                change.resolve(segment, frame.at);
                state.replay(change);
            }
            batches += 1;
        }
        if frames.damaged > 0 {
            error!(
                segment,
                octets = frames.damaged,
                "the queue's log is damaged"
            );
            replayed.damaged += frames.damaged;
        }
    }
    replayed.next_batch = replayed.next_batch.max(1);
    if batches > 0 {
        info!(batches, "read the queue's log");
    }
    Ok(replayed)
}

fn tag_of(octets: &[u8], segment: u64) -> Option<u64> {
    let header = Header::read(octets)?;
    (header.kind == Kind::Segment && header.number == segment).then_some(header.tag)
}
