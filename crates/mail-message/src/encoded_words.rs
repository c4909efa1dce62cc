//! Encoded words in header fields (RFC 2047, with the language tags of RFC 2231 §5), decoded.

use std::borrow::Cow;

use encoding_rs::Encoding;
use memchr::memmem;

use crate::transfer::{TransferEncoding, decode, push_quoted_printable};

/// The longest encoded word that is looked for. RFC 2047 §2 allows 75 octets; many write longer
/// ones. The bound keeps the search for ends linear.
const MAX_WORD: usize = 1000;

/// The text of an unfolded value. White space between encoded words falls away, and characters
/// that are split over words of one charset are joined. Octets outside of them are UTF-8, or else
/// windows-1252.
pub(crate) fn decode_value(value: &[u8]) -> String {
    let mut text = Text::default();
    let mut rest = value;
    // Octets of plain text before the place that is looked at.
    let mut plain = 0;
    while let Some(at) = rest.get(plain..).and_then(|tail| memmem::find(tail, b"=?")) {
        let (before, word) = rest.split_at(plain + at);
        if let Some((word, after)) = Word::parse(word) {
            text.push_plain(before);
            text.push_word(&word);
            rest = after;
            plain = 0;
        } else {
            plain += at + 2;
        }
    }
    text.push_plain(rest);
    text.flush();
    text.out
}

struct Word<'a> {
    charset: &'static Encoding,
    base64: bool,
    encoded: &'a [u8],
}

impl<'a> Word<'a> {
    /// `=?charset?encoding?text?=`, and what follows it.
    fn parse(octets: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let window = octets.get(..MAX_WORD).unwrap_or(octets);
        let inner = window.strip_prefix(b"=?")?;
        let mut fields = inner.splitn(3, |byte| *byte == b'?');
        let charset = fields.next()?;
        let base64 = match fields.next()? {
            b"B" | b"b" => true,
            b"Q" | b"q" => false,
            _ => return None,
        };
        let tail = fields.next()?;
        let end = memmem::find(tail, b"?=")?;
        let encoded = tail.get(..end)?;
        let len = window.len() - tail.len() + end + 2;
        let label = charset.split(|byte| *byte == b'*').next()?;
        let word = Self {
            charset: Encoding::for_label(label)?,
            base64,
            encoded,
        };
        Some((word, octets.get(len..)?))
    }

    fn push_octets(&self, out: &mut Vec<u8>) {
        if self.base64 {
            decode(self.encoded, TransferEncoding::Base64, &mut |piece| {
                out.extend_from_slice(piece);
                true
            });
        } else {
            let spaced: Vec<u8> = self
                .encoded
                .iter()
                .map(|byte| if *byte == b'_' { b' ' } else { *byte })
                .collect();
            push_quoted_printable(out, &spaced);
        }
    }
}

#[derive(Default)]
struct Text {
    out: String,
    /// The words just before, not yet turned into characters.
    held: Option<(&'static Encoding, Vec<u8>)>,
}

impl Text {
    fn push_plain(&mut self, octets: &[u8]) {
        if octets.is_empty() || (self.held.is_some() && octets.trim_ascii().is_empty()) {
            return;
        }
        self.flush();
        let text = match std::str::from_utf8(octets) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => {
                encoding_rs::WINDOWS_1252
                    .decode_without_bom_handling(octets)
                    .0
            }
        };
        self.out.push_str(&text);
    }

    fn push_word(&mut self, word: &Word<'_>) {
        if self
            .held
            .as_ref()
            .is_some_and(|(charset, _)| *charset != word.charset)
        {
            self.flush();
        }
        let (_, octets) = self.held.get_or_insert((word.charset, Vec::new()));
        word.push_octets(octets);
    }

    fn flush(&mut self) {
        if let Some((charset, octets)) = self.held.take() {
            self.out
                .push_str(&charset.decode_without_bom_handling(&octets).0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words() {
        for (value, expected) in [
            ("plain", "plain"),
            // The examples of RFC 2047 §8.
            ("(=?ISO-8859-1?Q?a?=)", "(a)"),
            ("(=?ISO-8859-1?Q?a?= b)", "(a b)"),
            ("(=?ISO-8859-1?Q?a?=  =?ISO-8859-1?Q?b?=)", "(ab)"),
            ("(=?ISO-8859-1?Q?a_b?=)", "(a b)"),
            ("(=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=)", "(a b)"),
            ("=?utf-8?B?w7w=?= =?us-ascii*en?q?x?=", "\u{fc}x"),
            ("=?utf-8?Q?=C3?= =?utf-8?Q?=BC?=", "\u{fc}"),
            (
                "=?nosuch?q?a?= =?utf-8?x?a?= =?utf-8?q?a",
                "=?nosuch?q?a?= =?utf-8?x?a?= =?utf-8?q?a",
            ),
            ("=?=?utf-8?q?a?=", "=?a"),
            ("=?utf-8?q??=", ""),
        ] {
            assert_eq!(decode_value(value.as_bytes()), expected, "{value}");
        }
        assert_eq!(decode_value(b"Caf\xE9"), "Caf\u{e9}");
        assert_eq!(decode_value("Caf\u{e9}".as_bytes()), "Caf\u{e9}");
    }

    proptest! {
        #[test]
        fn never_panics(value in "(=\\?|utf-8|\\?[bq]\\?|\\?=| |[a-z=_]{0,4}|\u{e9}){0,40}") {
            decode_value(value.as_bytes());
        }

        /// Another implementation sees the same in words of one kind.
        #[test]
        fn agrees_with_mailparse(words in prop::collection::vec("[a-zA-Z0-9_]{1,10}", 1..5)) {
            let value: Vec<String> = words.iter().map(|w| format!("=?utf-8?Q?{w}=C3=A9?=")).collect();
            let field = format!("X: {}", value.join(" "));
            let (parsed, _) = mailparse::parse_header(field.as_bytes()).unwrap();
            prop_assert_eq!(decode_value(value.join(" ").as_bytes()), parsed.get_value());
        }
    }
}
