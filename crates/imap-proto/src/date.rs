use std::fmt;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// A day without time and zone (RFC 3501 §9 `date`), as days since 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    /// Days since 1970-01-01.
    pub days: i32,
}

/// A moment with the zone it was told in (RFC 3501 §9 `date-time`). `Display` prints the wire form
/// without quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateTime {
    /// Unix time in seconds.
    pub seconds: i64,
    /// The zone's offset in minutes east of UTC.
    pub offset: i32,
}

impl Date {
    /// `1-Feb-1994` or `01-Feb-1994`, without quotes.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut parts = text.splitn(3, '-');
        let day = number(parts.next()?, 1..=2)?;
        let month = month(parts.next()?)?;
        let year = number(parts.next()?, 4..=4)?;
        valid(year, month, day).then(|| Self {
            days: days_from_civil(year, month, day),
        })
    }
}

impl DateTime {
    /// `dd-Mon-yyyy hh:mm:ss +zzzz`, the day with a space for a leading zero, without quotes.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let text = text.strip_prefix(' ').unwrap_or(text);
        let mut words = text.split(' ');
        let date = Date::parse(words.next()?.as_bytes())?;
        let seconds = time_of_day(words.next()?)?;
        let offset = zone(words.next()?)?;
        if words.next().is_some() {
            return None;
        }
        let local = i64::from(date.days) * 86_400 + i64::from(seconds);
        Some(Self {
            seconds: local - i64::from(offset) * 60,
            offset,
        })
    }
}

impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let local = self.seconds + i64::from(self.offset) * 60;
        // 10000 years are all that four digits can tell.
        let days = local.div_euclid(86_400).clamp(-719_528, 2_932_896);
        let (year, month, day) = civil_from_days(i32::try_from(days).unwrap_or(0));
        let second = local.rem_euclid(86_400);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let month = usize::try_from(month - 1).ok().and_then(|m| MONTHS.get(m));
        let month = month.unwrap_or(&"Jan");
        let sign = if self.offset < 0 { '-' } else { '+' };
        let zone = self.offset.unsigned_abs();
        write!(
            f,
            "{day:2}-{month}-{year:04} {hour:02}:{minute:02}:{second:02} {sign}{:02}{:02}",
            zone / 60,
            zone % 60
        )
    }
}

fn number(text: &str, len: std::ops::RangeInclusive<usize>) -> Option<i32> {
    let digits = len.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

fn month(name: &str) -> Option<i32> {
    let place = MONTHS.iter().position(|m| m.eq_ignore_ascii_case(name))?;
    i32::try_from(place + 1).ok()
}

fn time_of_day(text: &str) -> Option<i32> {
    let mut parts = text.splitn(3, ':');
    let hour = number(parts.next()?, 2..=2)?;
    let minute = number(parts.next()?, 2..=2)?;
    let second = number(parts.next()?, 2..=2)?;
    (hour < 24 && minute < 60 && second <= 60).then_some(hour * 3600 + minute * 60 + second)
}

/// `zone = ("+" / "-") 4DIGIT`
fn zone(text: &str) -> Option<i32> {
    let (sign, digits) = match text.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let value = number(digits, 4..=4)?;
    (value % 100 < 60).then_some(sign * (value / 100 * 60 + value % 100))
}

fn valid(year: i32, month: i32, day: i32) -> bool {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 31,
    };
    (1..=last).contains(&day)
}

/// Days of the proleptic Gregorian calendar; years begin in March, so that a leap day is last.
fn days_from_civil(year: i32, month: i32, day: i32) -> i32 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil_from_days(days: i32) -> (i32, i32, i32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i32::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_days() {
        assert_eq!(Date::parse(b"1-Jan-1970").unwrap().days, 0);
        assert_eq!(Date::parse(b"01-feb-1994").unwrap().days, 8797);
        assert_eq!(Date::parse(b"29-Feb-2000").unwrap().days, 11_016);
        for bad in [
            "29-Feb-1900",
            "0-Jan-1994",
            "1-Foo-1994",
            "1-Jan-94",
            "1-Jan",
            "",
        ] {
            assert_eq!(Date::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn known_moments() {
        let text = "17-Jul-1996 02:44:25 -0700";
        let moment = DateTime::parse(text.as_bytes()).unwrap();
        assert_eq!(moment.seconds, 837_596_665);
        assert_eq!(moment.to_string(), text);
        let early = DateTime::parse(b" 7-Feb-1994 22:43:04 +0530").unwrap();
        assert_eq!(early.to_string(), " 7-Feb-1994 22:43:04 +0530");
        for bad in [
            "7-Feb-1994",
            "7-Feb-1994 24:00:00 +0000",
            "7-Feb-1994 1:00:00 GMT",
        ] {
            assert_eq!(DateTime::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(seconds in -60_000_000_000_i64..250_000_000_000, offset in -840_i32..840) {
            let moment = DateTime { seconds, offset };
            prop_assert_eq!(DateTime::parse(moment.to_string().as_bytes()), Some(moment));
        }

        #[test]
        fn any_seconds_print(seconds in i64::MIN / 2..i64::MAX / 2, offset: i16) {
            let _ = DateTime { seconds, offset: offset.into() }.to_string();
        }
    }
}
