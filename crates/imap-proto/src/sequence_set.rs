use std::fmt;
use std::num::NonZeroU32;

/// One end of a range in a `sequence-set`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// That sequence number or UID.
    Number(NonZeroU32),
    /// `*`: the largest one in use.
    Largest,
}

/// Sequence numbers or UIDs as a client names them (RFC 3501 §9 `sequence-set`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceSet(Vec<(Bound, Bound)>);

impl SequenceSet {
    /// Parses the whole text.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let ranges = text.split(|b| *b == b',').map(parse_range);
        ranges.collect::<Option<Vec<_>>>().map(Self)
    }

    /// The ranges as ascending pairs, both ends included, with `*` put in. They may overlap and
    /// come in the client's order.
    pub fn ranges(&self, largest: u32) -> impl Iterator<Item = (u32, u32)> + '_ {
        let number = move |bound: &Bound| match bound {
            Bound::Number(n) => n.get(),
            Bound::Largest => largest,
        };
        self.0.iter().map(move |(a, b)| {
            let (a, b) = (number(a), number(b));
            (a.min(b), a.max(b))
        })
    }

    /// The largest number that is named, if one is.
    pub fn largest_number(&self) -> Option<u32> {
        let bounds = self.0.iter().flat_map(|(a, b)| [a, b]);
        bounds
            .filter_map(|bound| match bound {
                Bound::Number(n) => Some(n.get()),
                Bound::Largest => None,
            })
            .max()
    }

    /// True if `*` is named.
    pub fn has_largest(&self) -> bool {
        self.0
            .iter()
            .any(|(a, b)| *a == Bound::Largest || *b == Bound::Largest)
    }
}

/// ```abnf
/// seq-number = nz-number / "*"
/// seq-range  = seq-number ":" seq-number
/// ```
fn parse_range(text: &[u8]) -> Option<(Bound, Bound)> {
    let mut ends = text.splitn(2, |b| *b == b':').map(parse_bound);
    let first = ends.next()??;
    match ends.next() {
        Some(second) => Some((first, second?)),
        None => Some((first, first)),
    }
}

fn parse_bound(text: &[u8]) -> Option<Bound> {
    if text == b"*" {
        return Some(Bound::Largest);
    }
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(text).ok()?;
    digits.then(|| text.parse().ok().map(Bound::Number))?
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => n.fmt(f),
            Self::Largest => f.write_str("*"),
        }
    }
}

impl fmt::Display for SequenceSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (a, b)) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str(",")?;
            }
            if a == b {
                write!(f, "{a}")?;
            } else {
                write!(f, "{a}:{b}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_3501_examples() {
        let set = SequenceSet::parse(b"2,4:7,9,12:*").unwrap();
        assert_eq!(set.to_string(), "2,4:7,9,12:*");
        let ranges: Vec<_> = set.ranges(15).collect();
        assert_eq!(ranges, [(2, 2), (4, 7), (9, 9), (12, 15)]);
        // "*:4,5:7" with 10 messages, and "3291:*" where the largest UID is below.
        let set = SequenceSet::parse(b"*:4,5:7").unwrap();
        assert_eq!(set.ranges(10).collect::<Vec<_>>(), [(4, 10), (5, 7)]);
        let set = SequenceSet::parse(b"3291:*").unwrap();
        assert_eq!(set.ranges(10).collect::<Vec<_>>(), [(10, 3291)]);
    }

    #[test]
    fn not_sets() {
        for bad in [
            &b""[..],
            b"0",
            b"1,",
            b":",
            b"1:",
            b"1:2:3",
            b"+1",
            b"4294967296",
            b"a",
            b"1 2",
        ] {
            assert_eq!(SequenceSet::parse(bad), None, "{bad:?}");
        }
    }
}
