use std::fmt;

/// A command's tag (RFC 3501 §2.2.1).
///
/// ```abnf
/// tag = 1*<any ASTRING-CHAR except "+">
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Tag(Box<str>);

impl Tag {
    /// The longest tag that we repeat, in octets. Clients use under ten.
    pub const MAX_LEN: usize = 64;

    /// Takes the octets of a tag.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let fits = !bytes.is_empty() && bytes.len() <= Self::MAX_LEN;
        let valid = bytes.iter().all(|b| is_astring_char(*b) && *b != b'+');
        let text = std::str::from_utf8(bytes).ok()?;
        (fits && valid).then(|| Self(text.into()))
    }

    /// The tag as it was sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// `atom-char`: any CHAR except `(){ %*"\]` and controls.
pub(crate) fn is_atom_char(b: u8) -> bool {
    b.is_ascii_graphic() && !matches!(b, b'(' | b')' | b'{' | b'%' | b'*' | b'"' | b'\\' | b']')
}

/// `ASTRING-CHAR = ATOM-CHAR / "]"`
pub(crate) fn is_astring_char(b: u8) -> bool {
    is_atom_char(b) || b == b']'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags() {
        assert_eq!(Tag::parse(b"a001").unwrap().as_str(), "a001");
        for bad in [&b""[..], b"+", b"a b", b"*", b"a\x80", &[b'a'; 65]] {
            assert_eq!(Tag::parse(bad), None);
        }
    }
}
