//! What a batch of the log says.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use mail_types::QueueId;

use super::log::Place;
use crate::codec::{encode_head, encode_page, page_count};
use crate::message::Message;
use crate::store::Op;

/// One change. Records are bytes of `codec`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A message with its record, and where its content is.
    Insert {
        id: QueueId,
        head: Bytes,
        pages: Vec<(u32, Bytes)>,
        places: Vec<Place>,
    },
    /// The record's head and some of its pages.
    Update {
        id: QueueId,
        head: Bytes,
        pages: Vec<(u32, Bytes)>,
    },
    /// It is gone, with so many pages.
    Remove { id: QueueId, pages: u32 },
    /// Where its content is now.
    Move { id: QueueId, places: Vec<Place> },
    /// Every id below may have been given out.
    Mark(u64),
}

const INSERT: u8 = 1;
const UPDATE: u8 = 2;
const REMOVE: u8 = 3;
const MOVE: u8 = 4;
const MARK: u8 = 5;

/// Octets of a place.
const PLACE: usize = 20;

/// A batch in the making: the contents of small messages first, then the changes.
#[derive(Debug)]
pub(super) struct Builder {
    octets: Vec<u8>,
    changes: Vec<Change>,
}

/// The octets that tell where the changes begin.
const START: usize = 4;
/// Those behind them tell which batches are on disk.
const DURABLE: usize = 8;

/// Puts into a batch that all with lower numbers are on disk.
pub(super) fn put_durable(octets: &mut [u8], batch: u64) {
    if let Some(place) = octets.get_mut(START..START + DURABLE) {
        place.copy_from_slice(&batch.to_le_bytes());
    }
}

/// The same read.
pub(super) fn read_durable(octets: &[u8]) -> Option<u64> {
    let place = octets.get(START..START + DURABLE)?.try_into().ok()?;
    Some(u64::from_le_bytes(place))
}

impl Builder {
    pub(super) fn new() -> Self {
        Self::reusing(Vec::new())
    }

    /// With the memory of a batch before.
    pub(super) fn reusing(mut octets: Vec<u8>) -> Self {
        octets.clear();
        octets.resize(START + DURABLE, 0);
        Self {
            octets,
            changes: Vec::new(),
        }
    }

    /// Adds what is wanted. `put` are the places of content that is in the log already: the first of
    /// the message's.
    pub(super) fn op(&mut self, op: &Op, put: Option<Vec<Place>>) {
        let change = match op {
            Op::Insert {
                message,
                put_chunks,
                tail,
            } => {
                let mut places = put.unwrap_or_default();
                let before = *put_chunks as usize;
                places.resize(places.len().max(before), Place::MISSING);
                let rest = tail.iter().skip(places.len() - before);
                for piece in rest {
                    let place = self.content(piece);
                    places.push(place);
                }
                Change::Insert {
                    id: message.id,
                    head: encode_head(message).into(),
                    pages: pages(message, 1..page_count(message.recipients.len())),
                    places,
                }
            }
            Op::Update { message, changed } => {
                let page_size = u32::try_from(crate::codec::PAGE).unwrap_or(u32::MAX);
                let mut wanted: Vec<u32> = changed.iter().map(|index| index / page_size).collect();
                wanted.sort_unstable();
                wanted.dedup();
                Change::Update {
                    id: message.id,
                    head: encode_head(message).into(),
                    pages: pages(message, wanted.into_iter().filter(|page| *page > 0)),
                }
            }
            Op::Remove(message) => Change::Remove {
                id: message.id,
                pages: page_count(message.recipients.len()),
            },
        };
        self.changes.push(change);
    }

    pub(super) fn change(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// Adds content; its place is in the batch.
    pub(super) fn content(&mut self, piece: &Bytes) -> Place {
        let at = self.octets.len();
        self.octets.extend_from_slice(piece);
        let short = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Place {
            segment: 0,
            at: short(at),
            len: short(piece.len()),
            sum: crc32c::crc32c(piece),
        }
    }

    /// The octets of the batch, and its changes.
    pub(super) fn finish(mut self) -> (Vec<u8>, Vec<Change>) {
        let start = u32::try_from(self.octets.len()).unwrap_or(u32::MAX);
        if let Some(place) = self.octets.get_mut(..START) {
            place.copy_from_slice(&start.to_le_bytes());
        }
        for change in &self.changes {
            change.encode(&mut self.octets);
        }
        (self.octets, self.changes)
    }
}

fn pages(message: &Arc<Message>, numbers: impl Iterator<Item = u32>) -> Vec<(u32, Bytes)> {
    numbers
        .map(|page| (page, encode_page(message, page).into()))
        .collect()
}

/// Reads a batch; `None` if it is none of this version.
pub(super) fn read_batch(octets: &[u8]) -> Option<Vec<Change>> {
    let start = octets.first_chunk::<START>()?;
    let mut rest = octets.get(u32::from_le_bytes(*start) as usize..)?;
    let mut changes = Vec::new();
    while !rest.is_empty() {
        changes.push(Change::read(&mut rest)?);
    }
    Some(changes)
}

impl Change {
    /// Puts the absolute places of content that is in the batch itself.
    pub(super) fn resolve(&mut self, segment: u64, start: u64) {
        let (Self::Insert { places, .. } | Self::Move { places, .. }) = self else {
            return;
        };
        for place in places.iter_mut().filter(|place| place.segment == 0) {
            let at = u64::from(place.at) + start;
            place.segment = segment;
            place.at = u32::try_from(at).unwrap_or(u32::MAX);
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Insert {
                id,
                head,
                pages,
                places,
            } => {
                out.push(INSERT);
                out.extend_from_slice(&id.get().to_le_bytes());
                put_places(out, places);
                put_record(out, head, pages);
            }
            Self::Update { id, head, pages } => {
                out.push(UPDATE);
                out.extend_from_slice(&id.get().to_le_bytes());
                put_record(out, head, pages);
            }
            Self::Remove { id, pages } => {
                out.push(REMOVE);
                out.extend_from_slice(&id.get().to_le_bytes());
                out.extend_from_slice(&pages.to_le_bytes());
            }
            Self::Move { id, places } => {
                out.push(MOVE);
                out.extend_from_slice(&id.get().to_le_bytes());
                put_places(out, places);
            }
            Self::Mark(mark) => {
                out.push(MARK);
                out.extend_from_slice(&mark.to_le_bytes());
            }
        }
    }

    fn read(rest: &mut &[u8]) -> Option<Self> {
        let kind = rest.try_get_u8().ok()?;
        let number = rest.try_get_u64_le().ok()?;
        let id = QueueId::from(number);
        Some(match kind {
            INSERT => {
                let places = read_places(rest)?;
                let (head, pages) = read_record(rest)?;
                Self::Insert {
                    id,
                    head,
                    pages,
                    places,
                }
            }
            UPDATE => {
                let (head, pages) = read_record(rest)?;
                Self::Update { id, head, pages }
            }
            REMOVE => Self::Remove {
                id,
                pages: rest.try_get_u32_le().ok()?,
            },
            MOVE => Self::Move {
                id,
                places: read_places(rest)?,
            },
            MARK => Self::Mark(number),
            _ => return None,
        })
    }
}

/// Places with their number in front.
pub(super) fn put_places(out: &mut Vec<u8>, places: &[Place]) {
    let count = u32::try_from(places.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&count.to_le_bytes());
    for place in places {
        out.extend_from_slice(&place.segment.to_le_bytes());
        out.extend_from_slice(&place.at.to_le_bytes());
        out.extend_from_slice(&place.len.to_le_bytes());
        out.extend_from_slice(&place.sum.to_le_bytes());
    }
}

/// The same read.
pub(super) fn read_places(rest: &mut &[u8]) -> Option<Vec<Place>> {
    let count = rest.try_get_u32_le().ok()? as usize;
    let mut octets = rest.split_off(..count.checked_mul(PLACE)?)?;
    let mut places = Vec::with_capacity(count);
    for _ in 0..count {
        places.push(Place {
            segment: octets.try_get_u64_le().ok()?,
            at: octets.try_get_u32_le().ok()?,
            len: octets.try_get_u32_le().ok()?,
            sum: octets.try_get_u32_le().ok()?,
        });
    }
    Some(places)
}

fn put_record(out: &mut Vec<u8>, head: &[u8], pages: &[(u32, Bytes)]) {
    let len = |octets: &[u8]| u32::try_from(octets.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&len(head).to_le_bytes());
    out.extend_from_slice(head);
    let count = u32::try_from(pages.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&count.to_le_bytes());
    for (page, octets) in pages {
        out.extend_from_slice(&page.to_le_bytes());
        out.extend_from_slice(&len(octets).to_le_bytes());
        out.extend_from_slice(octets);
    }
}

fn read_record(rest: &mut &[u8]) -> Option<(Bytes, Vec<(u32, Bytes)>)> {
    let octets = |rest: &mut &[u8]| {
        let len = rest.try_get_u32_le().ok()? as usize;
        rest.split_off(..len).map(Bytes::copy_from_slice)
    };
    let head = octets(rest)?;
    let count = rest.try_get_u32_le().ok()?;
    let mut pages = Vec::new();
    for _ in 0..count {
        let page = rest.try_get_u32_le().ok()?;
        pages.push((page, octets(rest)?));
    }
    Some((head, pages))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes() -> Vec<Change> {
        let place = |segment| Place {
            segment,
            at: 9,
            len: 8,
            sum: 7,
        };
        let id = QueueId::from(5);
        let record = || {
            (
                Bytes::from_static(b"head"),
                vec![(3, Bytes::from_static(b"page"))],
            )
        };
        let ((head, pages), (head2, pages2)) = (record(), record());
        vec![
            Change::Insert {
                id,
                head,
                pages,
                places: vec![place(0), place(4)],
            },
            Change::Update {
                id,
                head: head2,
                pages: pages2,
            },
            Change::Move {
                id,
                places: vec![place(6)],
            },
            Change::Remove { id, pages: 4 },
            Change::Mark(99),
        ]
    }

    #[test]
    fn batches_round_trip_and_no_cut_one_is_read_as_whole() {
        let mut builder = Builder::new();
        let place = builder.content(&Bytes::from_static(b"content"));
        assert_eq!((place.at, place.len), (12, 7));
        for change in changes() {
            builder.change(change);
        }
        let (octets, written) = builder.finish();
        assert_eq!(read_batch(&octets), Some(written));
        for cut in 0..octets.len() {
            assert_ne!(read_batch(&octets[..cut]), Some(changes()), "{cut}");
        }
    }

    #[test]
    fn places_in_the_batch_become_absolute() {
        let [mut insert, ..] = <[Change; 5]>::try_from(changes()).unwrap();
        insert.resolve(12, 100);
        let Change::Insert { places, .. } = insert else {
            panic!()
        };
        assert_eq!((places[0].segment, places[0].at), (12, 109));
        assert_eq!((places[1].segment, places[1].at), (4, 9));
    }
}
