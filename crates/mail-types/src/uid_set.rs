use std::fmt;

use crate::Uid;

/// A set of UIDs as sorted ranges that neither touch nor overlap.
///
/// `Display` prints the shortest `sequence-set` of RFC 3501 §9, such as `1:3,7`. An empty set
/// prints nothing, which is no valid `sequence-set`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct UidSet(Vec<(Uid, Uid)>);

impl UidSet {
    /// The empty set.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The ranges, both ends included, in ascending order.
    pub fn ranges(&self) -> &[(Uid, Uid)] {
        &self.0
    }

    /// True if nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many UIDs are in it.
    pub fn len(&self) -> u64 {
        self.0
            .iter()
            .map(|(low, high)| u64::from(high.get() - low.get()) + 1)
            .sum()
    }

    /// True if the UID is in it.
    pub fn contains(&self, uid: Uid) -> bool {
        let at = self.0.partition_point(|(_, high)| *high < uid);
        self.0.get(at).is_some_and(|(low, _)| *low <= uid)
    }

    /// Adds a range, its ends in either order.
    pub fn insert_range(&mut self, one: Uid, other: Uid) {
        let (mut low, mut high) = if one <= other {
            (one, other)
        } else {
            (other, one)
        };
        let start = self
            .0
            .partition_point(|(_, h)| h.next().is_some_and(|next| next < low));
        let mut end = start;
        while let Some((l, h)) = self.0.get(end) {
            if high.next().is_some_and(|next| next < *l) {
                break;
            }
            low = low.min(*l);
            high = high.max(*h);
            end += 1;
        }
        self.0.splice(start..end, [(low, high)]);
    }

    /// Adds one UID.
    pub fn insert(&mut self, uid: Uid) {
        self.insert_range(uid, uid);
    }

    /// The UIDs in ascending order. A range can hold four thousand million of them: bound it first.
    pub fn iter(&self) -> impl Iterator<Item = Uid> + '_ {
        self.0
            .iter()
            .flat_map(|(low, high)| (low.get()..=high.get()).filter_map(Uid::new))
    }
}

impl FromIterator<Uid> for UidSet {
    fn from_iter<I: IntoIterator<Item = Uid>>(uids: I) -> Self {
        let mut set = Self::new();
        for uid in uids {
            match set.0.last_mut() {
                Some((_, high)) if high.next() == Some(uid) => *high = uid,
                Some((_, high)) if *high >= uid => set.insert(uid),
                _ => set.0.push((uid, uid)),
            }
        }
        set
    }
}

impl fmt::Display for UidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (low, high)) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str(",")?;
            }
            if low == high {
                write!(f, "{low}")?;
            } else {
                write!(f, "{low}:{high}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn uid(n: u32) -> Uid {
        Uid::new(n).unwrap()
    }

    #[test]
    fn ranges_join() {
        let mut set: UidSet = [1, 2, 3, 7].into_iter().map(uid).collect();
        assert_eq!(set.to_string(), "1:3,7");
        set.insert_range(uid(6), uid(4));
        assert_eq!(set.to_string(), "1:7");
        set.insert_range(uid(u32::MAX), uid(u32::MAX - 1));
        assert_eq!(set.to_string(), "1:7,4294967294:4294967295");
    }

    proptest! {
        #[test]
        fn equals_a_plain_set(ranges: Vec<(u8, u8)>) {
            let mut set = UidSet::new();
            let mut plain = BTreeSet::new();
            for (a, b) in ranges {
                let (a, b) = (u32::from(a) + 1, u32::from(b) + 1);
                set.insert_range(uid(a), uid(b));
                plain.extend(a.min(b)..=a.max(b));
            }
            prop_assert!(set.iter().map(Uid::get).eq(plain.iter().copied()));
            prop_assert_eq!(set.len(), plain.len() as u64);
            prop_assert_eq!(plain.iter().filter_map(|n| Uid::new(*n)).collect::<UidSet>(), set.clone());
            for n in 1..=257 {
                prop_assert_eq!(set.contains(uid(n)), plain.contains(&n));
            }
        }
    }
}
