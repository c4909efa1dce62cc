use std::fmt;
use std::str::FromStr;

/// A mailbox's name: UTF-8, levels divided by `/`, INBOX in upper case (RFC 3501 §5.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MailboxName(Box<str>);

/// Why a text is no mailbox name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// A control character, or a character that list patterns use.
    #[error("the name holds a character that is not allowed")]
    BadCharacter,
    /// Nothing between two dividers, at the beginning or at the end.
    #[error("a level of the name is empty")]
    EmptyLevel,
    /// More than 50 levels or 1,000 octets.
    #[error("the name is too long or has too many levels")]
    TooLong,
}

impl MailboxName {
    /// What divides levels.
    pub const DIVIDER: char = '/';
    /// Levels of one name; deeper ones only come from mistakes and attacks.
    pub const MAX_LEVELS: usize = 50;
    /// Octets of one name: it stands in lists and in each message's record.
    pub const MAX_LEN: usize = 1000;

    /// The inbox, which each account has.
    pub fn inbox() -> Self {
        Self("INBOX".into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for the inbox itself.
    pub fn is_inbox(&self) -> bool {
        &*self.0 == "INBOX"
    }

    /// True if `other` is below this name, at any depth.
    pub fn is_above(&self, other: &Self) -> bool {
        other
            .0
            .strip_prefix(&*self.0)
            .is_some_and(|rest| rest.starts_with(Self::DIVIDER))
    }

    /// This name with its beginning `old` replaced; `None` if it does not begin so.
    #[must_use]
    pub fn moved(&self, old: &Self, new: &Self) -> Option<Self> {
        if self == old {
            return Some(new.clone());
        }
        let rest = self.0.strip_prefix(&*old.0)?;
        rest.starts_with(Self::DIVIDER)
            .then(|| Self(format!("{}{rest}", new.0).into()))
    }
}

impl FromStr for MailboxName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > Self::MAX_LEN || text.split(Self::DIVIDER).count() > Self::MAX_LEVELS {
            return Err(NameError::TooLong);
        }
        if text
            .split(Self::DIVIDER)
            .any(|level| level.trim().is_empty())
        {
            return Err(NameError::EmptyLevel);
        }
        if text
            .chars()
            .any(|c| c.is_control() || matches!(c, '*' | '%'))
        {
            return Err(NameError::BadCharacter);
        }
        let (first, rest) = match text.split_once(Self::DIVIDER) {
            Some((first, rest)) => (first, Some(rest)),
            None => (text, None),
        };
        if !first.eq_ignore_ascii_case("INBOX") {
            return Ok(Self(text.into()));
        }
        Ok(Self(rest.map_or_else(
            || "INBOX".into(),
            |rest| format!("INBOX/{rest}").into(),
        )))
    }
}

impl fmt::Display for MailboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inbox_in_any_case() {
        assert!("inbox".parse::<MailboxName>().unwrap().is_inbox());
        assert_eq!(
            "Inbox/a".parse::<MailboxName>().unwrap().as_str(),
            "INBOX/a"
        );
        assert_eq!(
            "inboxes".parse::<MailboxName>().unwrap().as_str(),
            "inboxes"
        );
    }

    #[test]
    fn levels() {
        let a: MailboxName = "a".parse().unwrap();
        let b: MailboxName = "b/c".parse().unwrap();
        assert!(a.is_above(&"a/x".parse().unwrap()) && !a.is_above(&"ab".parse().unwrap()));
        let moved = "a/x/y"
            .parse::<MailboxName>()
            .unwrap()
            .moved(&a, &b)
            .unwrap();
        assert_eq!(moved.as_str(), "b/c/x/y");
        assert_eq!("ab".parse::<MailboxName>().unwrap().moved(&a, &b), None);
    }

    #[test]
    fn bad_names() {
        for bad in ["", "/", "a//b", "/a", "a/", "a\r", "a*", "%", " "] {
            assert!(bad.parse::<MailboxName>().is_err(), "{bad:?}");
        }
        assert_eq!(
            "a/".repeat(60).parse::<MailboxName>(),
            Err(NameError::TooLong)
        );
    }
}
