//! Writing responses (RFC 3501 §7) behind each other into one buffer.

use mail_types::{Flags, SystemFlag};

use crate::mailbox_name;
use crate::response::{Code, Condition};

/// The longest string that goes out quoted, in octets; longer ones are literals.
const MAX_QUOTED: usize = 1024;

/// Writes a decimal number.
pub fn push_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0_u8; 20];
    let mut len = 0;
    for place in digits.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
        len += 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(20 - len..).unwrap_or_default());
}

/// Writes a status response, tagged or, without a tag, untagged:
/// `tag OK [CODE] text`.
pub fn push_status(
    out: &mut Vec<u8>,
    tag: Option<&str>,
    condition: Condition,
    code: Option<&Code<'_>>,
    text: &str,
) {
    out.extend_from_slice(tag.unwrap_or("*").as_bytes());
    out.push(b' ');
    out.extend_from_slice(condition.as_str().as_bytes());
    if let Some(code) = code {
        out.extend_from_slice(b" [");
        out.extend_from_slice(code.to_string().as_bytes());
        out.push(b']');
    }
    out.push(b' ');
    push_text(out, text);
    out.extend_from_slice(b"\r\n");
}

/// `text = 1*TEXT-CHAR`: one line of ASCII, never empty.
fn push_text(out: &mut Vec<u8>, text: &str) {
    let start = out.len();
    out.extend(text.bytes().map(|b| match b {
        b' '..=b'~' => b,
        b'\t' | b'\r' | b'\n' => b' ',
        _ => b'?',
    }));
    if out.len() == start {
        out.push(b'-');
    }
}

/// Writes an untagged line: `* text`.
pub fn push_untagged(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(b"* ");
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes `* number WORD`, as EXISTS, RECENT and EXPUNGE are.
pub fn push_numbered(out: &mut Vec<u8>, number: u32, word: &str) {
    out.extend_from_slice(b"* ");
    push_number(out, u64::from(number));
    out.push(b' ');
    out.extend_from_slice(word.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes a command continuation request (RFC 3501 §7.5).
pub fn push_continuation(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(b"+ ");
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes a `string`: quoted where that can hold it, else a literal.
pub fn push_string(out: &mut Vec<u8>, text: &[u8]) {
    let plain = |b: &u8| matches!(b, b' '..=b'~');
    if text.len() > MAX_QUOTED || !text.iter().all(plain) {
        push_literal_head(out, text.len() as u64);
        out.extend_from_slice(text);
        return;
    }
    out.push(b'"');
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

/// Writes an `astring`: an atom where that can hold it.
pub fn push_astring(out: &mut Vec<u8>, text: &[u8]) {
    let atom = !text.is_empty()
        && text.iter().all(|b| crate::tag::is_astring_char(*b))
        && !text.eq_ignore_ascii_case(b"NIL");
    if atom {
        out.extend_from_slice(text);
    } else {
        push_string(out, text);
    }
}

/// Writes a mailbox name, given in UTF-8, in modified UTF-7.
pub fn push_mailbox(out: &mut Vec<u8>, name: &str) {
    push_astring(out, mailbox_name::encode(name).as_bytes());
}

/// Writes what comes before a literal's octets: `{n}` CRLF.
pub fn push_literal_head(out: &mut Vec<u8>, len: u64) {
    out.push(b'{');
    push_number(out, len);
    out.extend_from_slice(b"}\r\n");
}

/// Writes flags in parentheses. `keywords` is the mailbox's table; `recent` adds `\Recent`.
pub fn push_flags<K: AsRef<str>>(out: &mut Vec<u8>, flags: Flags, keywords: &[K], recent: bool) {
    out.push(b'(');
    let start = out.len();
    let separate = |out: &mut Vec<u8>, name: &str| {
        if out.len() > start {
            out.push(b' ');
        }
        out.extend_from_slice(name.as_bytes());
    };
    for flag in SystemFlag::ALL {
        if flags.has(flag) {
            separate(out, flag.name());
        }
    }
    // Most messages have no keyword, and then this need not look for them.
    if flags.bits() >> SystemFlag::ALL.len() != 0 {
        for name in flags.keywords().filter_map(|place| keywords.get(place)) {
            separate(out, name.as_ref());
        }
    }
    if recent {
        separate(out, "\\Recent");
    }
    out.push(b')');
}

/// A FETCH response being written (RFC 3501 §7.4.2): `* n FETCH (item value …)`.
#[derive(Debug)]
pub struct FetchResponse<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> FetchResponse<'a> {
    /// Begins the response for the message with that sequence number.
    pub fn begin(out: &'a mut Vec<u8>, number: u32) -> Self {
        out.extend_from_slice(b"* ");
        push_number(out, u64::from(number));
        out.extend_from_slice(b" FETCH (");
        Self { out, first: true }
    }

    /// Goes on with a response that was begun; `first` if it has no items yet.
    pub fn resume(out: &'a mut Vec<u8>, first: bool) -> Self {
        Self { out, first }
    }

    /// Writes an item's name; its value is to follow.
    pub fn item(&mut self, name: &str) -> &mut Vec<u8> {
        self.separate();
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(b' ');
        self.out
    }

    /// Puts a space before every item but the first; its name and value are to follow.
    pub fn separate(&mut self) -> &mut Vec<u8> {
        if !self.first {
            self.out.push(b' ');
        }
        self.first = false;
        self.out
    }

    /// Writes an item that is a number.
    pub fn number(&mut self, name: &str, value: u64) {
        let out = self.item(name);
        push_number(out, value);
    }

    /// `MODSEQ (n)`
    pub fn modseq(&mut self, value: u64) {
        let out = self.item("MODSEQ");
        out.push(b'(');
        push_number(out, value);
        out.push(b')');
    }

    /// True as long as nothing was written.
    pub fn is_empty(&self) -> bool {
        self.first
    }

    /// Ends the response.
    pub fn end(self) {
        self.out.extend_from_slice(b")\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers() {
        for number in [0, 7, 10, 4_294_967_295, u64::MAX] {
            assert_eq!(written(|out| push_number(out, number)), number.to_string());
        }
    }

    #[test]
    fn strings() {
        assert_eq!(written(|out| push_astring(out, b"INBOX")), "INBOX");
        assert_eq!(written(|out| push_astring(out, b"")), "\"\"");
        assert_eq!(written(|out| push_astring(out, b"nil")), "\"nil\"");
        assert_eq!(
            written(|out| push_astring(out, b"a \"b\"")),
            "\"a \\\"b\\\"\""
        );
        assert_eq!(written(|out| push_string(out, b"a\r\nb")), "{4}\r\na\r\nb");
        assert_eq!(written(|out| push_mailbox(out, "Entwürfe")), "Entw&APw-rfe");
    }

    #[test]
    fn flags() {
        let flags = Flags::from(SystemFlag::Seen) | Flags::keyword(1).unwrap();
        let text = written(|out| push_flags(out, flags, &["a", "$b"], true));
        assert_eq!(text, "(\\Seen $b \\Recent)");
        assert_eq!(
            written(|out| push_flags::<&str>(out, Flags::NONE, &[], false)),
            "()"
        );
    }

    #[test]
    fn texts_are_one_line() {
        let text = written(|out| {
            push_status(
                out,
                None,
                Condition::No,
                Some(&Code::OverQuota),
                "a\r\n* OK ü",
            );
        });
        assert_eq!(text, "* NO [OVERQUOTA] a  * OK ??\r\n");
    }
}
