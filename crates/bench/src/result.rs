//! What was measured.

use serde::Serialize;

/// What a value is, and so which of two is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Unit {
    /// Operations a second: more is better.
    PerSecond,
    /// Milliseconds: less is better.
    Milliseconds,
    /// Seconds: less is better.
    Seconds,
    /// KiB: less is better.
    Kibibytes,
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    /// Its name in the results.
    pub(crate) id: &'static str,
    /// The heading it stands under.
    pub(crate) group: &'static str,
    /// What was done.
    pub(crate) title: &'static str,
    /// Of its values.
    pub(crate) unit: Unit,
    /// How many times better than the peer it is to be.
    pub(crate) reach: f64,
}

/// One value of one run.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    /// The row's id.
    pub(crate) row: &'static str,
    /// In the row's unit.
    pub(crate) value: f64,
    /// CPU time of all the server's processes for one operation, in milliseconds.
    pub(crate) cpu: Option<f64>,
    /// What else is to be said of it.
    pub(crate) note: Option<String>,
}

impl Reading {
    pub(crate) fn new(row: &'static str, value: f64) -> Self {
        Self {
            row,
            value,
            cpu: None,
            note: None,
        }
    }
}

/// The values of a row on one side, of all counted runs.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Values {
    pub(crate) runs: Vec<f64>,
    pub(crate) cpu: Vec<f64>,
    /// Of the last run.
    pub(crate) note: Option<String>,
    /// Why there is none.
    pub(crate) failure: Option<String>,
}

impl Values {
    /// The value in the middle.
    pub(crate) fn median(&self) -> Option<f64> {
        median(&self.runs)
    }

    /// The CPU time in the middle, in milliseconds an operation.
    pub(crate) fn cpu(&self) -> Option<f64> {
        median(&self.cpu)
    }

    /// The least and the most.
    pub(crate) fn spread(&self) -> Option<(f64, f64)> {
        let least = self.runs.iter().copied().reduce(f64::min)?;
        Some((least, self.runs.iter().copied().reduce(f64::max)?))
    }
}

/// The value in the middle.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(*sorted.get(middle.checked_sub(1)?)?, upper))
}

impl Unit {
    /// A value as tables show it.
    pub(crate) fn show(self, value: f64) -> String {
        let digits = match value {
            v if v >= 100.0 => 0,
            v if v >= 10.0 => 1,
            _ => 2,
        };
        let number = format!("{value:.digits$}");
        match self {
            Self::PerSecond => format!("{}/s", thousands(&number)),
            Self::Milliseconds => format!("{} ms", thousands(&number)),
            Self::Seconds => format!("{number} s"),
            Self::Kibibytes => format!("{} KiB", thousands(&number)),
        }
    }

    /// How many times better the first is.
    pub(crate) fn ratio(self, ours: f64, theirs: f64) -> f64 {
        match self {
            Self::PerSecond => ours / theirs,
            _ => theirs / ours,
        }
    }
}

fn thousands(number: &str) -> String {
    let (whole, rest) = number.split_at(number.find('.').unwrap_or(number.len()));
    let mut text = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_numbers() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
        assert_eq!(median(&[]), None);
        assert_eq!(Unit::PerSecond.show(12345.6), "12,346/s");
        assert_eq!(Unit::Milliseconds.show(1.234), "1.23 ms");
        assert!((Unit::Milliseconds.ratio(2.0, 8.0) - 4.0).abs() < 1e-9);
    }
}
