use std::fmt;
use std::str::FromStr;

use crate::{Domain, DomainError, LocalPart, LocalPartError};

/// A mailbox address (RFC 5321 §4.1.2 `Mailbox`).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EmailAddress {
    /// The part before the `@`.
    pub local: LocalPart,
    /// The part behind the `@`.
    pub domain: Domain,
}

/// Why a text is not an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// The domain is wrong.
    #[error(transparent)]
    Domain(#[from] DomainError),
    /// The local part is wrong.
    #[error(transparent)]
    LocalPart(#[from] LocalPartError),
    /// There is no `@`.
    #[error("the address has no @")]
    NoAt,
}

impl EmailAddress {
    /// Joins the two parts.
    pub fn new(local: LocalPart, domain: Domain) -> Self {
        Self { local, domain }
    }

    /// The form in which our own directory compares addresses: lower-case local part.
    pub fn folded(&self) -> String {
        format!("{}@{}", self.local.folded(), self.domain)
    }

    /// True if the address can travel without SMTPUTF8 (RFC 6531).
    pub fn is_ascii(&self) -> bool {
        self.local.as_str().is_ascii()
    }
}

impl FromStr for EmailAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (local, domain) = text.rsplit_once('@').ok_or(AddressError::NoAt)?;
        Ok(Self {
            local: local.parse()?,
            domain: domain.parse()?,
        })
    }
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where delivery reports go (RFC 5321 §4.1.2 `Reverse-path`). `Display` prints it in brackets.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum ReversePath {
    /// `<>`: reports about this mail must not be sent (RFC 5321 §4.5.5).
    Null,
    /// The sender's mailbox.
    Address(EmailAddress),
}

impl ReversePath {
    /// The sender's mailbox, or `None` for the null reverse-path.
    pub fn address(&self) -> Option<&EmailAddress> {
        match self {
            Self::Address(address) => Some(address),
            Self::Null => None,
        }
    }
}

impl FromStr for ReversePath {
    type Err = AddressError;

    /// Parses an address, or the null reverse-path from an empty text; brackets are optional.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let inner = text
            .strip_prefix('<')
            .and_then(|t| t.strip_suffix('>'))
            .unwrap_or(text);
        if inner.is_empty() {
            Ok(Self::Null)
        } else {
            inner.parse().map(Self::Address)
        }
    }
}

impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("<>"),
            Self::Address(address) => write!(f, "<{address}>"),
        }
    }
}

impl fmt::Debug for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_at_divides() {
        let address: EmailAddress = "\"a@b\"@Example.ORG".parse().unwrap();
        assert_eq!(address.local.as_str(), "a@b");
        assert_eq!(address.to_string(), "\"a@b\"@example.org");
        assert_eq!("ana".parse::<EmailAddress>(), Err(AddressError::NoAt));
    }

    #[test]
    fn reverse_paths() {
        assert_eq!("<>".parse::<ReversePath>().unwrap(), ReversePath::Null);
        let path: ReversePath = "<ana@aula.test>".parse().unwrap();
        assert_eq!(path.to_string(), "<ana@aula.test>");
        assert_eq!(path, "ana@aula.test".parse().unwrap());
    }
}
