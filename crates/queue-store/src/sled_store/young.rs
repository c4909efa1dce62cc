//! Where the messages are that are in packs.
//!
//! A message is *young* from its acceptance until its record first changes: it is in a pack, and
//! most messages leave the queue from there. One that stays moves out, to keys of its own.

use std::collections::{BTreeMap, HashMap, VecDeque};

use mail_types::QueueId;

use super::pack::MAX_MESSAGES;

/// A pack in which at most one of so many messages is left is sparse.
const SPARSE: usize = 4;
/// How many batches a pack may stay sparse before those that are left move out: nearly always they
/// leave the queue by themselves before.
const SPARSE_BATCHES: u64 = 256;

/// Which messages of a pack are gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gone([u64; MAX_MESSAGES / 64]);

impl Gone {
    pub(super) fn has(&self, slot: u16) -> bool {
        let word = self.0.get(usize::from(slot / 64)).copied();
        word.is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    fn add(&mut self, slot: u16) {
        if let Some(word) = self.0.get_mut(usize::from(slot / 64)) {
            *word |= 1 << (slot % 64);
        }
    }

    fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(super) fn to_bytes(self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut gone = Self::default();
        if bytes.len() != MAX_MESSAGES / 8 {
            return None;
        }
        for (word, bytes) in gone.0.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().ok()?);
        }
        Some(gone)
    }
}

/// A message's pack and its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) pack: u64,
    pub(super) slot: u16,
}

#[derive(Debug)]
struct PackState {
    count: u16,
    gone: Gone,
}

/// What is left of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    Some(Gone),
}

/// How far the packs that were there at the opening are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Not,
    /// Somebody reads them and asks only for what he has read.
    InPart,
    All,
}

#[derive(Debug)]
pub(super) struct Young {
    pub(super) known: Known,
    places: BTreeMap<QueueId, Place>,
    packs: HashMap<u64, PackState>,
    /// Packs that became sparse, and with which batch.
    sparse: VecDeque<(u64, u64)>,
    next_pack: u64,
    batches: u64,
}

impl Young {
    /// `next_pack` is higher than that of any pack on disk.
    pub(super) fn new(next_pack: u64) -> Self {
        Self {
            known: Known::Not,
            places: BTreeMap::new(),
            packs: HashMap::new(),
            sparse: VecDeque::new(),
            next_pack,
            batches: 0,
        }
    }

    pub(super) fn place(&self, id: QueueId) -> Option<Place> {
        self.places.get(&id).copied()
    }

    /// At most `limit` messages behind `after`, in the order of their ids.
    pub(super) fn behind(&self, after: Option<QueueId>, limit: usize) -> Vec<(QueueId, Place)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let start = after.map_or(Unbounded, Excluded);
        let range = self.places.range((start, Unbounded));
        range.take(limit).map(|(id, place)| (*id, *place)).collect()
    }

    /// The number of the next pack.
    pub(super) fn next_pack(&self) -> u64 {
        self.next_pack
    }

    pub(super) fn new_pack(&mut self) -> u64 {
        self.next_pack += 1;
        self.next_pack - 1
    }

    /// A pack with these messages is there.
    pub(super) fn add(&mut self, pack: u64, gone: Gone, members: impl Iterator<Item = QueueId>) {
        let mut count = 0;
        for (slot, id) in (0_u16..).zip(members) {
            count += 1;
            if !gone.has(slot) {
                self.places.insert(id, Place { pack, slot });
            }
        }
        let state = PackState { count, gone };
        if state.is_sparse() {
            self.sparse.push_back((pack, self.batches));
        }
        self.packs.insert(pack, state);
    }

    /// The message leaves its pack.
    pub(super) fn take(&mut self, id: QueueId) -> Option<Place> {
        let place = self.places.remove(&id)?;
        if let Some(pack) = self.packs.get_mut(&place.pack) {
            let before = pack.is_sparse();
            pack.gone.add(place.slot);
            if pack.is_sparse() && !before {
                self.sparse.push_back((place.pack, self.batches));
            }
        }
        Some(place)
    }

    /// What is left; a pack with nothing left is forgotten.
    pub(super) fn left(&mut self, pack: u64) -> Left {
        match self.packs.get(&pack) {
            Some(state) if state.gone.count() < state.count.into() => Left::Some(state.gone),
            _ => {
                self.packs.remove(&pack);
                Left::Nothing
            }
        }
    }

    /// Counts a batch. Answers a pack that has been sparse for long, with those left in it.
    pub(super) fn next_batch(&mut self) -> Option<(u64, Gone)> {
        self.batches += 1;
        while let Some((pack, since)) = self.sparse.front().copied() {
            if since + SPARSE_BATCHES > self.batches {
                return None;
            }
            self.sparse.pop_front();
            if let Some(state) = self.packs.get(&pack) {
                return Some((pack, state.gone));
            }
        }
        None
    }
}

impl PackState {
    fn is_sparse(&self) -> bool {
        let count = usize::from(self.count);
        count > 1 && (count - self.gone.count()) * SPARSE <= count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_round_trips() {
        let mut gone = Gone::default();
        for slot in [0, 63, 64, 255] {
            gone.add(slot);
        }
        let read = Gone::from_bytes(&gone.to_bytes()).unwrap();
        assert_eq!(read, gone);
        assert!(read.has(255) && !read.has(254) && !read.has(256));
        assert_eq!(read.count(), 4);
        assert_eq!(Gone::from_bytes(&[0; 31]), None);
    }

    #[test]
    fn a_pack_goes_with_its_last_message() {
        let mut young = Young::new(7);
        let pack = young.new_pack();
        young.add(pack, Gone::default(), (0..8).map(QueueId::from));
        for id in 0..7_u64 {
            assert_eq!(young.take(id.into()).map(|place| place.pack), Some(7));
            assert!(matches!(young.left(pack), Left::Some(_)));
        }
        assert_eq!(young.take(3.into()), None);
        let moved = (0..=SPARSE_BATCHES).find_map(|_| young.next_batch());
        let (pack, gone) = moved.unwrap();
        assert!(!gone.has(7) && gone.has(6));
        assert!(young.take(7.into()).is_some());
        assert_eq!(young.left(pack), Left::Nothing);
        assert!(young.behind(None, 9).is_empty() && young.packs.is_empty());
    }
}
