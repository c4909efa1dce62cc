//! The unit of the log: a header with checksums, and octets.
//!
//! Each segment has a random tag that its frames repeat. What a client sends is in the log too, and
//! must not be taken for a frame when a damaged part is searched for the next whole one: it cannot
//! know the tag.

/// Octets of a header.
pub(super) const HEADER: usize = 32;
/// Frames begin at multiples of so many octets.
pub(super) const ALIGN: usize = 8;

const MAGIC: [u8; 3] = *b"cq1";

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Changes that are one transaction; its number counts them.
    Batch,
    /// Content of a message; its number is the message's id.
    Content,
    /// The first of a segment, without octets; its number is the segment's.
    Segment,
}

impl Kind {
    fn octet(self) -> u8 {
        match self {
            Self::Batch => b'b',
            Self::Content => b'c',
            Self::Segment => b's',
        }
    }

    fn of(octet: u8) -> Option<Self> {
        [Self::Batch, Self::Content, Self::Segment]
            .into_iter()
            .find(|kind| kind.octet() == octet)
    }
}

/// What stands before the octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) tag: u64,
    pub(super) number: u64,
    pub(super) len: u32,
    pub(super) sum: u32,
}

impl Header {
    pub(super) fn to_bytes(self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        let mut at = 0;
        let mut put = |octets: &[u8]| {
            if let Some(place) = out.get_mut(at..at + octets.len()) {
                place.copy_from_slice(octets);
            }
            at += octets.len();
        };
        put(&MAGIC);
        put(&[self.kind.octet()]);
        put(&self.tag.to_le_bytes());
        put(&self.number.to_le_bytes());
        put(&self.len.to_le_bytes());
        put(&self.sum.to_le_bytes());
        let sum = crc32c::crc32c(out.get(..HEADER - 4).unwrap_or_default());
        if let Some(place) = out.get_mut(HEADER - 4..) {
            place.copy_from_slice(&sum.to_le_bytes());
        }
        out
    }

    pub(super) fn read(octets: &[u8]) -> Option<Self> {
        let octets: &[u8; HEADER] = octets.first_chunk()?;
        if !octets.starts_with(&MAGIC) {
            return None;
        }
        let (summed, sum) = octets.split_last_chunk::<4>()?;
        if crc32c::crc32c(summed) != u32::from_le_bytes(*sum) {
            return None;
        }
        let long = |at: usize| {
            let octets = octets.get(at..at + 8)?.try_into().ok()?;
            Some(u64::from_le_bytes(octets))
        };
        let short = |at: usize| {
            let octets = octets.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_le_bytes(octets))
        };
        Some(Self {
            kind: Kind::of(octets[3])?,
            tag: long(4)?,
            number: long(12)?,
            len: short(20)?,
            sum: short(24)?,
        })
    }
}

/// Where the next frame begins behind one with so many octets.
pub(super) fn next_frame(at: u64, len: usize) -> u64 {
    (at + (HEADER + len) as u64).next_multiple_of(ALIGN as u64)
}

/// A whole frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub(super) header: Header,
    /// Where its octets are in the segment.
    pub(super) at: u64,
    pub(super) octets: &'a [u8],
}

/// The whole frames of a segment in their order. What is damaged is stepped over, which costs what
/// is in it; behind the last whole one is what nobody was told of.
#[derive(Debug)]
pub(super) struct Frames<'a> {
    segment: &'a [u8],
    tag: u64,
    at: usize,
    /// Octets that were stepped over between whole frames.
    pub(super) damaged: u64,
}

impl<'a> Frames<'a> {
    pub(super) fn new(segment: &'a [u8], tag: u64, at: usize) -> Self {
        let damaged = 0;
        Self {
            segment,
            tag,
            at,
            damaged,
        }
    }

    fn whole(&self, at: usize) -> Option<Frame<'a>> {
        if !at.is_multiple_of(ALIGN) {
            return None;
        }
        let rest = self.segment.get(at..)?;
        let header = Header::read(rest)?;
        let octets = rest.get(HEADER..HEADER.checked_add(header.len as usize)?)?;
        let is_whole = header.tag == self.tag && crc32c::crc32c(octets) == header.sum;
        is_whole.then_some(Frame {
            header,
            at: (at + HEADER) as u64,
            octets,
        })
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let begin = self.at;
        while let Some(rest) = self.segment.get(self.at..) {
            // Most of a segment may be empty.
            let found = memchr::memmem::find(rest, &MAGIC)?;
            self.at += found;
            if let Some(frame) = self.whole(self.at) {
                self.damaged += (self.at - begin) as u64;
                let next = next_frame(self.at as u64, frame.octets.len());
                self.at = usize::try_from(next).unwrap_or(usize::MAX);
                return Some(frame);
            }
            self.at += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: Kind, tag: u64, number: u64, octets: &[u8]) -> Vec<u8> {
        let header = Header {
            kind,
            tag,
            number,
            len: u32::try_from(octets.len()).unwrap(),
            sum: crc32c::crc32c(octets),
        };
        let mut out = header.to_bytes().to_vec();
        out.extend_from_slice(octets);
        out.resize(out.len().next_multiple_of(ALIGN), 0);
        out
    }

    fn numbers(segment: &[u8]) -> (Vec<u64>, u64) {
        let mut frames = Frames::new(segment, 7, 0);
        let numbers = frames.by_ref().map(|frame| frame.header.number).collect();
        (numbers, frames.damaged)
    }

    #[test]
    fn damage_costs_what_is_in_it_and_no_more() {
        let frames = [
            frame(Kind::Segment, 7, 1, b""),
            frame(Kind::Batch, 7, 2, b"one"),
            frame(Kind::Content, 7, 3, b"another one"),
            frame(Kind::Batch, 7, 4, b""),
        ];
        let mut segment = frames.concat();
        segment.resize(segment.len() + 64, 0);
        assert_eq!(numbers(&segment), (vec![1, 2, 3, 4], 0));
        let second = frames[0].len();
        for at in second..second + HEADER + 3 {
            let mut bad = segment.clone();
            bad[at] ^= 1;
            assert_eq!(numbers(&bad), (vec![1, 3, 4], frames[1].len() as u64));
        }
        for cut in 0..frames.concat().len() {
            let (found, damaged) = numbers(&segment[..cut]);
            assert!(found.len() < 4 && damaged == 0, "{cut}");
        }
    }

    #[test]
    fn content_is_not_taken_for_a_frame() {
        let forged = frame(Kind::Batch, 8, 9, b"forged");
        let mut segment = frame(Kind::Content, 7, 1, &forged);
        segment.extend(frame(Kind::Batch, 7, 2, b""));
        segment[5] ^= 1;
        assert_eq!(numbers(&segment).0, [2]);
    }
}
