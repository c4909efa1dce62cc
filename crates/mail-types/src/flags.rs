use std::fmt;
use std::ops::{BitAnd, BitOr, Not};

/// The system flags of RFC 3501 §2.3.2 that are stored; `\Recent` belongs to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SystemFlag {
    /// `\Answered`
    Answered,
    /// `\Deleted`
    Deleted,
    /// `\Draft`
    Draft,
    /// `\Flagged`
    Flagged,
    /// `\Seen`
    Seen,
}

impl SystemFlag {
    /// All of them, in the order of their bits.
    pub const ALL: [Self; 5] = [
        Self::Seen,
        Self::Answered,
        Self::Flagged,
        Self::Deleted,
        Self::Draft,
    ];

    fn bit(self) -> u64 {
        match self {
            Self::Seen => 1,
            Self::Answered => 1 << 1,
            Self::Flagged => 1 << 2,
            Self::Deleted => 1 << 3,
            Self::Draft => 1 << 4,
        }
    }

    /// The flag's name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "\\Answered",
            Self::Deleted => "\\Deleted",
            Self::Draft => "\\Draft",
            Self::Flagged => "\\Flagged",
            Self::Seen => "\\Seen",
        }
    }

    /// The flag of that name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|flag| flag.name().eq_ignore_ascii_case(name))
    }
}

/// A message's flags: the system flags in bits 0 to 4, and the mailbox's keywords in bits 5 to 63.
///
/// Which keyword a bit means is told by the mailbox's keyword table: keyword `n` of the table is
/// bit `n + 5`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags(u64);

impl Flags {
    /// No flag at all.
    pub const NONE: Self = Self(0);
    /// How many keywords one mailbox can have: what a 64-bit word leaves.
    pub const MAX_KEYWORDS: usize = 59;

    /// The bits as they are stored and sent.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The flag of the keyword at that place of the mailbox's table, or `None` past the last bit.
    pub fn keyword(index: usize) -> Option<Self> {
        (index < Self::MAX_KEYWORDS).then(|| Self(1 << (index + 5)))
    }

    /// The places in the mailbox's table of the keywords that are set.
    pub fn keywords(self) -> impl Iterator<Item = usize> {
        (0..Self::MAX_KEYWORDS).filter(move |index| self.0 & (1 << (index + 5)) != 0)
    }

    /// True if every flag of `other` is set here.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// True if the system flag is set.
    pub fn has(self, flag: SystemFlag) -> bool {
        self.0 & flag.bit() != 0
    }
}

impl From<u64> for Flags {
    fn from(bits: u64) -> Self {
        Self(bits)
    }
}

impl From<SystemFlag> for Flags {
    fn from(flag: SystemFlag) -> Self {
        Self(flag.bit())
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Flags {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Not for Flags {
    type Output = Self;

    fn not(self) -> Self {
        Self(!self.0)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flags({:#b})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_flags_and_keywords_do_not_meet() {
        let all = SystemFlag::ALL
            .into_iter()
            .fold(Flags::NONE, |f, s| f | s.into());
        assert_eq!(all.bits(), 0b1_1111);
        assert_eq!(Flags::keyword(0).unwrap().bits(), 1 << 5);
        assert_eq!(Flags::keyword(58).unwrap().bits(), 1 << 63);
        assert_eq!(Flags::keyword(59), None);
        assert_eq!(
            (all | Flags::keyword(3).unwrap())
                .keywords()
                .collect::<Vec<_>>(),
            [3]
        );
    }

    #[test]
    fn names_in_any_case() {
        assert_eq!(SystemFlag::from_name("\\sEEN"), Some(SystemFlag::Seen));
        assert_eq!(SystemFlag::from_name("\\Recent"), None);
    }
}
