use std::borrow::Cow;

use memchr::memchr;

/// One header field with its folded lines, exactly as it stands in the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderField<'a> {
    raw: &'a [u8],
    name: &'a [u8],
    value: &'a [u8],
}

impl<'a> HeaderField<'a> {
    /// All octets, the last line end included.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The name without white space before its colon; empty for a line that is no field.
    pub fn name(&self) -> &'a [u8] {
        self.name
    }

    /// True if this is the field of that name, in whatever case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// What is behind the colon, folds and outer white space included, the last line end not.
    pub fn value(&self) -> &'a [u8] {
        strip_line_end(self.value)
    }

    /// The value on one line (RFC 5322 §2.2.3): line ends taken out, outer white space trimmed.
    pub fn unfolded(&self) -> Cow<'a, [u8]> {
        unfold(self.value())
    }
}

/// Walks over the fields of a header or message, up to its empty line.
///
/// A line without a colon that continues no field is given as a field with an empty name, so that
/// nothing of the header is lost. Lines end with LF or CRLF.
#[derive(Debug, Clone)]
pub struct HeaderFields<'a> {
    rest: &'a [u8],
}

impl<'a> HeaderFields<'a> {
    /// Starts at the first octet of a header; a message will do.
    pub fn new(header: &'a [u8]) -> Self {
        Self { rest: header }
    }
}

impl<'a> Iterator for HeaderFields<'a> {
    type Item = HeaderField<'a>;

    fn next(&mut self) -> Option<HeaderField<'a>> {
        if self.rest.is_empty() || starts_with_line_end(self.rest) {
            return None;
        }
        let first_line = line_len(self.rest);
        let mut end = first_line;
        while let Some(b' ' | b'\t') = self.rest.get(end) {
            end += line_len(self.rest.get(end..).unwrap_or_default());
        }
        let (raw, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        let colon = raw.get(..first_line).and_then(|line| memchr(b':', line));
        let (name, value) = colon
            .and_then(|colon| Some((raw.get(..colon)?.trim_ascii_end(), raw.get(colon + 1..)?)))
            .unwrap_or_default();
        Some(HeaderField { raw, name, value })
    }
}

/// Octets of a message's header, its empty line included. Without an empty line all is header.
pub fn header_len(message: &[u8]) -> usize {
    let mut at = 0;
    while let Some(rest) = message.get(at..).filter(|rest| !rest.is_empty()) {
        let len = line_len(rest);
        at += len;
        if starts_with_line_end(rest) {
            break;
        }
    }
    at
}

/// Octets of the first line, its line end included.
pub(crate) fn line_len(bytes: &[u8]) -> usize {
    memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1)
}

pub(crate) fn starts_with_line_end(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\n") || bytes.starts_with(b"\r\n")
}

pub(crate) fn strip_line_end(line: &[u8]) -> &[u8] {
    match line.strip_suffix(b"\n") {
        Some(line) => line.strip_suffix(b"\r").unwrap_or(line),
        None => line,
    }
}

/// Takes the line ends out of a field's value and trims white space at both ends.
pub(crate) fn unfold(value: &[u8]) -> Cow<'_, [u8]> {
    let value = value.trim_ascii();
    if memchr(b'\n', value).is_none() {
        return Cow::Borrowed(value);
    }
    let mut line = Vec::with_capacity(value.len());
    for piece in value.split_inclusive(|byte| *byte == b'\n') {
        line.extend_from_slice(strip_line_end(piece));
    }
    Cow::Owned(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_up_to_the_empty_line() {
        let message = b"A: 1\r\nB : 2\r\n\tmore\r\nno field\r\nC:3\n\r\nD: body\r\n";
        let names: Vec<_> = HeaderFields::new(message)
            .map(|f| f.name().to_vec())
            .collect();
        assert_eq!(names, [&b"A"[..], b"B", b"", b"C"]);
        let second = HeaderFields::new(message).nth(1).unwrap();
        assert_eq!(second.value(), b" 2\r\n\tmore");
        assert_eq!(&*second.unfolded(), b"2\tmore");
        assert!(second.is("b"));
        assert_eq!(header_len(message), message.len() - b"D: body\r\n".len());
    }

    #[test]
    fn headers_without_an_end() {
        assert_eq!(header_len(b""), 0);
        assert_eq!(header_len(b"\r\nbody"), 2);
        assert_eq!(header_len(b"SUBJECT: hi\r\n"), 13);
        assert_eq!(header_len(b"SUBJECT: hi"), 11);
        assert_eq!(
            HeaderFields::new(b"SUBJECT: hi").next().unwrap().value(),
            b" hi"
        );
    }
}
