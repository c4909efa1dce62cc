//! The messages of a mailbox at one moment. Versions share the chunks in which they do not differ,
//! so that a session that is behind costs what has changed since, and is told that alone.

use std::cmp::Ordering;
use std::sync::Arc;

use super::chunk::{Chunk, Entry, key};

/// Messages in order of UID. A message's place is its sequence number less one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows(Vec<Part>);

#[derive(Debug, Clone)]
struct Part {
    /// Messages before this chunk.
    before: usize,
    chunk: Arc<Chunk>,
}

/// What changes of a mailbox's messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edit<'a> {
    /// New states of messages; of those that are not there nothing is kept.
    pub(crate) changed: &'a [Entry],
    /// Ranges of UIDs, both ends included, in ascending order.
    pub(crate) expunged: &'a [(u32, u32)],
    /// New messages in order of UID.
    pub(crate) appended: &'a [Entry],
}

/// How a later version differs.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    /// New states, in order of UID.
    pub(crate) changed: Vec<Entry>,
    /// UIDs of messages that are gone, in their order.
    pub(crate) expunged: Vec<u32>,
    /// UIDs of messages that are new, in their order.
    pub(crate) appended: Vec<u32>,
}

impl Rows {
    /// Packs messages in order of UID; chunks that are as in `like` are shared with it.
    pub(crate) fn pack(entries: &[Entry], like: &Self) -> Self {
        let mut chunks = entries.chunk_by(|a, b| key(a.uid) == key(b.uid));
        let pack = |entries: &[Entry]| {
            let chunk = Chunk::pack(entries);
            match like.chunk(chunk.key()) {
                Some(known) if **known == chunk => known.clone(),
                _ => Arc::new(chunk),
            }
        };
        Self::from_chunks(chunks.by_ref().map(pack))
    }

    fn from_chunks(chunks: impl Iterator<Item = Arc<Chunk>>) -> Self {
        let mut before = 0;
        let place = |chunk: Arc<Chunk>| {
            let part = Part { before, chunk };
            before += part.chunk.len();
            part
        };
        let mut parts: Vec<Part> = chunks.map(place).collect();
        parts.shrink_to_fit();
        Self(parts)
    }

    pub(crate) fn len(&self) -> usize {
        let last = self.0.last();
        last.map_or(0, |part| part.before + part.chunk.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn chunk(&self, key: u32) -> Option<&Arc<Chunk>> {
        let at = self.0.binary_search_by_key(&key, |part| part.chunk.key());
        Some(&self.0.get(at.ok()?)?.chunk)
    }

    /// The message at a place.
    pub(crate) fn get(&self, place: usize) -> Option<Entry> {
        let behind = self.0.partition_point(|part| part.before <= place);
        let part = self.0.get(behind.checked_sub(1)?)?;
        part.chunk.get(place - part.before)
    }

    /// The last message.
    pub(crate) fn last(&self) -> Option<Entry> {
        self.get(self.len().checked_sub(1)?)
    }

    /// How many messages have smaller UIDs: the place of a UID, if it is there.
    pub(crate) fn below(&self, uid: u32) -> usize {
        let at = self.0.partition_point(|part| part.chunk.key() < key(uid));
        match self.0.get(at) {
            Some(part) if part.chunk.key() == key(uid) => part.before + part.chunk.below(uid),
            Some(part) => part.before,
            None => self.len(),
        }
    }

    /// How many messages have no larger UID.
    pub(crate) fn up_to(&self, uid: u32) -> usize {
        uid.checked_add(1)
            .map_or(self.len(), |next| self.below(next))
    }

    /// The place of a UID.
    pub(crate) fn find(&self, uid: u32) -> Option<usize> {
        let has = self.chunk(key(uid)).is_some_and(|chunk| chunk.has(uid));
        has.then(|| self.below(uid))
    }

    /// All messages in order of UID.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Entry> + '_ {
        self.0.iter().flat_map(|part| part.chunk.entries())
    }

    /// The messages at places, as long as these are in use.
    pub(crate) fn at<'a>(
        &'a self,
        places: impl Iterator<Item = usize> + 'a,
    ) -> impl Iterator<Item = (usize, Entry)> + 'a {
        let mut part: Option<&Part> = None;
        let mut unpacked: Vec<Entry> = Vec::new();
        // A chunk is unpacked when a second message of it is asked for.
        places.map_while(move |place| {
            let inner = |part: &Part| {
                place
                    .checked_sub(part.before)
                    .filter(|at| *at < part.chunk.len())
            };
            if let Some((part, at)) = part.and_then(|part| Some((part, inner(part)?))) {
                if unpacked.is_empty() {
                    unpacked.extend(part.chunk.entries());
                }
                return unpacked.get(at).map(|entry| (place, *entry));
            }
            unpacked.clear();
            let behind = self.0.partition_point(|part| part.before <= place);
            part = behind.checked_sub(1).and_then(|at| self.0.get(at));
            let (part, at) = part.and_then(|part| Some((part, inner(part)?)))?;
            Some((place, part.chunk.get(at)?))
        })
    }

    /// The place of the first message without `\Seen`.
    pub(crate) fn first_unseen(&self) -> Option<usize> {
        let place = |part: &Part| Some(part.before + part.chunk.first_unseen()?);
        self.0.iter().find_map(place)
    }

    /// The version behind a change.
    pub(crate) fn edited(&self, edit: Edit<'_>) -> Self {
        let mut parts = self.0.clone();
        for states in edit.changed.chunk_by(|a, b| key(a.uid) == key(b.uid)) {
            let Some(first) = states.first() else {
                continue;
            };
            amend(&mut parts, key(first.uid), |entries| {
                for state in states {
                    let found = entries.binary_search_by_key(&state.uid, |entry| entry.uid);
                    // What a command's answer told already is not told by an older state.
                    if let Some(entry) = found.ok().and_then(|at| entries.get_mut(at))
                        && entry.modseq <= state.modseq
                    {
                        (entry.flags, entry.modseq) = (state.flags, state.modseq);
                    }
                }
            });
        }
        if !edit.expunged.is_empty() {
            parts.retain_mut(|part| without(part, edit.expunged));
        }
        for new in edit.appended.chunk_by(|a, b| key(a.uid) == key(b.uid)) {
            let Some(first) = new.first() else { continue };
            amend(&mut parts, key(first.uid), |entries| {
                entries.extend_from_slice(new);
            });
        }
        Self::from_chunks(parts.into_iter().map(|part| part.chunk))
    }

    /// How `later` differs.
    pub(crate) fn difference(&self, later: &Self) -> Difference {
        let mut difference = Difference::default();
        each_pair(&self.0, &later.0, |old, new| match (old, new) {
            (Some(old), Some(new)) if Arc::ptr_eq(old, new) => {}
            _ => difference.add(old, new),
        });
        difference
    }

    /// `later`, with the messages of this version that it lacks.
    pub(crate) fn kept_in(&self, later: &Self) -> Self {
        let mut chunks = Vec::new();
        each_pair(&self.0, &later.0, |old, new| {
            let chunk = match (old, new) {
                (Some(old), Some(new)) if !Arc::ptr_eq(old, new) => {
                    let kept = old.entries().filter(|entry| !new.has(entry.uid));
                    let mut entries: Vec<Entry> = kept.collect();
                    if entries.is_empty() {
                        new.clone()
                    } else {
                        entries.extend(new.entries());
                        entries.sort_unstable_by_key(|entry| entry.uid);
                        Arc::new(Chunk::pack(&entries))
                    }
                }
                (old, new) => match new.or(old) {
                    Some(chunk) => chunk.clone(),
                    None => return,
                },
            };
            chunks.push(chunk);
        });
        Self::from_chunks(chunks.into_iter())
    }

    /// Octets that it takes at most.
    pub(crate) fn octets(&self) -> usize {
        let chunks = self.0.iter().map(|part| part.chunk.octets());
        chunks.sum::<usize>() + self.0.len() * size_of::<Part>()
    }
}

impl Difference {
    fn add(&mut self, old: Option<&Arc<Chunk>>, new: Option<&Arc<Chunk>>) {
        let mut old = old.into_iter().flat_map(|chunk| chunk.entries()).peekable();
        for entry in new.into_iter().flat_map(|chunk| chunk.entries()) {
            while let Some(gone) = old.next_if(|old| old.uid < entry.uid) {
                self.expunged.push(gone.uid);
            }
            match old.next_if(|old| old.uid == entry.uid) {
                None => self.appended.push(entry.uid),
                Some(old) if old == entry => {}
                Some(_) => self.changed.push(entry),
            }
        }
        self.expunged.extend(old.map(|gone| gone.uid));
    }
}

/// Takes messages out of a chunk, once for all ranges that touch it; false if none is left.
fn without(part: &mut Part, expunged: &[(u32, u32)]) -> bool {
    let of = part.chunk.key();
    let from = expunged.partition_point(|(_, high)| key(*high) < of);
    let to = expunged.partition_point(|(low, _)| key(*low) <= of);
    let mut touching = expunged.get(from..to).unwrap_or_default().iter().peekable();
    if touching.peek().is_none() {
        return true;
    }
    let is_kept = |entry: &Entry| {
        while touching.next_if(|(_, high)| *high < entry.uid).is_some() {}
        touching.peek().is_none_or(|(low, _)| *low > entry.uid)
    };
    let kept: Vec<Entry> = part.chunk.entries().filter(is_kept).collect();
    if kept.len() < part.chunk.len() && !kept.is_empty() {
        part.chunk = Arc::new(Chunk::pack(&kept));
    }
    !kept.is_empty()
}

/// Changes the messages of one key.
fn amend(parts: &mut Vec<Part>, key: u32, change: impl FnOnce(&mut Vec<Entry>)) {
    let at = parts.binary_search_by_key(&key, |part| part.chunk.key());
    let old = at.ok().and_then(|at| parts.get(at));
    let mut entries = Vec::new();
    entries.extend(old.into_iter().flat_map(|part| part.chunk.entries()));
    change(&mut entries);
    let chunk = (!entries.is_empty()).then(|| Arc::new(Chunk::pack(&entries)));
    match (at, chunk) {
        (Ok(at), Some(chunk)) => {
            if let Some(part) = parts.get_mut(at) {
                part.chunk = chunk;
            }
        }
        (Ok(at), None) => {
            parts.remove(at);
        }
        (Err(at), Some(chunk)) => parts.insert(at, Part { before: 0, chunk }),
        (Err(_), None) => {}
    }
}

/// Goes through the chunks of two versions, those with the same key together.
fn each_pair(
    old: &[Part],
    new: &[Part],
    mut each: impl FnMut(Option<&Arc<Chunk>>, Option<&Arc<Chunk>>),
) {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (Some(old), Some(new)) => old.chunk.key().cmp(&new.chunk.key()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return,
        };
        let take_old = order.is_le().then(|| old.next()).flatten();
        let take_new = order.is_ge().then(|| new.next()).flatten();
        each(
            take_old.map(|part| &part.chunk),
            take_new.map(|part| &part.chunk),
        );
    }
}

#[cfg(test)]
mod tests;
