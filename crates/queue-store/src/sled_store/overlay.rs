//! What the log says and sled does not yet.

use std::collections::BTreeMap;

use bytes::Bytes;
use mail_types::QueueId;

use super::log::Place;

/// What an entry takes besides its octets, about.
const OVERHEAD: usize = 160;

/// Changes of messages, each as it is now.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    pub(super) entries: BTreeMap<QueueId, Entry>,
    /// About how much memory it takes.
    pub(super) octets: usize,
}

#[derive(Clone, Debug)]
pub(super) enum Entry {
    /// Gone, with so many pages.
    Gone {
        pages: u32,
    },
    Live(Live),
}

/// What is known of a message here; the rest is below.
#[derive(Clone, Debug, Default)]
pub(super) struct Live {
    pub(super) head: Option<Bytes>,
    pub(super) pages: BTreeMap<u32, Bytes>,
    pub(super) places: Option<Vec<Place>>,
    /// Nothing is below for sure.
    pub(super) is_new: bool,
}

impl Live {
    fn octets(&self) -> usize {
        let pages: usize = self.pages.values().map(|page| page.len() + 64).sum();
        let places = self
            .places
            .as_ref()
            .map_or(0, |places| places.len() * size_of::<Place>());
        OVERHEAD + self.head.as_ref().map_or(0, Bytes::len) + pages + places
    }

    /// Puts what is known above over what is known here.
    pub(super) fn cover(&mut self, above: Live) {
        self.head = above.head.or(self.head.take());
        self.pages.extend(above.pages);
        self.places = above.places.or(self.places.take());
    }
}

impl Entry {
    fn octets(&self) -> usize {
        match self {
            Self::Gone { .. } => OVERHEAD,
            Self::Live(live) => live.octets(),
        }
    }
}

impl Overlay {
    pub(super) fn put(&mut self, id: QueueId, entry: Entry) {
        self.octets += entry.octets();
        if let Some(before) = self.entries.insert(id, entry) {
            self.octets -= before.octets();
        }
    }

    /// Puts it over what is there of the message.
    pub(super) fn cover(&mut self, id: QueueId, above: Live) {
        let entry = match self.entries.remove(&id) {
            Some(Entry::Live(mut live)) => {
                self.octets -= live.octets();
                live.cover(above);
                Entry::Live(live)
            }
            Some(gone @ Entry::Gone { .. }) => {
                self.octets -= gone.octets();
                gone
            }
            None => Entry::Live(above),
        };
        self.put(id, entry);
    }

    pub(super) fn forget(&mut self, id: QueueId) {
        if let Some(before) = self.entries.remove(&id) {
            self.octets -= before.octets();
        }
    }
}
