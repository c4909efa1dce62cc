use std::fmt::{self, Write};
use std::str::FromStr;

/// The part of an address before the `@` (RFC 5321 §4.1.2 `Local-part`), in decoded form.
///
/// `Display` prints the wire form and quotes where it must. The spelling is kept; whether two
/// spellings mean one mailbox is for the domain's owner to decide, so equality is exact and
/// [`LocalPart::folded`] gives the form that our own directory compares.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocalPart(Box<str>);

/// Why a text is not a local part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LocalPartError {
    /// A character that must not stand there, or not without quotes.
    #[error("the local part holds a character that is not allowed there")]
    BadCharacter,
    /// A quoted string that is not closed, or goes on behind its closing quote.
    #[error("the local part's quotes do not match")]
    BadQuotes,
    /// Nothing at all.
    #[error("the local part is empty")]
    Empty,
    /// Longer than 64 octets (RFC 5321 §4.5.3.1.1).
    #[error("the local part is longer than 64 octets")]
    TooLong,
}

impl LocalPart {
    /// The longest local part in octets, decoded (RFC 5321 §4.5.3.1.1).
    pub const MAX_LEN: usize = 64;

    /// The decoded text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form in which our own directory compares names: Unicode lower case.
    pub fn folded(&self) -> String {
        self.0.to_lowercase()
    }

    /// Takes a decoded text.
    pub fn from_decoded(text: &str) -> Result<Self, LocalPartError> {
        if text.is_empty() {
            return Err(LocalPartError::Empty);
        }
        if text.len() > Self::MAX_LEN {
            return Err(LocalPartError::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(LocalPartError::BadCharacter);
        }
        Ok(Self(text.into()))
    }

    fn is_dot_string(&self) -> bool {
        self.0
            .split('.')
            .all(|atom| !atom.is_empty() && atom.chars().all(is_atext))
    }
}

/// `atext` of RFC 5322 §3.2.3, with UTF-8 by RFC 6531 §3.3.
fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || !c.is_ascii() || "!#$%&'*+-/=?^_`{|}~".contains(c)
}

impl FromStr for LocalPart {
    type Err = LocalPartError;

    /// Parses the wire form: `Dot-string / Quoted-string`.
    fn from_str(text: &str) -> Result<Self, LocalPartError> {
        let Some(quoted) = text.strip_prefix('"') else {
            let part = Self::from_decoded(text)?;
            return if part.is_dot_string() {
                Ok(part)
            } else {
                Err(LocalPartError::BadCharacter)
            };
        };
        let mut decoded = String::with_capacity(quoted.len());
        let mut chars = quoted.chars();
        loop {
            match chars.next() {
                Some('"') => break,
                Some('\\') => decoded.push(chars.next().ok_or(LocalPartError::BadQuotes)?),
                Some(c) => decoded.push(c),
                None => return Err(LocalPartError::BadQuotes),
            }
        }
        if !chars.as_str().is_empty() {
            return Err(LocalPartError::BadQuotes);
        }
        Self::from_decoded(&decoded)
    }
}

impl fmt::Display for LocalPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_dot_string() {
            return f.write_str(&self.0);
        }
        f.write_char('"')?;
        for c in self.0.chars() {
            if matches!(c, '"' | '\\') {
                f.write_char('\\')?;
            }
            f.write_char(c)?;
        }
        f.write_char('"')
    }
}

impl fmt::Debug for LocalPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quoted_and_plain_spellings_are_one() {
        let quoted: LocalPart = "\"ana\"".parse().unwrap();
        assert_eq!(quoted, "ana".parse().unwrap());
        assert_eq!(quoted.to_string(), "ana");
        assert_eq!(
            "\"a b\\\"c\"".parse::<LocalPart>().unwrap().as_str(),
            "a b\"c"
        );
    }

    #[test]
    fn bad_local_parts() {
        for bad in [
            "", "a b", ".a", "a.", "a..b", "\"a", "\"a\"b", "\"\"", "a\"b", "\"a\\", "\"\r\"",
        ] {
            assert!(bad.parse::<LocalPart>().is_err(), "{bad:?}");
        }
        assert!("a".repeat(65).parse::<LocalPart>().is_err());
    }

    proptest! {
        #[test]
        fn prints_what_it_parses(text in "\\PC{1,20}") {
            if let Ok(part) = LocalPart::from_decoded(&text) {
                prop_assert_eq!(part.to_string().parse::<LocalPart>().unwrap(), part);
            }
        }
    }
}
