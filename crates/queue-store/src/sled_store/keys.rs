//! The layout of the tree: a letter for what it is, the id, a number. Big-endian, so that the order
//! of keys is the order of ids.

use std::ops::Bound;

use mail_types::QueueId;

/// Every id below it may have been given out.
pub(super) const ID_MARK: &[u8] = b"m:ids";
/// Up to where the tree has what the log says.
pub(super) const CHECKPOINT: &[u8] = b"m:log";

const HEAD: u8 = b'h';
const PAGE: u8 = b'r';
const PLACES: u8 = b's';

/// A record's first part.
pub(super) fn head(id: QueueId) -> [u8; 9] {
    let mut key = [HEAD; 9];
    if let Some(place) = key.get_mut(1..) {
        place.copy_from_slice(&id.get().to_be_bytes());
    }
    key
}

/// Where the content is, if that is too much for the head.
pub(super) fn places(id: QueueId) -> [u8; 9] {
    let mut key = head(id);
    key[0] = PLACES;
    key
}

/// A page of recipients.
pub(super) fn page(id: QueueId, page: u32) -> [u8; 13] {
    let mut key = [PAGE; 13];
    if let Some(place) = key.get_mut(1..9) {
        place.copy_from_slice(&id.get().to_be_bytes());
    }
    if let Some(place) = key.get_mut(9..) {
        place.copy_from_slice(&page.to_be_bytes());
    }
    key
}

/// All heads behind that of `after`.
pub(super) fn heads_after(after: Option<QueueId>) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let start = match after {
        None => Bound::Included(vec![HEAD]),
        Some(id) => Bound::Excluded(head(id).to_vec()),
    };
    (start, Bound::Excluded(vec![HEAD + 1]))
}

pub(super) const PAGES: [u8; 1] = [PAGE];

/// The id in a key.
pub(super) fn id(key: &[u8]) -> Option<QueueId> {
    let bytes = key.get(1..9)?.try_into().ok()?;
    Some(u64::from_be_bytes(bytes).into())
}

/// The number in a key.
pub(super) fn number(key: &[u8]) -> Option<u32> {
    let bytes = key.get(9..13)?.try_into().ok()?;
    Some(u32::from_be_bytes(bytes))
}
