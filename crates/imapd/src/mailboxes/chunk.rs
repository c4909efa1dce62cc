//! Messages with neighbouring UIDs, packed. A chunk never changes: another one takes its place.

use mail_types::{Flags, SystemFlag};

use super::column::Column;

/// A message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) uid: u32,
    pub(crate) flags: Flags,
    pub(crate) modseq: u64,
    pub(crate) size: u64,
}

/// UIDs with the same upper bits are in the same chunk, so that two versions of a mailbox have
/// chunks with the same bounds.
pub(super) fn key(uid: u32) -> u32 {
    uid >> 8
}

/// The messages of one key: at least one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    key: u32,
    /// The UIDs that are there, by their lower bits.
    present: [u64; 4],
    flags: Column,
    modseqs: Column,
    sizes: Column,
}

impl Chunk {
    /// Packs messages of one key in order of UID.
    pub(super) fn pack(entries: &[Entry]) -> Self {
        let mut present = [0; 4];
        for entry in entries {
            let (word, bit) = split(entry.uid);
            if let Some(word) = present.get_mut(word) {
                *word |= 1 << bit;
            }
        }
        Self {
            key: entries.first().map_or(0, |entry| key(entry.uid)),
            present,
            flags: Column::pack(entries.iter().map(|entry| entry.flags.bits())),
            modseqs: Column::pack(entries.iter().map(|entry| entry.modseq)),
            sizes: Column::pack(entries.iter().map(|entry| entry.size)),
        }
    }

    pub(super) fn key(&self) -> u32 {
        self.key
    }

    pub(super) fn len(&self) -> usize {
        let ones = self.present.iter().map(|word| word.count_ones() as usize);
        ones.sum()
    }

    /// How many messages have smaller UIDs than that of the same key.
    pub(super) fn below(&self, uid: u32) -> usize {
        let (at, bit) = split(uid);
        let before = self.present.iter().take(at);
        let before: u32 = before.map(|word| word.count_ones()).sum();
        let word = self.present.get(at).copied().unwrap_or(0);
        (before + (word & ((1 << bit) - 1)).count_ones()) as usize
    }

    pub(super) fn has(&self, uid: u32) -> bool {
        let (at, bit) = split(uid);
        let word = self.present.get(at).copied().unwrap_or(0);
        key(uid) == self.key && word & (1 << bit) != 0
    }

    pub(super) fn get(&self, place: usize) -> Option<Entry> {
        let mut left = u32::try_from(place).ok()?;
        for (at, word) in (0..).zip(self.present) {
            if left >= word.count_ones() {
                left -= word.count_ones();
                continue;
            }
            let mut rest = word;
            if word == u64::MAX {
                rest = word << left;
            } else {
                (0..left).for_each(|_| rest &= rest - 1);
            }
            return Some(self.entry(place, at, rest.trailing_zeros()));
        }
        None
    }

    fn entry(&self, place: usize, word: u32, bit: u32) -> Entry {
        Entry {
            uid: self.key << 8 | word << 6 | bit,
            flags: Flags::from(self.flags.get(place)),
            modseq: self.modseqs.get(place),
            size: self.sizes.get(place),
        }
    }

    /// All messages in order of UID.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        let bits = (0..).zip(self.present).flat_map(|(at, word)| {
            let mut rest: u64 = word;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros();
                (rest != 0).then(|| {
                    rest &= rest - 1;
                    (at, bit)
                })
            })
        });
        let places = (0..).zip(bits);
        places.map(|(place, (word, bit))| self.entry(place, word, bit))
    }

    /// The place of the first message without `\Seen`.
    pub(super) fn first_unseen(&self) -> Option<usize> {
        let is_seen = |bits: u64| Flags::from(bits).has(SystemFlag::Seen);
        match self.flags.only() {
            Some(all) if is_seen(all) => None,
            Some(_) => Some(0),
            None => (0..self.len()).find(|place| !is_seen(self.flags.get(*place))),
        }
    }

    /// Octets that it takes.
    pub(super) fn octets(&self) -> usize {
        let columns = [&self.flags, &self.modseqs, &self.sizes];
        size_of::<Self>() + columns.map(Column::octets).into_iter().sum::<usize>()
    }
}

/// Where the lower bits of a UID are.
fn split(uid: u32) -> (usize, u32) {
    ((uid >> 6 & 3) as usize, uid & 63)
}
