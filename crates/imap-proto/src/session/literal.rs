//! Literals' heads, and base64 in lines of their own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A literal that a line announces at its end (RFC 3501 §4.3, RFC 7888).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Literal {
    pub(super) size: u64,
    /// The client waits before it sends the octets.
    pub(super) synchronising: bool,
}

impl Literal {
    /// `{n}` or `{n+}` before the line's end.
    pub(super) fn at_end(line: &[u8]) -> Option<Self> {
        let line = line.strip_suffix(b"\n")?;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let inner = line.strip_suffix(b"}")?;
        let open = inner.iter().rposition(|byte| *byte == b'{')?;
        let inner = inner.get(open + 1..)?;
        let (digits, synchronising) = match inner.strip_suffix(b"+") {
            Some(digits) => (digits, false),
            None => (inner, true),
        };
        if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let size = std::str::from_utf8(digits).ok()?.parse().ok()?;
        Some(Self {
            size,
            synchronising,
        })
    }
}

pub(super) fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}
