use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $plain:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name($inner);

        impl $name {
            /// The smallest value, 1.
            pub const MIN: Self = Self(<$inner>::MIN);

            /// The number; never 0.
            pub fn get(self) -> $plain {
                self.0.get()
            }

            /// Takes a number, or `None` for one out of range.
            pub fn new(value: $plain) -> Option<Self> {
                Self::try_from(value).ok()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

macro_rules! from_u32 {
    ($name:ident) => {
        impl TryFrom<u32> for $name {
            type Error = std::num::TryFromIntError;

            fn try_from(value: u32) -> Result<Self, Self::Error> {
                NonZeroU32::try_from(value).map(Self)
            }
        }

        impl $name {
            /// The number after this one, or `None` at the end of the range.
            pub fn next(self) -> Option<Self> {
                self.0.checked_add(1).map(Self)
            }
        }
    };
}

number! {
    /// A message's unique identifier in its mailbox (RFC 3501 §2.3.1.1).
    Uid, NonZeroU32, u32
}
number! {
    /// What makes UIDs of one life of a mailbox differ from those of another (RFC 3501 §2.3.1.1).
    UidValidity, NonZeroU32, u32
}
number! {
    /// A message's place in its mailbox, from 1 (RFC 3501 §2.3.1.2).
    SeqNum, NonZeroU32, u32
}
number! {
    /// A modification sequence: 63 bits (RFC 7162 §3.1).
    ModSeq, NonZeroU64, u64
}
from_u32!(Uid);
from_u32!(UidValidity);
from_u32!(SeqNum);

/// A modification sequence out of range: 0, or over 63 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a modification sequence has 63 bits and is not 0")]
pub struct ModSeqError;

impl TryFrom<u64> for ModSeq {
    type Error = ModSeqError;

    fn try_from(value: u64) -> Result<Self, ModSeqError> {
        if value > i64::MAX as u64 {
            return Err(ModSeqError);
        }
        NonZeroU64::new(value).map(Self).ok_or(ModSeqError)
    }
}

impl ModSeq {
    /// The number after this one; the last one stays what it is (it takes centuries to get there).
    pub fn next(self) -> Self {
        Self::new(self.get() + 1).unwrap_or(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_and_the_end() {
        assert_eq!(Uid::new(0), None);
        assert_eq!(Uid::new(u32::MAX).and_then(Uid::next), None);
        assert_eq!(ModSeq::new(0), None);
        assert_eq!(ModSeq::new(1 << 63), None);
        let last = ModSeq::new((1 << 63) - 1).unwrap();
        assert_eq!(last.next(), last);
    }
}
