//! Content transfer encodings (RFC 2045 §6), decoded in pieces and without complaint.

use crate::header::{line_len, strip_line_end};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TransferEncoding {
    Base64,
    /// 7bit, 8bit, binary and what is not known.
    Identity,
    QuotedPrintable,
}

impl TransferEncoding {
    pub(crate) fn parse(value: &[u8]) -> Self {
        let mut lexer = crate::lexer::Lexer::new(value);
        lexer.skip_cfws();
        let token = lexer.take_while(crate::lexer::is_token);
        if token.eq_ignore_ascii_case(b"base64") {
            Self::Base64
        } else if token.eq_ignore_ascii_case(b"quoted-printable") {
            Self::QuotedPrintable
        } else {
            Self::Identity
        }
    }
}

/// About so many octets are decoded at a time.
const PIECE: usize = 16 * 1024;

/// Gives the decoded content piece by piece until `each` says false.
pub(crate) fn decode(body: &[u8], encoding: TransferEncoding, each: &mut dyn FnMut(&[u8]) -> bool) {
    match encoding {
        TransferEncoding::Base64 => decode_base64(body, each),
        TransferEncoding::Identity => {
            let _done = body.chunks(PIECE).all(each);
        }
        TransferEncoding::QuotedPrintable => decode_quoted_printable(body, each),
    }
}

fn decode_base64(body: &[u8], each: &mut dyn FnMut(&[u8]) -> bool) {
    let mut piece = Vec::with_capacity(PIECE);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for byte in body {
        let Some(digit) = base64_digit(*byte) else {
            if *byte == b'=' {
                // Padding ends a group; joined encodings go on behind it.
                (bits, held) = (0, 0);
            }
            continue;
        };
        held = (held << 6 | digit) & 0xFFF;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            piece.push((held >> bits & 0xFF) as u8);
        }
        if piece.len() >= PIECE {
            if !each(&piece) {
                return;
            }
            piece.clear();
        }
    }
    each(&piece);
}

fn base64_digit(byte: u8) -> Option<u32> {
    let digit = match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(digit.into())
}

fn decode_quoted_printable(body: &[u8], each: &mut dyn FnMut(&[u8]) -> bool) {
    let mut piece = Vec::with_capacity(PIECE + 1024);
    let mut rest = body;
    while let Some((line, after)) = rest
        .split_at_checked(line_len(rest))
        .filter(|(l, _)| !l.is_empty())
    {
        rest = after;
        let text = strip_line_end(line).trim_ascii_end();
        let (text, soft) = match text.strip_suffix(b"=") {
            Some(text) => (text, true),
            None => (text, false),
        };
        push_quoted_printable(&mut piece, text);
        if !soft && text.len() < line.len() {
            piece.extend_from_slice(b"\r\n");
        }
        if piece.len() >= PIECE {
            if !each(&piece) {
                return;
            }
            piece.clear();
        }
    }
    each(&piece);
}

pub(crate) fn push_quoted_printable(out: &mut Vec<u8>, mut text: &[u8]) {
    while let Some((plain, rest)) =
        memchr::memchr(b'=', text).and_then(|at| text.split_at_checked(at))
    {
        out.extend_from_slice(plain);
        let decoded = match rest {
            [_, high, low, ..] => hex(*high).zip(hex(*low)),
            _ => None,
        };
        if let Some((high, low)) = decoded {
            out.push(high << 4 | low);
            text = rest.get(3..).unwrap_or_default();
        } else {
            out.push(b'=');
            text = rest.get(1..).unwrap_or_default();
        }
    }
    out.extend_from_slice(text);
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use proptest::prelude::*;

    fn all(body: &[u8], encoding: TransferEncoding) -> Vec<u8> {
        let mut out = Vec::new();
        decode(body, encoding, &mut |piece| {
            out.extend_from_slice(piece);
            true
        });
        out
    }

    #[test]
    fn quoted_printable() {
        let body = b"a=C3=A9=\r\nb  \r\nc=XY=3\nd=";
        assert_eq!(
            all(body, TransferEncoding::parse(b" Quoted-Printable (x)")),
            "a\u{e9}b\r\nc=XY=3\r\nd".as_bytes()
        );
    }

    proptest! {
        #[test]
        fn base64(octets: Vec<u8>, width in 1_usize..80) {
            let text = base64::engine::general_purpose::STANDARD.encode(&octets);
            let lines: Vec<u8> = text.as_bytes().chunks(width).flat_map(|l| [l, b"\r\n"].concat()).collect();
            prop_assert_eq!(all(&lines, TransferEncoding::Base64), octets);
        }
    }
}
