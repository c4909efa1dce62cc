//! Messages that can be told from their ids alone, so that nothing has to be kept to compare.

use std::fmt::Write;

/// The field that names a message.
pub(crate) const FIELD: &str = "X-Torture";

/// Who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// By SMTP.
    Smtp,
    /// By IMAP APPEND.
    Append,
}

/// A word that no other message has, and that says what is in it.
pub(crate) fn new_id(source: Source, client: usize, number: u64, size: usize) -> String {
    let source = match source {
        Source::Smtp => 's',
        Source::Append => 'a',
    };
    format!("{source}-{client}-{number}-{size}")
}

/// The message with this id: some lines begin with a dot, and the size is that in the id or a
/// little more.
pub(crate) fn text(id: &str, from: &str) -> String {
    let size = id.rsplit('-').next().and_then(|size| size.parse().ok());
    let size: usize = size.unwrap_or(0);
    let mut text = String::with_capacity(size + 200);
    // A String takes everything.
    let _ = write!(
        text,
        "{FIELD}: {id}\r\nFrom: <{from}>\r\nTo: undisclosed-recipients:;\r\nSubject: torture {id}\r\n\
         Date: Mon, 23 Nov 2026 12:00:00 +0000\r\nMessage-ID: <{id}@torture.example>\r\n\r\n"
    );
    let mut state = id.bytes().fold(0x9e37_79b9_7f4a_7c15_u64, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    while text.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let dot = if state.is_multiple_of(7) { "." } else { "" };
        let _ = write!(text, "{dot}{state:016x}{:016x}\r\n", state.rotate_left(9));
    }
    text
}

/// Dots doubled for DATA (RFC 5321 §4.5.2).
pub(crate) fn stuffed(text: &str) -> String {
    text.replace("\r\n.", "\r\n..")
}

/// The id in a header, or in a whole message.
pub(crate) fn id_in(octets: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(octets);
    let found = text.lines().find_map(|line| line.strip_prefix(FIELD));
    let id = found?.strip_prefix(':')?.trim();
    Some(id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_its_id_and_size() {
        let id = new_id(Source::Smtp, 3, 9, 5000);
        let made = text(&id, "a@b");
        assert!((5000..5100).contains(&made.len()));
        assert_eq!(id_in(made.as_bytes()), Some(id));
        assert!(stuffed(&made).contains("\r\n.."));
        assert_ne!(made, text("s-3-8-5000", "a@b"));
    }
}
