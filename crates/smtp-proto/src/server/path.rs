use mail_types::{Domain, EmailAddress, LocalPart, ReversePath};

/// Why what should be a path is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PathError {
    /// The address does not parse.
    Address,
    /// Brackets or quotes do not match, or nothing is there.
    Brackets,
}

/// Cuts a path off the front of a text. People at a telnet session may leave out the brackets and
/// put spaces before the path. Gives the path without brackets, and the rest.
pub(super) fn split(text: &str) -> Result<(&str, &str), PathError> {
    let text = text.trim_start_matches([' ', '\t']);
    let (inner, bracketed) = match text.strip_prefix('<') {
        Some(inner) => (inner, true),
        None => (text, false),
    };
    let end = end_of(inner, bracketed).ok_or(PathError::Brackets)?;
    let path = inner.get(..end).unwrap_or_default();
    let rest = inner
        .get(end + usize::from(bracketed)..)
        .unwrap_or_default();
    let clean = rest.is_empty() || rest.starts_with([' ', '\t']);
    if !clean || (path.is_empty() && !bracketed) {
        return Err(PathError::Brackets);
    }
    Ok((path, rest))
}

/// Where the path ends: at `>`, or without brackets at a space; not within quotes.
fn end_of(text: &str, bracketed: bool) -> Option<usize> {
    let mut quoted = false;
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if bracketed && !quoted => return Some(index),
            b' ' | b'\t' if !bracketed && !quoted => return Some(index),
            _ => {}
        }
    }
    (!bracketed && !quoted).then_some(text.len())
}

/// Parses `Reverse-path` (RFC 5321 §4.1.2) without its brackets.
pub(super) fn reverse(path: &str, domain: &Domain) -> Result<ReversePath, PathError> {
    if path.is_empty() {
        return Ok(ReversePath::Null);
    }
    mailbox(path, domain).map(ReversePath::Address)
}

/// Parses a path's mailbox. A source route is passed over (RFC 5321 §4.1.1.3, appendix C), and a
/// local part alone, such as `postmaster` (§2.3.5, §4.5.1), belongs to the server's own domain.
pub(super) fn mailbox(path: &str, domain: &Domain) -> Result<EmailAddress, PathError> {
    let mailbox = without_route(path).ok_or(PathError::Address)?;
    let alone = mailbox.ends_with('"') || !mailbox.contains('@');
    let parsed = if alone {
        mailbox
            .parse::<LocalPart>()
            .map(|local| EmailAddress::new(local, domain.clone()))
            .map_err(Into::into)
    } else {
        mailbox.parse::<EmailAddress>()
    };
    parsed.map_err(|_| PathError::Address)
}

/// `A-d-l = At-domain *( "," At-domain )`, followed by a colon.
fn without_route(path: &str) -> Option<&str> {
    if !path.starts_with('@') {
        return Some(path);
    }
    let mut in_literal = false;
    for (index, byte) in path.bytes().enumerate() {
        match byte {
            b'[' => in_literal = true,
            b']' => in_literal = false,
            b':' if !in_literal => return path.get(index + 1..),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(String, String), PathError> {
        let domain = "aula.test".parse().unwrap();
        let (path, rest) = split(text)?;
        Ok((reverse(path, &domain)?.to_string(), rest.to_owned()))
    }

    // Tests RFC 5321 §4.1.2
    #[test]
    fn paths() {
        for (text, path, rest) in [
            ("<>", "<>", ""),
            ("<ana@x.test> SIZE=1", "<ana@x.test>", " SIZE=1"),
            (" <ana@X.test>", "<ana@x.test>", ""),
            (" root", "<root@aula.test>", ""),
            ("ana@x.test BODY=7BIT", "<ana@x.test>", " BODY=7BIT"),
            ("<Postmaster>", "<Postmaster@aula.test>", ""),
            ("<\"a>b c\"@x.test>", "<\"a>b c\"@x.test>", ""),
            ("<\"a@b\">", "<\"a@b\"@aula.test>", ""),
            ("<\"a\\\"b\"@x.test>", "<\"a\\\"b\"@x.test>", ""),
            ("<@a.test,@b.test:ana@x.test>", "<ana@x.test>", ""),
            ("<@[IPv6:::1]:ana@x.test>", "<ana@x.test>", ""),
            ("<ana@[127.0.0.1]>", "<ana@[127.0.0.1]>", ""),
        ] {
            assert_eq!(parse(text), Ok((path.into(), rest.into())), "{text}");
        }
    }

    #[test]
    fn no_paths() {
        for text in ["", " ", "<ana@x.test", "<a>b", "\"a", "<\"a>"] {
            assert_eq!(parse(text), Err(PathError::Brackets), "{text}");
        }
        for text in [
            "<a b@x.test>",
            "<@a.test>",
            "<@@>",
            "<a@>",
            "<@x.test:>",
            "<a@b@c>",
        ] {
            assert_eq!(parse(text), Err(PathError::Address), "{text}");
        }
    }
}
