//! How much of each segment is content that a message has.

use std::collections::BTreeMap;

use super::log::Place;

/// Octets of content in use, by segment.
#[derive(Debug, Default)]
pub(super) struct Usage(BTreeMap<u64, u64>);

impl Usage {
    pub(super) fn add(&mut self, places: &[Place]) {
        for place in places.iter().filter(|place| **place != Place::MISSING) {
            *self.0.entry(place.segment).or_default() += octets(*place);
        }
    }

    pub(super) fn sub(&mut self, places: &[Place]) {
        for place in places {
            if let Some(used) = self.0.get_mut(&place.segment) {
                *used = used.saturating_sub(octets(*place));
                if *used == 0 {
                    self.0.remove(&place.segment);
                }
            }
        }
    }

    pub(super) fn of(&self, segment: u64) -> u64 {
        self.0.get(&segment).copied().unwrap_or_default()
    }
}

/// An empty content keeps its segment too.
fn octets(place: Place) -> u64 {
    u64::from(place.len).max(1)
}
