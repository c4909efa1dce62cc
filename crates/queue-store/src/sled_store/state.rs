//! What is in memory: the changes that sled does not have yet, and what keeps segments.

use std::collections::HashMap;
use std::sync::Arc;

use mail_types::QueueId;
use sled::{Db, IVec};

use super::change::{Change, put_places, read_places};
use super::keys;
use super::log::{Place, Position};
use super::overlay::{Entry, Live, Overlay};
use super::usage::Usage;
use crate::codec::{decode_chunk, encode_chunk};
use crate::store::StoreError;

/// A checkpoint comes after so many octets of the log: that much has to be read at a start after a
/// crash.
const CHECKPOINT_OCTETS: u64 = 64 * 1024 * 1024;
/// And when what sled does not have takes so much memory.
pub(super) const CHECKPOINT_MEMORY: usize = 16 * 1024 * 1024;

/// Places that are kept in the head; more have a key of their own.
const PLACES_IN_HEAD: usize = 8;
/// In the place of their number: they are elsewhere.
const ELSEWHERE: u16 = u16::MAX;

/// Whether all that the messages use is in [`Usage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// What was there at the opening is not.
    Not,
    /// Somebody is counting.
    Running,
    /// All is.
    Done,
    /// A record cannot be read, or the counting was given up: nobody knows, and no segment goes.
    Never,
}

/// What memory knows of a message.
#[derive(Debug)]
pub(super) enum Known {
    /// Only sled may have it.
    Nothing,
    Gone,
    /// What it does not say sled has.
    Live(Live),
}

#[derive(Debug)]
pub(super) struct State {
    /// Changes since the last checkpoint began.
    pub(super) pending: Overlay,
    /// Those that a checkpoint is writing to sled.
    pub(super) settling: Option<Arc<Overlay>>,
    /// Content that comes in, without a record yet.
    pub(super) uploads: HashMap<QueueId, Vec<Place>>,
    pub(super) usage: Usage,
    pub(super) counted: Counted,
    /// Octets appended since the last checkpoint began.
    pub(super) appended: u64,
    /// Every id below it may have been given out.
    pub(super) mark: u64,
    /// Up to where sled has what the log says.
    pub(super) checkpoint: Position,
}

impl State {
    /// Takes a change that is in the log.
    pub(super) fn apply(&mut self, db: &Db, change: Change) -> Result<(), StoreError> {
        match &change {
            Change::Insert { id, places, .. } => {
                let known = self.uploads.remove(id).map_or(0, |known| known.len());
                self.usage.add(places.get(known..).unwrap_or_default());
            }
            Change::Remove { id, .. } => {
                let places = unless_damaged(self.places(db, *id))?;
                self.usage.sub(&places.unwrap_or_default());
            }
            Change::Move { id, places } => {
                let Some(before) = unless_damaged(self.places(db, *id))? else {
                    return Ok(());
                };
                self.usage.sub(&before);
                self.usage.add(places);
            }
            Change::Update { .. } | Change::Mark(_) => {}
        }
        self.note(change, true);
        Ok(())
    }

    /// Takes a change of the log at the opening. What it uses is counted later, and sled may have it
    /// already.
    pub(super) fn replay(&mut self, change: Change) {
        self.note(change, false);
    }

    fn note(&mut self, change: Change, is_new: bool) {
        match change {
            Change::Insert {
                id,
                head,
                pages,
                places,
            } => {
                let live = Live {
                    head: Some(head),
                    pages: pages.into_iter().collect(),
                    places: Some(places),
                    is_new,
                };
                self.pending.put(id, Entry::Live(live));
            }
            Change::Update { id, head, pages } => {
                let live = Live {
                    head: Some(head),
                    pages: pages.into_iter().collect(),
                    ..Live::default()
                };
                self.pending.cover(id, live);
            }
            Change::Remove { id, pages } => match self.pending.entries.get(&id) {
                Some(Entry::Live(live)) if live.is_new => self.pending.forget(id),
                _ => self.pending.put(id, Entry::Gone { pages }),
            },
            Change::Move { id, places } => {
                let live = Live {
                    places: Some(places),
                    ..Live::default()
                };
                self.pending.cover(id, live);
            }
            Change::Mark(mark) => self.mark = self.mark.max(mark),
        }
    }

    /// What memory knows of a message.
    pub(super) fn known(&self, id: QueueId) -> Known {
        let settling = self.settling.as_ref().and_then(|s| s.entries.get(&id));
        match (self.pending.entries.get(&id), settling) {
            (None, None) => Known::Nothing,
            (Some(Entry::Gone { .. }), _) | (None, Some(Entry::Gone { .. })) => Known::Gone,
            (Some(Entry::Live(live)), Some(Entry::Live(below))) => {
                let mut below = below.clone();
                below.cover(live.clone());
                Known::Live(below)
            }
            (Some(Entry::Live(live)), _) | (None, Some(Entry::Live(live))) => {
                Known::Live(live.clone())
            }
        }
    }

    /// Where a message's content is; `None` if there is no such message.
    pub(super) fn places(&self, db: &Db, id: QueueId) -> Result<Option<Vec<Place>>, StoreError> {
        match self.known(id) {
            Known::Gone => Ok(None),
            Known::Live(Live {
                places: Some(places),
                ..
            }) => Ok(Some(places)),
            Known::Live(_) | Known::Nothing => places_in_sled(db, id),
        }
    }

    /// Memory knows that there is no such message, or no more.
    pub(super) fn is_gone(&self, id: QueueId) -> bool {
        matches!(self.entry(id), Some(Entry::Gone { .. }))
    }

    pub(super) fn knows(&self, id: QueueId) -> bool {
        self.entry(id).is_some()
    }

    fn entry(&self, id: QueueId) -> Option<&Entry> {
        let settling = || self.settling.as_ref().and_then(|s| s.entries.get(&id));
        self.pending.entries.get(&id).or_else(settling)
    }

    pub(super) fn is_checkpoint_due(&self) -> bool {
        self.appended >= CHECKPOINT_OCTETS || self.pending.octets >= CHECKPOINT_MEMORY
    }

    /// Counts what the messages in memory use: at the opening, behind the last replay. For each of
    /// them memory knows then where its content is.
    pub(super) fn count_replayed(&mut self, db: &Db) -> Result<(), StoreError> {
        let mut unknown = Vec::new();
        for (id, entry) in &mut self.pending.entries {
            let Entry::Live(live) = entry else { continue };
            if live.places.is_none() {
                match unless_damaged(places_in_sled(db, *id))? {
                    Some(places) => live.places = Some(places),
                    None => unknown.push(*id),
                }
            }
            self.usage.add(live.places.as_deref().unwrap_or_default());
        }
        for id in unknown {
            // An update of what was removed, or of what cannot be read anyway.
            self.pending.forget(id);
        }
        Ok(())
    }

    /// Begins to count what the others use. Answers whether nobody else has.
    pub(super) fn begin_count(&mut self) -> bool {
        let is_first = self.counted == Counted::Not;
        if is_first {
            self.counted = Counted::Running;
        }
        is_first
    }
}

fn unless_damaged<T>(found: Result<Option<T>, StoreError>) -> Result<Option<T>, StoreError> {
    match found {
        Err(StoreError::Damaged { .. }) => Ok(None),
        found => found,
    }
}

/// Where sled says that a message's content is.
pub(super) fn places_in_sled(db: &Db, id: QueueId) -> Result<Option<Vec<Place>>, StoreError> {
    let value = db.get(keys::head(id)).map_err(StoreError::failed)?;
    match value {
        Some(value) => read_value(db, id, &value).map(|(places, _)| Some(places)),
        None => Ok(None),
    }
}

/// A head as sled has it: the places, then the record's head.
pub(super) fn head_value(places: &[Place], head: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    let mut octets = Vec::new();
    put_places(&mut octets, places);
    let sealed = encode_chunk(&octets);
    let (inline, apart) = if places.len() <= PLACES_IN_HEAD {
        (sealed, None)
    } else {
        (Vec::new(), Some(sealed))
    };
    let len = match apart {
        None => u16::try_from(inline.len()).unwrap_or(ELSEWHERE),
        Some(_) => ELSEWHERE,
    };
    let mut value = Vec::with_capacity(2 + inline.len() + head.len());
    value.extend_from_slice(&len.to_le_bytes());
    value.extend_from_slice(&inline);
    value.extend_from_slice(head);
    (value, apart)
}

/// Reads the same: the places, and where the record's head begins.
pub(super) fn read_value(
    db: &Db,
    id: QueueId,
    value: &[u8],
) -> Result<(Vec<Place>, usize), StoreError> {
    let damaged = || StoreError::Damaged { id, what: "places" };
    let (len, rest) = value.split_first_chunk().ok_or_else(damaged)?;
    let len = u16::from_le_bytes(*len);
    let apart: Option<IVec>;
    let (sealed, start) = if len == ELSEWHERE {
        apart = db.get(keys::places(id)).map_err(StoreError::failed)?;
        (apart.as_deref().ok_or_else(damaged)?, 2)
    } else {
        let len = usize::from(len);
        (rest.get(..len).ok_or_else(damaged)?, 2 + len)
    };
    let octets = decode_chunk(id, sealed).map_err(|error| match error {
        StoreError::Damaged { .. } => damaged(),
        other => other,
    })?;
    let places = read_places(&mut &*octets).ok_or_else(damaged)?;
    Ok((places, start))
}
