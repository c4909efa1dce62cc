//! Which messages are `\Recent` to somebody (RFC 3501 §2.3.2).

/// Ranges that are remembered; older ones are forgotten. There is more than one only where others claim
/// in turn: sessions of this front end, or other front ends.
const MAX: usize = 64;

/// Ranges of UIDs in ascending order: from the first on, below the second.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Recent(Vec<(u32, u32)>);

impl Recent {
    /// Adds UIDs from `first` on, below `end`; none if `first` is 0. Mostly they are new ones, with
    /// nothing behind them; what several feeds claim may come in any order.
    pub(crate) fn add_from(&mut self, first: u32, end: u32) {
        if first == 0 || first >= end {
            return;
        }
        // Those that touch become one.
        let from = self.0.partition_point(|(_, last)| *last < first);
        let to = self.0.partition_point(|(start, _)| *start <= end);
        let touching = self.0.get(from..to).unwrap_or_default();
        let bounds = touching.iter().fold((first, end), |all, range| {
            (all.0.min(range.0), all.1.max(range.1))
        });
        self.0.splice(from..to.max(from), [bounds]);
        if self.0.len() > MAX {
            self.0.remove(0);
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        other
            .0
            .iter()
            .for_each(|(first, end)| self.add_from(*first, *end));
    }

    /// Takes out what is below a UID.
    pub(crate) fn take_below(&mut self, uid: u32) -> Self {
        let mut taken = Self::default();
        let mut rest = Vec::new();
        for (first, end) in self.0.drain(..) {
            taken.add_from(first, end.min(uid));
            if end > uid {
                rest.push((first.max(uid), end));
            }
        }
        self.0 = rest;
        taken
    }

    pub(crate) fn has(&self, uid: u32) -> bool {
        self.0
            .iter()
            .any(|(first, end)| (*first..*end).contains(&uid))
    }

    /// Octets that its ranges take.
    pub(super) fn octets(&self) -> usize {
        self.0.len() * size_of::<(u32, u32)>()
    }

    pub(crate) fn ranges(&self) -> &[(u32, u32)] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_recent_to_one() {
        let mut all = Recent::default();
        all.add_from(0, 9);
        all.add_from(5, 5);
        assert_eq!(all, Recent::default());
        all.add_from(3, 6);
        all.add_from(6, 9);
        all.add_from(12, 14);
        assert_eq!(all.ranges(), [(3, 9), (12, 14)]);
        let first = all.take_below(7);
        assert_eq!(first.ranges(), [(3, 7)]);
        assert!(first.has(6) && !first.has(7) && all.has(7) && !all.has(9) && all.has(13));
        let mut rest = all.take_below(u32::MAX);
        assert_eq!(rest.ranges(), [(7, 9), (12, 14)]);
        assert_eq!(all, Recent::default());
        rest.add(&all);
        (0..100).for_each(|n| rest.add_from(100 + 3 * n, 101 + 3 * n));
        assert_eq!(rest.ranges().len(), MAX);
    }

    #[test]
    fn claims_come_in_any_order() {
        let mut recent = Recent::default();
        recent.add_from(8, 9);
        recent.add_from(5, 8);
        assert_eq!(recent.ranges(), [(5, 9)]);
        recent.add_from(20, 30);
        recent.add_from(1, 3);
        recent.add_from(11, 12);
        assert_eq!(recent.ranges(), [(1, 3), (5, 9), (11, 12), (20, 30)]);
        recent.add_from(6, 8);
        recent.add_from(9, 11);
        assert_eq!(recent.ranges(), [(1, 3), (5, 12), (20, 30)]);
        recent.add_from(2, 25);
        assert_eq!(recent.ranges(), [(1, 30)]);
    }
}
