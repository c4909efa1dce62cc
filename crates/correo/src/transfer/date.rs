//! The date of an mbox's From_ line: asctime, with the zone behind the year.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::strtime;
use jiff::tz::Offset;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// `Sat Nov 18 12:13:20 2023 +0100`. A time that no calendar has becomes 1970.
pub(crate) fn to_text(unix: i64, offset: i32) -> String {
    let time = Timestamp::from_second(unix).unwrap_or(Timestamp::UNIX_EPOCH);
    let offset = Offset::from_seconds(offset * 60).unwrap_or(Offset::UTC);
    let zoned = time.to_zoned(offset.to_time_zone());
    strtime::format("%a %b %e %H:%M:%S %Y %z", &zoned).unwrap_or_default()
}

/// Finds a date in a From_ line. Without a zone it is taken for UTC.
pub(crate) fn from_text(line: &str) -> Option<(i64, i32)> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let mut starts = words.iter().enumerate().rev();
    starts.find_map(|(at, word)| {
        let is_day = DAYS.contains(&word.trim_end_matches(','));
        is_day.then(|| parse(words.get(at + 1..)?)).flatten()
    })
}

fn parse(words: &[&str]) -> Option<(i64, i32)> {
    let [month, day, time, rest @ ..] = words else {
        return None;
    };
    let month = MONTHS.iter().position(|name| name == month)? + 1;
    let mut parts = time.split(':').map(|part| part.parse::<i8>().ok());
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = parts.next().unwrap_or(Some(0))?;
    let year = rest.iter().find_map(|word| {
        let is_year = word.len() == 4 && !word.starts_with(['+', '-']);
        is_year.then(|| word.parse::<i16>().ok()).flatten()
    })?;
    let offset = rest.iter().find_map(|word| zone(word)).unwrap_or(0);
    let (month, day) = (i8::try_from(month).ok()?, day.parse().ok()?);
    let local = DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
    let zone = Offset::from_seconds(offset * 60).ok()?;
    let time = zone.to_timestamp(local).ok()?;
    Some((time.as_second(), offset))
}

/// Minutes of `+0130`.
fn zone(word: &str) -> Option<i32> {
    let digits = word.strip_prefix(['+', '-'])?;
    if digits.len() != 4 {
        return None;
    }
    let number: i32 = digits.parse().ok()?;
    let minutes = number / 100 * 60 + number % 100;
    Some(if word.starts_with('-') {
        -minutes
    } else {
        minutes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(to_text(1_700_306_000, 60), "Sat Nov 18 12:13:20 2023 +0100");
        for (unix, offset) in [
            (0, 0),
            (1_700_306_000, 60),
            (-86_400, -570),
            (951_782_400, 0),
        ] {
            let line = format!("From a b@c {}", to_text(unix, offset));
            assert_eq!(from_text(&line), Some((unix, offset)), "{line}");
        }
        let old = "From me@x  Sat Nov  8 12:13 2023";
        assert_eq!(from_text(old), Some((1_699_445_580, 0)));
        let zoned = "From me@x Sat Nov 18 12:13:20 CET 2023";
        assert_eq!(from_text(zoned), Some((1_700_309_600, 0)));
        assert_eq!(from_text("From here on all is well"), None);
    }
}
