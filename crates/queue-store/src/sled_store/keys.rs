//! The layout: one tree, a letter for what it is, the id, a number. Big-endian, so that the order
//! of keys is the order of ids.

use std::ops::Bound;

use mail_types::QueueId;

pub(super) const ID_MARK: &[u8] = b"m:ids";

const CHUNK: u8 = b'c';
const GONE: u8 = b'g';
const HEAD: u8 = b'h';
const PACK: u8 = b'p';
const PACK_CONTENT: u8 = b'q';
const PAGE: u8 = b'r';
const UPLOAD: u8 = b'u';

pub(super) fn head(id: QueueId) -> [u8; 9] {
    plain(HEAD, id)
}

/// The records of a pack.
pub(super) fn pack(pack: u64) -> [u8; 9] {
    plain(PACK, pack.into())
}

/// The contents of a pack.
pub(super) fn pack_content(pack: u64) -> [u8; 9] {
    plain(PACK_CONTENT, pack.into())
}

/// Which messages of a pack are gone.
pub(super) fn pack_gone(pack: u64) -> [u8; 9] {
    plain(GONE, pack.into())
}

/// The records of all packs with a lower number.
pub(super) fn packs_before(pack: u64) -> std::ops::Range<[u8; 9]> {
    plain(PACK, 0.into())..plain(PACK, pack.into())
}

/// Tells that content of a message is there whose record is yet to come.
pub(super) fn upload(id: QueueId) -> [u8; 9] {
    plain(UPLOAD, id)
}

pub(super) fn page(id: QueueId, page: u32) -> [u8; 13] {
    numbered(PAGE, id, page)
}

pub(super) fn chunk(id: QueueId, chunk: u32) -> [u8; 13] {
    numbered(CHUNK, id, chunk)
}

/// All heads behind that of `after`.
pub(super) fn heads_after(after: Option<QueueId>) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let start = match after {
        None => Bound::Included(vec![HEAD]),
        Some(id) => Bound::Excluded(head(id).to_vec()),
    };
    (start, Bound::Excluded(vec![HEAD + 1]))
}

pub(super) const UPLOADS: [u8; 1] = [UPLOAD];
pub(super) const CHUNKS: [u8; 1] = [CHUNK];
pub(super) const PAGES: [u8; 1] = [PAGE];
pub(super) const PACKS: [u8; 1] = [PACK];
pub(super) const PACKS_CONTENT: [u8; 1] = [PACK_CONTENT];
pub(super) const PACKS_GONE: [u8; 1] = [GONE];

/// The content of one message.
pub(super) fn chunks_of(id: QueueId) -> [u8; 9] {
    plain(CHUNK, id)
}

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

fn plain(kind: u8, id: QueueId) -> [u8; 9] {
    let mut key = [kind; 9];
    if let Some(place) = key.get_mut(1..) {
        place.copy_from_slice(&id.get().to_be_bytes());
    }
    key
}

fn numbered(kind: u8, id: QueueId, number: u32) -> [u8; 13] {
    let mut key = [0; 13];
    if let Some(place) = key.get_mut(..9) {
        place.copy_from_slice(&plain(kind, id));
    }
    if let Some(place) = key.get_mut(9..) {
        place.copy_from_slice(&number.to_be_bytes());
    }
    key
}
