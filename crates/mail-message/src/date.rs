use std::fmt::{self, Write};

use jiff::{Timestamp, civil, tz};

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// A date and time with the zone it is written in (RFC 5322 §3.3). `Display` prints it so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailDate {
    /// Unix time in seconds.
    pub unix_seconds: i64,
    /// The zone's distance from UTC in minutes, east is positive.
    pub offset_minutes: i32,
}

impl MailDate {
    /// A point in time in UTC.
    pub fn utc(unix_seconds: i64) -> Self {
        Self {
            unix_seconds,
            offset_minutes: 0,
        }
    }

    /// Parses a `Date` field's value: RFC 5322 §3.3 with the obsolete forms of §4.3. The day of
    /// the week is not compared, and a missing zone is UTC.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut lexer = crate::lexer::Lexer::new(value);
        let mut word = move || {
            lexer.skip_cfws();
            while lexer.eat(b',') {
                lexer.skip_cfws();
            }
            // "1-Jan-2020" and "1 Jan 2020" are both in use.
            let word = lexer.take_while(|b| b.is_ascii_alphanumeric() || b":+.".contains(&b));
            if !word.is_empty() {
                lexer.eat(b'-');
                return Some(word);
            }
            let before = lexer.rest();
            lexer.take_while(|byte| byte == b'-');
            lexer.take_while(|byte| byte.is_ascii_digit());
            let signed = before.get(..before.len() - lexer.rest().len())?;
            (!signed.is_empty()).then_some(signed)
        };
        let mut first = word()?;
        if first.iter().all(u8::is_ascii_alphabetic) {
            first = word()?;
        }
        let day = number(first)?;
        let month = month(word()?)?;
        let year = year(word()?)?;
        let (hour, minute, second) = clock(word().unwrap_or(b"0:0"))?;
        let offset_minutes = word().map_or(0, offset);
        let day = i8::try_from(day).ok()?;
        let date = civil::Date::new(year, month, day).ok()?;
        // A leap second counts as the second before (RFC 5322 §3.3 allows 60).
        let time = civil::Time::new(hour, minute, second.min(59), 0).ok()?;
        let utc = tz::Offset::UTC.to_timestamp(date.to_datetime(time)).ok()?;
        Some(Self {
            unix_seconds: utc.as_second() - i64::from(offset_minutes) * 60,
            offset_minutes,
        })
    }

    /// The day as it is written, without regard to time and zone, as days since 1970-01-01: what
    /// SENTON, SENTBEFORE and SENTSINCE compare (RFC 3501 §6.4.4).
    pub fn day(self) -> i32 {
        let local = self.unix_seconds + i64::from(self.offset_minutes) * 60;
        i32::try_from(local.div_euclid(86_400)).unwrap_or(0)
    }
}

impl fmt::Display for MailDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let local = self
            .unix_seconds
            .saturating_add(i64::from(self.offset_minutes) * 60);
        let local = Timestamp::from_second(local).map_err(|_| fmt::Error)?;
        let local = local.to_zoned(tz::TimeZone::UTC).datetime();
        let name = |names: &[&'static str], at: i8| {
            let at = usize::try_from(at - 1).unwrap_or(0);
            names.get(at).copied().unwrap_or_default()
        };
        write!(
            f,
            "{}, {} {} {:04} {:02}:{:02}:{:02} ",
            name(&DAYS, local.weekday().to_monday_one_offset()),
            local.day(),
            name(&MONTHS, local.month()),
            local.year(),
            local.hour(),
            local.minute(),
            local.second(),
        )?;
        f.write_char(if self.offset_minutes < 0 { '-' } else { '+' })?;
        let minutes = self.offset_minutes.unsigned_abs();
        write!(f, "{:02}{:02}", minutes / 60, minutes % 60)
    }
}

/// At most nine digits.
fn number(word: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(word).ok()?;
    let digits = (1..=9).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

fn month(word: &[u8]) -> Option<i8> {
    let start = word.get(..3)?;
    let at = MONTHS
        .iter()
        .position(|name| name.as_bytes().eq_ignore_ascii_case(start))?;
    i8::try_from(at + 1).ok()
}

/// Two and three digits by RFC 5322 §4.3.
fn year(word: &[u8]) -> Option<i16> {
    let year = number(word)?;
    let year = match word.len() {
        2 if year < 50 => year + 2000,
        2 | 3 => year + 1900,
        _ => year,
    };
    i16::try_from(year).ok()
}

fn clock(word: &[u8]) -> Option<(i8, i8, i8)> {
    let mut parts = word.split(|byte| matches!(byte, b':' | b'.')).map(number);
    let mut next = |default| match parts.next() {
        None => default,
        Some(part) => part.and_then(|part| i8::try_from(part).ok()),
    };
    Some((next(None)?, next(Some(0))?, next(Some(0))?))
}

/// Minutes east of UTC; unknown names are UTC (RFC 5322 §4.3).
fn offset(zone: &[u8]) -> i32 {
    if let Some((sign @ (b'+' | b'-'), digits)) = zone.split_first() {
        let value = number(digits).and_then(|value| i32::try_from(value).ok());
        let value = value.filter(|_| digits.len() == 4).unwrap_or(0);
        let minutes = value / 100 * 60 + value % 100;
        return if *sign == b'-' { -minutes } else { minutes };
    }
    let hours = match zone.to_ascii_uppercase().as_slice() {
        b"EDT" => -4,
        b"EST" | b"CDT" => -5,
        b"CST" | b"MDT" => -6,
        b"MST" | b"PDT" => -7,
        b"PST" => -8,
        _ => 0,
    };
    hours * 60
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forms_in_use() {
        for (text, seconds, offset) in [
            ("Fri, 21 Nov 1997 09:55:06 -0600", 880_127_706, -360),
            ("21 Nov 97 09:55:06 GMT", 880_106_106, 0),
            (
                "Thu,\r\n 13\r\n Feb\r\n 1969 23:32 -0330 (Newfoundland)",
                -27_723_480,
                -210,
            ),
            ("1-Jan-2020 00:00:00 +0100", 1_577_833_200, 60),
            ("Wed, 1 Jan 2020 00:00:60 EST", 1_577_854_859, -300),
            ("1 Jan 2020", 1_577_836_800, 0),
        ] {
            let expected = MailDate {
                unix_seconds: seconds,
                offset_minutes: offset,
            };
            assert_eq!(MailDate::parse(text.as_bytes()), Some(expected), "{text}");
        }
        for bad in [
            "",
            "today",
            "32 Jan 2020 0:0:0",
            "1 Foo 2020",
            "1 Jan 99999999999",
            "1 Jan",
        ] {
            assert_eq!(MailDate::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn the_day_is_the_one_written() {
        let date = MailDate::parse(b"1 Jan 1970 23:59 -1200").unwrap();
        assert_eq!(date.day(), 0);
        assert_eq!(
            MailDate::parse(b"31 Dec 1969 01:00 +1200").unwrap().day(),
            -1
        );
    }

    proptest! {
        #[test]
        fn prints_what_it_parses(seconds in -1_000_000_000_i64..200_000_000_000, offset in -700..800) {
            let date = MailDate { unix_seconds: seconds, offset_minutes: offset };
            prop_assert_eq!(MailDate::parse(date.to_string().as_bytes()), Some(date));
        }

        #[test]
        fn never_panics(value: Vec<u8>, text in "[0-9]{1,12} ?[A-Za-z]{3} ?[0-9]{1,12} [0-9:]{0,12} [+-][0-9]{0,12}") {
            MailDate::parse(&value);
            if let Some(date) = MailDate::parse(text.as_bytes()) { date.day(); }
        }
    }
}
