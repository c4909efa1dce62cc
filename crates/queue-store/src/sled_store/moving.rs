//! Gives the room of segments back in which little is left: what is left moves to the log's end.

use bytes::Bytes;
use mail_types::QueueId;
use tracing::{debug, error};

use super::change::{Builder, Change};
use super::keys;
use super::log::{Place, SEGMENT, segments};
use super::state::Counted;
use super::store::{Store, lock};
use crate::store::StoreError;

/// A segment moves when at most one of so many octets is in use.
const SPARSE: u64 = 4;
/// While so many octets of the log are unused nothing moves.
const TOLERATED: u64 = 4 * SEGMENT;
/// Octets that move at once: new mail waits for them.
const AT_ONCE: usize = 256 * 1024;

impl Store {
    /// Moves what is left in sparse segments, if more room is unused than used.
    pub(super) fn move_sparse(&self) -> Result<(), StoreError> {
        let sparse = self.sparse_segments()?;
        if sparse.is_empty() || self.check_room(TOLERATED).is_err() {
            return Ok(());
        }
        debug!(segments = sparse.len(), "moving what is left in them");
        let moved = self.move_from(&sparse);
        // With the next checkpoint the segments go.
        self.settle()?;
        let state = self.state();
        let stay = sparse
            .into_iter()
            .filter(|segment| state.usage.of(*segment) > 0);
        *lock(&self.stuck) = stay.collect();
        drop(state);
        match moved {
            Err(failure) if !failure.is_fatal() => {
                error!(%failure, "the log's room is not given back for now");
                Ok(())
            }
            moved => moved,
        }
    }

    fn move_from(&self, sparse: &[u64]) -> Result<(), StoreError> {
        let mut moves = Vec::new();
        let mut octets = 0;
        for entry in self.db.range(keys::heads_after(None)) {
            let (key, _) = entry.map_err(StoreError::failed)?;
            let Some(id) = keys::id(&key) else { continue };
            let places = self.state().places(&self.db, id)?.unwrap_or_default();
            if places.iter().all(|place| !sparse.contains(&place.segment)) {
                continue;
            }
            octets += self.read_sparse(id, places, sparse, &mut moves)?;
            if octets >= AT_ONCE {
                self.append_moves(std::mem::take(&mut moves))?;
                octets = 0;
                if self.state().is_checkpoint_due() {
                    self.settle()?;
                }
            }
        }
        self.append_moves(moves)
    }

    fn sparse_segments(&self) -> Result<Vec<u64>, StoreError> {
        let all = segments(&self.log_folder)?;
        let state = self.state();
        if state.counted != Counted::Done {
            return Ok(Vec::new());
        }
        let full: Vec<_> = all
            .into_iter()
            .filter(|segment| *segment < state.checkpoint.segment)
            .map(|segment| (segment, state.usage.of(segment)))
            .collect();
        let used: u64 = full.iter().map(|(_, used)| used).sum();
        let unused = (full.len() as u64 * SEGMENT).saturating_sub(used);
        if unused < TOLERATED.max(used) {
            return Ok(Vec::new());
        }
        let stuck = lock(&self.stuck);
        // What comes in cannot move.
        let coming = |segment| {
            state
                .uploads
                .values()
                .flatten()
                .any(|p| p.segment == segment)
        };
        let sparse = full.into_iter().filter(|(segment, used)| {
            *used > 0 && used * SPARSE <= SEGMENT && !stuck.contains(segment) && !coming(*segment)
        });
        Ok(sparse.map(|(segment, _)| segment).collect())
    }

    /// Reads what has to move of one message; answers the octets.
    fn read_sparse(
        &self,
        id: QueueId,
        places: Vec<Place>,
        sparse: &[u64],
        moves: &mut Vec<Moving>,
    ) -> Result<usize, StoreError> {
        let mut contents = Vec::with_capacity(places.len());
        for place in &places {
            let moves = sparse.contains(&place.segment);
            contents.push(if moves { self.log.read(*place)? } else { None });
        }
        let octets = contents.iter().flatten().map(Bytes::len).sum();
        let damaged = (places.iter().zip(&contents))
            .any(|(place, content)| sparse.contains(&place.segment) && content.is_none());
        if damaged {
            // Gone meanwhile, or lost: whoever wants to read it is told.
            if self.state().places(&self.db, id)?.as_ref() == Some(&places) {
                error!(qid = %id, "content is damaged");
            }
            return Ok(0);
        }
        moves.push(Moving {
            id,
            places,
            contents,
        });
        Ok(octets)
    }

    fn append_moves(&self, moves: Vec<Moving>) -> Result<(), StoreError> {
        if moves.is_empty() {
            return Ok(());
        }
        let mut tail = self.log.tail()?;
        let mut builder = Builder::new();
        for moving in moves {
            // Nothing changes while the tail is ours: it is as it was read, or it is left.
            let now = self.state().places(&self.db, moving.id)?;
            if now.as_ref() != Some(&moving.places) {
                continue;
            }
            let mut places = moving.places;
            for (place, content) in places.iter_mut().zip(moving.contents) {
                if let Some(content) = content {
                    // In the batch itself: both are on disk or neither.
                    *place = builder.content(&content);
                }
            }
            let id = moving.id;
            builder.change(Change::Move { id, places });
        }
        self.append_built(&mut tail, builder)
    }
}

/// A message with what moves of its content.
struct Moving {
    id: QueueId,
    places: Vec<Place>,
    contents: Vec<Option<Bytes>>,
}
