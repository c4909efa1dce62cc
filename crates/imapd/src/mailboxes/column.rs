//! Numbers of neighbours, packed: what all have in common is kept once.

/// Numbers that are read by their place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Column {
    /// The smallest one.
    base: u64,
    /// What each has above it, little-endian, `width` octets each; nothing where all are equal.
    above: Box<[u8]>,
    width: u8,
}

impl Column {
    pub(super) fn pack(numbers: impl Iterator<Item = u64> + Clone) -> Self {
        let base = numbers.clone().min().unwrap_or(0);
        let width: u8 = match numbers.clone().max().unwrap_or(0) - base {
            0 => 0,
            1..=0xff => 1,
            0x100..=0xffff => 2,
            0x1_0000..=0xffff_ffff => 4,
            _ => 8,
        };
        let mut above = Vec::new();
        if width > 0 {
            let width = usize::from(width);
            above.reserve_exact(numbers.clone().count() * width);
            for number in numbers {
                let octets = (number - base).to_le_bytes();
                above.extend_from_slice(octets.get(..width).unwrap_or_default());
            }
        }
        Self {
            base,
            above: above.into(),
            width,
        }
    }

    /// The number at a place; the smallest one past the end.
    pub(super) fn get(&self, place: usize) -> u64 {
        let width = usize::from(self.width);
        let octets = self.above.get(place * width..(place + 1) * width);
        let octets = octets.unwrap_or_default();
        let above = match *octets {
            [a] => u64::from(a),
            [a, b] => u64::from(u16::from_le_bytes([a, b])),
            [a, b, c, d] => u64::from(u32::from_le_bytes([a, b, c, d])),
            _ => octets.try_into().map_or(0, u64::from_le_bytes),
        };
        self.base + above
    }

    /// The number that all are, if they are equal.
    pub(super) fn only(&self) -> Option<u64> {
        (self.width == 0).then_some(self.base)
    }

    /// Octets beside the column itself.
    pub(super) fn octets(&self) -> usize {
        self.above.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_numbers_come_back() {
        let lists: [&[u64]; 7] = [
            &[],
            &[7, 7, 7],
            &[3, 258, 4],
            &[1000, 1001, 66_535],
            &[5, 5_000_000_000, 70_000],
            &[0, u64::MAX, 1],
            &[u64::MAX, u64::MAX - 0xffff_ffff],
        ];
        for list in lists {
            let column = Column::pack(list.iter().copied());
            let back: Vec<u64> = (0..list.len()).map(|place| column.get(place)).collect();
            assert_eq!(back, list);
        }
        assert_eq!(Column::pack([7, 7].into_iter()).only(), Some(7));
        assert_eq!(Column::pack([7, 8].into_iter()).only(), None);
        assert_eq!(Column::pack([7, 8].into_iter()).octets(), 2);
    }
}
