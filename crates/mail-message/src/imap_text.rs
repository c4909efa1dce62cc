//! IMAP strings (RFC 3501 §4.3).

/// Longer texts, and those that quoting cannot carry, go as literals.
const MAX_QUOTED: usize = 4096;

/// `NIL`, a quoted string or a literal.
pub(crate) fn push_nstring(out: &mut Vec<u8>, text: Option<&[u8]>) {
    match text {
        Some(text) => push_string(out, text),
        None => out.extend_from_slice(b"NIL"),
    }
}

/// A quoted string, or a literal where there are octets that quotes cannot hold. NUL, which no
/// IMAP string can hold (RFC 3501 §9 `CHAR8`), is left out.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &[u8]) {
    let plain = |byte: &u8| (b' '..0x7F).contains(byte) || *byte == b'\t';
    if text.len() <= MAX_QUOTED && text.iter().all(plain) {
        out.push(b'"');
        for byte in text {
            if matches!(byte, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(*byte);
        }
        out.push(b'"');
        return;
    }
    let octets = text.iter().filter(|byte| **byte != 0);
    out.extend_from_slice(format!("{{{}}}\r\n", octets.clone().count()).as_bytes());
    out.extend(octets);
}

pub(crate) fn push_number(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(number.to_string().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        push_string(&mut out, text);
        out
    }

    #[test]
    fn quoted_or_literal() {
        assert_eq!(string(b"a \"b\\"), b"\"a \\\"b\\\\\"");
        assert_eq!(string("\u{e9}".as_bytes()), "{2}\r\n\u{e9}".as_bytes());
        assert_eq!(string(b"a\0\xFFb"), b"{3}\r\na\xFFb");
        assert_eq!(string(b""), b"\"\"");
        assert!(string(&[b'a'; 5000]).starts_with(b"{5000}\r\n"));
    }
}
