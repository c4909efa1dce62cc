use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A mail domain or address literal (RFC 5321 §4.1.2 `Domain` and §4.1.3 `address-literal`).
///
/// Names are kept in their normalised ASCII form: lower case, U-labels turned into A-labels, no
/// trailing dot. Two spellings of one domain are therefore equal.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(Inner);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Inner {
    Name(Box<str>),
    Literal(IpAddr),
}

/// Why a text is not a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DomainError {
    /// An address literal that holds no address.
    #[error("not an address literal")]
    BadLiteral,
    /// A label is empty, too long (63 octets) or starts or ends with a hyphen.
    #[error("a label of the domain is empty, too long or starts or ends with a hyphen")]
    BadLabel,
    /// A character that no domain may hold.
    #[error("the domain holds a character that is not allowed")]
    BadCharacter,
    /// Nothing at all.
    #[error("the domain is empty")]
    Empty,
    /// Longer than 255 octets (RFC 5321 §4.5.3.1.2).
    #[error("the domain is longer than 255 octets")]
    TooLong,
}

impl Domain {
    /// The longest domain in octets (RFC 5321 §4.5.3.1.2).
    pub const MAX_LEN: usize = 255;

    /// The ASCII name, or `None` for an address literal.
    pub fn name(&self) -> Option<&str> {
        match &self.0 {
            Inner::Name(name) => Some(name),
            Inner::Literal(_) => None,
        }
    }

    /// The address of an address literal.
    pub fn literal(&self) -> Option<IpAddr> {
        match self.0 {
            Inner::Name(_) => None,
            Inner::Literal(ip) => Some(ip),
        }
    }

    /// The name for people: A-labels turned back into U-labels. A name of which that is not the
    /// same domain stays as it is: not everything behind `xn--` is an A-label.
    pub fn to_unicode(&self) -> String {
        if let Inner::Name(name) = &self.0
            && let (unicode, Ok(())) = idna::domain_to_unicode(name)
            && unicode.parse().as_ref() == Ok(self)
        {
            return unicode;
        }
        self.to_string()
    }
}

impl From<IpAddr> for Domain {
    fn from(ip: IpAddr) -> Self {
        Self(Inner::Literal(ip))
    }
}

impl FromStr for Domain {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(DomainError::BadLiteral)?;
            return parse_literal(inner).map(Into::into);
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(DomainError::Empty);
        }
        let ascii = if text.is_ascii() {
            text.to_ascii_lowercase()
        } else {
            idna::domain_to_ascii(text).map_err(|_| DomainError::BadCharacter)?
        };
        check_name(&ascii)?;
        Ok(Self(Inner::Name(ascii.into_boxed_str())))
    }
}

fn parse_literal(inner: &str) -> Result<IpAddr, DomainError> {
    let tagged = inner
        .get(..5)
        .is_some_and(|tag| tag.eq_ignore_ascii_case("IPv6:"));
    if tagged {
        let address = inner.get(5..).unwrap_or_default();
        return address
            .parse()
            .map(IpAddr::V6)
            .map_err(|_| DomainError::BadLiteral);
    }
    inner
        .parse()
        .map(IpAddr::V4)
        .map_err(|_| DomainError::BadLiteral)
}

fn check_name(name: &str) -> Result<(), DomainError> {
    if name.len() > Domain::MAX_LEN {
        return Err(DomainError::TooLong);
    }
    for label in name.split('.') {
        let edges = label.starts_with('-') || label.ends_with('-');
        if label.is_empty() || label.len() > 63 || edges {
            return Err(DomainError::BadLabel);
        }
        // The underscore is no host name character, but names with it are in use and resolve.
        if !label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        {
            return Err(DomainError::BadCharacter);
        }
    }
    Ok(())
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::Name(name) => f.write_str(name),
            Inner::Literal(IpAddr::V4(ip)) => write!(f, "[{ip}]"),
            Inner::Literal(IpAddr::V6(ip)) => write!(f, "[IPv6:{ip}]"),
        }
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_a_label_stays() {
        for name in ["xn--exel-cupma.org", "xn--a", "xn--u-ccb.test"] {
            let domain: Domain = name.parse().unwrap();
            assert_eq!(domain.to_unicode().parse::<Domain>(), Ok(domain), "{name}");
        }
    }

    #[test]
    fn spellings_of_one_domain_are_equal() {
        let plain: Domain = "bücher.example".parse().unwrap();
        assert_eq!(plain, "XN--Bcher-kva.example.".parse().unwrap());
        assert_eq!(plain.to_unicode(), "bücher.example");
    }

    #[test]
    fn literals() {
        assert_eq!(
            "[127.0.0.1]".parse::<Domain>().unwrap().to_string(),
            "[127.0.0.1]"
        );
        assert_eq!(
            "[ipv6:::1]".parse::<Domain>().unwrap().to_string(),
            "[IPv6:::1]"
        );
        for bad in ["[", "[]", "[::1]", "[IPv6:]", "[1.2.3]"] {
            assert_eq!(bad.parse::<Domain>(), Err(DomainError::BadLiteral), "{bad}");
        }
    }

    #[test]
    fn bad_names() {
        for bad in ["", ".", "a..b", "-a.b", "a b", "a\0b", "a@b"] {
            assert!(bad.parse::<Domain>().is_err(), "{bad:?}");
        }
        assert!("a.".repeat(129).parse::<Domain>().is_err());
    }
}
