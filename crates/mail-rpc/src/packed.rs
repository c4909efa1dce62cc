//! Many messages in one answer of `MailboxService.Fetch`: the form of `Packed.data`.

use bytes::{BufMut, Bytes, BytesMut};

use crate::convert::ConvertError;

/// The length that says "there is no such part".
const NIL: u32 = u32::MAX;
/// The length that says "too large for here".
const ELSEWHERE: u32 = u32::MAX - 1;

/// A piece of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// Too large: octets of the message that are to be fetched by themselves.
    Elsewhere {
        /// First octet.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// The message has no such part.
    Nil,
    /// The piece.
    Octets(&'a [u8]),
}

/// Writes messages behind each other.
#[derive(Debug, Default)]
pub struct Packer(BytesMut);

impl Packer {
    /// With room for so many octets.
    pub fn with_capacity(octets: usize) -> Self {
        Self(BytesMut::with_capacity(octets))
    }

    /// Octets so far.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True at the beginning.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Begins a message; one value for each piece that was asked for is to follow.
    pub fn begin(&mut self, uid: u32) {
        self.0.put_u32_le(uid);
    }

    /// Takes back what stands behind a place that [`Self::len`] told.
    pub fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// The next value of the message.
    pub fn push(&mut self, value: Value<'_>) {
        match value {
            Value::Elsewhere { offset, length } => {
                self.0.put_u32_le(ELSEWHERE);
                self.0.put_u64_le(offset);
                self.0.put_u64_le(length);
            }
            Value::Nil => self.0.put_u32_le(NIL),
            Value::Octets(octets) => {
                self.0
                    .put_u32_le(u32::try_from(octets.len()).unwrap_or(NIL));
                self.0.extend_from_slice(octets);
            }
        }
    }

    /// What was written; the packer is empty then.
    pub fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.0).freeze()
    }
}

/// Reads messages that stand behind each other.
#[derive(Debug)]
pub struct Unpacker<'a>(&'a [u8]);

impl<'a> Unpacker<'a> {
    /// Reads `Packed.data`.
    pub fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// The next message's UID, and its values in `values`, `pieces` of them; `None` at the end.
    pub fn next(
        &mut self,
        pieces: usize,
        values: &mut Vec<Value<'a>>,
    ) -> Result<Option<u32>, ConvertError> {
        values.clear();
        if self.0.is_empty() {
            return Ok(None);
        }
        let message = self.message(pieces, values);
        message.map(Some).ok_or(ConvertError::new("packed answer"))
    }

    /// What is not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    fn message(&mut self, pieces: usize, values: &mut Vec<Value<'a>>) -> Option<u32> {
        let uid = self.u32()?;
        for _ in 0..pieces {
            let value = match self.u32()? {
                NIL => Value::Nil,
                ELSEWHERE => Value::Elsewhere {
                    offset: self.u64()?,
                    length: self.u64()?,
                },
                len => {
                    let (octets, rest) = self.0.split_at_checked(len as usize)?;
                    self.0 = rest;
                    Value::Octets(octets)
                }
            };
            values.push(value);
        }
        Some(uid)
    }

    fn u32(&mut self) -> Option<u32> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*head))
    }

    fn u64(&mut self) -> Option<u64> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*head))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out() {
        let values = [
            Value::Octets(b"abc"),
            Value::Nil,
            Value::Octets(b""),
            Value::Elsewhere {
                offset: 7,
                length: 1 << 40,
            },
        ];
        let mut packer = Packer::default();
        for uid in [1, u32::MAX] {
            packer.begin(uid);
            for value in values {
                packer.push(value);
            }
        }
        let data = packer.take();
        let mut unpacker = Unpacker::new(&data);
        let mut found = Vec::new();
        for uid in [1, u32::MAX] {
            assert_eq!(unpacker.next(values.len(), &mut found).unwrap(), Some(uid));
            assert_eq!(found, values);
        }
        assert!(unpacker.rest().is_empty());
        assert_eq!(unpacker.next(values.len(), &mut found).unwrap(), None);
        // Cut anywhere but between messages it is an error and no more.
        let one = data.len() / 2;
        for len in (1..data.len()).filter(|len| *len != one) {
            let mut unpacker = Unpacker::new(&data[..len]);
            while let Ok(next) = unpacker.next(values.len(), &mut found) {
                assert!(next.is_some(), "{len}");
            }
        }
    }
}
