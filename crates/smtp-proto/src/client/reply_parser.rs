use std::borrow::Cow;

use mail_types::EnhancedCode;
use memchr::memchr;

use super::Limits;
use crate::{Reply, ReplyCode};

/// Reads replies (RFC 5321 §4.2.1):
///
/// ```text
/// Reply-line = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF
/// ```
///
/// Taken in good part: lines that end in LF alone, texts that are not ASCII, over-long texts (cut),
/// a code without a space or text, codes that differ within a reply (the last one counts).
#[derive(Debug)]
pub struct ReplyParser {
    limits: Limits,
    /// The current line's beginning.
    line: Vec<u8>,
    /// Octets of the reply so far.
    size: usize,
    lines: Vec<String>,
    enhanced: Option<EnhancedCode>,
}

/// Why a server's bytes are no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// A line that does not begin with a reply code.
    #[error("the server sent a line that is no SMTP reply")]
    NoCode,
    /// A reply without end.
    #[error("the server sent a reply without end")]
    TooLong,
}

impl ReplyParser {
    /// A parser at the beginning of a reply.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            line: Vec::new(),
            size: 0,
            lines: Vec::new(),
            enhanced: None,
        }
    }

    /// Takes input up to the end of one reply at most; says how much, and the reply if it is whole.
    /// After an error the parser is of no more use.
    pub fn next(&mut self, input: &[u8]) -> (usize, Result<Option<Reply>, ReplyError>) {
        let mut taken = 0;
        loop {
            let rest = input.get(taken..).unwrap_or_default();
            if rest.is_empty() {
                return (taken, Ok(None));
            }
            let (piece, whole) = match memchr(b'\n', rest) {
                Some(end) => (rest.get(..=end).unwrap_or(rest), true),
                None => (rest, false),
            };
            taken += piece.len();
            self.size = self.size.saturating_add(piece.len());
            let room = self.limits.reply_line.saturating_sub(self.line.len());
            self.line
                .extend_from_slice(piece.get(..room).unwrap_or(piece));
            if self.size > self.limits.reply_size || self.lines.len() >= self.limits.reply_lines {
                return (taken, Err(ReplyError::TooLong));
            }
            if whole {
                match self.end_line() {
                    Ok(None) => {}
                    result => return (taken, result),
                }
            } else if !begins_like_a_reply(&self.line) {
                return (taken, Err(ReplyError::NoCode));
            }
        }
    }

    fn end_line(&mut self) -> Result<Option<Reply>, ReplyError> {
        let line = std::mem::take(&mut self.line);
        let (code, more, text) = split_line(&line).ok_or(ReplyError::NoCode)?;
        let (enhanced, text) = split_enhanced(code, text);
        if self.lines.is_empty() {
            self.enhanced = enhanced;
        }
        self.lines.push(printable(text));
        if more {
            return Ok(None);
        }
        self.size = 0;
        let mut lines = std::mem::take(&mut self.lines).into_iter();
        let enhanced = self.enhanced.take().filter(|e| e.class() == code.class());
        let first = Reply::new(code, enhanced, lines.next().unwrap_or_default());
        Ok(Some(lines.fold(first, Reply::with_line)))
    }

    /// Forgets what came in.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.limits);
    }
}

/// A server that speaks something else is found out at its first bytes, not at its first line end.
fn begins_like_a_reply(line: &[u8]) -> bool {
    line.iter().take(3).all(u8::is_ascii_digit)
}

/// Code, whether more lines follow, text.
fn split_line(line: &[u8]) -> Option<(ReplyCode, bool, &[u8])> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (digits, rest) = line.split_at_checked(3)?;
    let mut number = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number * 10 + u16::from(digit - b'0');
    }
    let code = ReplyCode::try_from(number).ok()?;
    match rest.split_first() {
        None => Some((code, false, rest)),
        Some((b' ', text)) => Some((code, false, text)),
        Some((b'-', text)) => Some((code, true, text)),
        Some(_) => None,
    }
}

/// Takes the enhanced code off the text if there is one whose class agrees with the reply code
/// (RFC 2034 §4).
fn split_enhanced(code: ReplyCode, text: &[u8]) -> (Option<EnhancedCode>, &[u8]) {
    let end = memchr(b' ', text).unwrap_or(text.len());
    let (word, rest) = text.split_at_checked(end).unwrap_or((text, b""));
    let enhanced = std::str::from_utf8(word)
        .ok()
        .and_then(|word| word.parse::<EnhancedCode>().ok())
        .filter(|enhanced| enhanced.class() == code.class());
    match enhanced {
        Some(_) => (enhanced, rest.strip_prefix(b" ").unwrap_or(rest)),
        None => (None, text),
    }
}

/// What a person may see of it, and a log or report hold: no controls, valid UTF-8.
fn printable(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    if text.chars().any(char::is_control) {
        text.chars().map(clean).collect()
    } else {
        match text {
            Cow::Borrowed(text) => text.to_owned(),
            Cow::Owned(text) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parser() -> ReplyParser {
        ReplyParser::new(Limits::default())
    }

    fn all(pieces: &[&[u8]]) -> Result<Vec<Reply>, ReplyError> {
        let mut parser = parser();
        let mut replies = Vec::new();
        for piece in pieces {
            let mut at = 0;
            while at < piece.len() {
                let (taken, result) = parser.next(&piece[at..]);
                at += taken;
                replies.extend(result?);
            }
        }
        Ok(replies)
    }

    // Tests RFC 5321 §4.2.1 and RFC 2034 §4
    #[test]
    fn whole_and_byte_by_byte() {
        let wire =
            b"220 mx.test\r\n250-2.1.0 one\r\n250-two\r\n250 2.1.0 three\r\n354\r\n550 5.1.1 no\n";
        let whole = all(&[wire]).unwrap();
        let bytes: Vec<&[u8]> = wire.chunks(1).collect();
        assert_eq!(all(&bytes).unwrap(), whole);
        let shown: Vec<String> = whole.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "220 mx.test",
                "250 2.1.0 one two three",
                "354",
                "550 5.1.1 no"
            ]
        );
        assert_eq!(whole[1].lines().count(), 3);
        assert_eq!(whole[3].enhanced(), Some(EnhancedCode::NO_SUCH_USER));
    }

    #[test]
    fn an_enhanced_code_of_another_class_is_text() {
        let replies = all(&[b"550 4.7.1 no\r\n250-2.0.0 a\r\n450 4.2.0 b\r\n"]).unwrap();
        assert_eq!(replies[0].enhanced(), None);
        assert_eq!(replies[0].text(), "4.7.1 no");
        // The last line's code counts, and an enhanced code that does not fit it does not.
        assert_eq!(replies[1].code(), ReplyCode::MAILBOX_BUSY);
        assert_eq!(replies[1].enhanced(), None);
    }

    #[test]
    fn what_is_no_reply() {
        for bad in [
            "\r\n",
            "hello\r\n",
            "99 x\r\n",
            "199 x\r\n",
            "600 x\r\n",
            "250x\r\n",
            "2500 x\r\n",
            "25\r\n",
            "GET",
            "HTTP/1.1 400",
        ] {
            assert_eq!(all(&[bad.as_bytes()]), Err(ReplyError::NoCode), "{bad}");
        }
    }

    #[test]
    fn hostile_texts_are_cleaned_and_cut() {
        let replies = all(&[b"550 a\x00b\x1b[31m\xff\r\n"]).unwrap();
        assert_eq!(replies[0].text(), "a b [31m\u{fffd}");
        let long = [b"550 ".to_vec(), vec![b'x'; 10_000], b"\r\n".to_vec()].concat();
        let replies = all(&[&long]).unwrap();
        assert_eq!(replies[0].text().len(), 2044);
        assert_eq!(
            all(&[&[b"550 ".to_vec(), vec![b'x'; 70_000]].concat()]),
            Err(ReplyError::TooLong)
        );
        assert_eq!(all(&[&b"250-x\r\n".repeat(200)]), Err(ReplyError::TooLong));
    }

    proptest! {
        #[test]
        fn never_panics_and_never_stands_still(input in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut parser = parser();
            let mut at = 0;
            while at < input.len() {
                let (taken, result) = parser.next(&input[at..]);
                prop_assert!(taken > 0);
                at += taken;
                if result.is_err() { break; }
            }
        }

        #[test]
        fn what_the_server_side_writes_is_read_back(
            code in 200u16..600, detail in 0u16..1000, texts in proptest::collection::vec("[a-z][ -~é]{0,30}", 1..5), cut in 0usize..50
        ) {
            let code = ReplyCode::try_from(code).unwrap();
            let enhanced = EnhancedCode::new(code.class(), 1, detail).unwrap();
            let mut texts = texts.into_iter();
            let first = Reply::new(code, Some(enhanced), texts.next().unwrap());
            let reply = texts.fold(first, Reply::with_line);
            let mut wire = Vec::new();
            reply.write_to(&mut wire);
            let (head, tail) = wire.split_at(cut.min(wire.len()));
            prop_assert_eq!(all(&[head, tail]).unwrap(), vec![reply]);
        }
    }
}
