//! Matching for SEARCH (RFC 3501 §6.4.4): what a text says once charset, transfer encoding and
//! encoded words are taken off, compared without regard to case.

use encoding_rs::{CoderResult, Encoding};
use memchr::memmem;

use crate::date::MailDate;
use crate::encoded_words::decode_value;
use crate::header::{HeaderField, HeaderFields, header_len};
use crate::structure::{Part, PartKind, Structure};
use crate::transfer::{self, TransferEncoding};

/// A text to look for, prepared once for many messages.
#[derive(Debug)]
pub struct Needle {
    finder: memmem::Finder<'static>,
    /// Lies in one line if anywhere.
    is_one_line: bool,
}

impl Needle {
    /// Folds the text's case.
    pub fn new(text: &str) -> Self {
        let folded = fold(text);
        Self {
            is_one_line: !folded.contains('\n'),
            finder: memmem::Finder::new(folded.as_bytes()).into_owned(),
        }
    }

    /// True if nothing is looked for: then everything matches.
    pub fn is_empty(&self) -> bool {
        self.finder.needle().is_empty()
    }

    /// True if the text holds what is looked for.
    pub fn is_in(&self, text: &str) -> bool {
        self.finder.find(fold(text).as_bytes()).is_some()
    }

    /// The same for ASCII, which needs no decoding. In pieces, so that they stay in the cache.
    fn is_in_ascii(&self, text: &[u8]) -> bool {
        let overlap = self.finder.needle().len().saturating_sub(1);
        let mut folded = Vec::with_capacity(text.len().min(PIECE + overlap));
        let mut rest = text;
        loop {
            let len = rest.len().min(PIECE.saturating_add(overlap));
            folded.clear();
            folded.extend_from_slice(rest.get(..len).unwrap_or_default());
            folded.make_ascii_lowercase();
            if self.finder.find(&folded).is_some() {
                return true;
            }
            if len == rest.len() {
                return false;
            }
            rest = rest.get(PIECE..).unwrap_or_default();
        }
    }
}

/// Octets that are folded at a time.
const PIECE: usize = 64 * 1024;

/// True for octets that [`decode_value`] leaves as they are.
fn is_plain(value: &[u8]) -> bool {
    value.is_ascii() && memmem::find(value, b"=?").is_none()
}

/// Unicode lower case, character by character; a fast way for ASCII.
fn fold(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| !byte.is_ascii()) {
        let (ascii, other) = rest.split_at(at);
        out.push_str(ascii);
        let mut chars = other.chars();
        out.extend(chars.next().into_iter().flat_map(char::to_lowercase));
        rest = chars.as_str();
    }
    out.push_str(rest);
    out.make_ascii_lowercase();
    out
}

/// HEADER, FROM, SUBJECT and their like: a field of that name has the text in its decoded value.
/// An empty text asks for the field alone.
pub fn header_contains(header: &[u8], name: &str, needle: &Needle) -> bool {
    HeaderFields::new(header)
        .filter(|field| field.is(name))
        .any(|field| {
            let value = field.unfolded();
            needle.is_empty()
                || if is_plain(&value) {
                    needle.is_in_ascii(&value)
                } else {
                    needle.is_in(&decode_value(&value))
                }
        })
}

/// BODY: a part of type text, the header of a part or an inner message has the text.
pub fn body_contains(message: &[u8], needle: &Needle) -> bool {
    if needle.is_empty() {
        return true;
    }
    let structure = Structure::parse(message);
    structure.parts.iter().enumerate().any(|(at, part)| {
        let header = message.get(part.header.clone()).unwrap_or_default();
        let inner_header = at > 0 && fields_contain(header, needle);
        inner_header || (is_text(part) && part_contains(message, part, needle))
    })
}

/// TEXT: the header or the body has the text.
pub fn text_contains(message: &[u8], needle: &Needle) -> bool {
    let header = message.get(..header_len(message)).unwrap_or(message);
    needle.is_empty() || fields_contain(header, needle) || body_contains(message, needle)
}

/// The `Date` field of a header; its [`MailDate::day`] is what SENTON and its like compare.
pub fn sent_date(header: &[u8]) -> Option<MailDate> {
    let field = HeaderFields::new(header).find(|field| field.is("date"))?;
    MailDate::parse(field.value())
}

fn fields_contain(header: &[u8], needle: &Needle) -> bool {
    // Fields that need no decoding are looked through together, each in a line.
    let mut plain = Vec::with_capacity(header.len() + 64);
    let in_others = HeaderFields::new(header).any(|field| {
        if needle.is_one_line && is_plain(field.raw()) {
            plain.extend_from_slice(field.name());
            plain.extend_from_slice(b": ");
            plain.extend_from_slice(&field.unfolded());
            plain.push(b'\n');
            return false;
        }
        field_contains(&field, needle)
    });
    in_others || (!plain.is_empty() && needle.is_in_ascii(&plain))
}

fn field_contains(field: &HeaderField<'_>, needle: &Needle) -> bool {
    let name = String::from_utf8_lossy(field.name());
    needle.is_in(&format!("{name}: {}", decode_value(&field.unfolded())))
}

fn is_text(part: &Part<'_>) -> bool {
    match &part.content_type {
        Some(content_type) => content_type.is_type("text"),
        None => part.kind == PartKind::Leaf,
    }
}

fn part_contains(message: &[u8], part: &Part<'_>, needle: &Needle) -> bool {
    let encoding = part
        .fields
        .encoding
        .map_or(TransferEncoding::Identity, |field| {
            TransferEncoding::parse(field.value())
        });
    let charset = part
        .content_type
        .as_ref()
        .and_then(|value| value.param("charset"));
    let charset = charset
        .and_then(Encoding::for_label)
        .unwrap_or(encoding_rs::UTF_8);
    let body = message.get(part.body.clone()).unwrap_or_default();
    if encoding == TransferEncoding::Identity && charset.is_ascii_compatible() && body.is_ascii() {
        return needle.is_in_ascii(body);
    }
    decoded_contains(body, encoding, charset, needle)
}

/// What a body says when transfer encoding and charset are taken off.
fn decoded_contains(
    body: &[u8],
    encoding: TransferEncoding,
    charset: &'static Encoding,
    needle: &Needle,
) -> bool {
    let mut window = Window {
        decoder: charset.new_decoder_without_bom_handling(),
        text: String::new(),
        folded: String::new(),
        found: false,
    };
    transfer::decode(body, encoding, &mut |piece| {
        window.push(piece, false, needle)
    });
    window.found || {
        window.push(b"", true, needle);
        window.found
    }
}

/// Text that slides by, with as much of its past as a needle may reach into.
struct Window {
    decoder: encoding_rs::Decoder,
    text: String,
    folded: String,
    found: bool,
}

impl Window {
    /// False when there is nothing more to look for.
    fn push(&mut self, mut octets: &[u8], last: bool, needle: &Needle) -> bool {
        loop {
            self.text.clear();
            self.text.reserve(octets.len() + 64);
            let (result, read, _) = self.decoder.decode_to_string(octets, &mut self.text, last);
            octets = octets.get(read..).unwrap_or_default();
            self.folded.push_str(&fold(&self.text));
            if needle.finder.find(self.folded.as_bytes()).is_some() {
                self.found = true;
                return false;
            }
            let keep = needle.finder.needle().len();
            let mut cut = self.folded.len().saturating_sub(keep);
            while !self.folded.is_char_boundary(cut) {
                cut -= 1;
            }
            self.folded.drain(..cut);
            if result == CoderResult::InputEmpty {
                return true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MESSAGE: &[u8] = b"Subject: =?iso-8859-1?Q?Caf=E9?= und\r\n =?utf-8?B?w5xiZXI=?=\r\n\
        Date: Fri, 21 Nov 1997 23:55:06 -0600\r\nX-Empty:\r\n\
        Content-Type: multipart/mixed; boundary=b\r\n\r\npreamble\r\n--b\r\n\
        Content-Type: text/plain; charset=iso-8859-15\r\nContent-Transfer-Encoding: \
        quoted-printable\r\n\r\nzehn =A4 und so wei=\r\nter\r\n--b\r\nContent-Type: text/html; \
        charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\nPGI+U1RSQVNTRTwvYj4=\r\n--b\r\n\
        Content-Type: image/png; name=bild.png\r\n\r\nhidden\r\n--b\r\n\
        Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ndeep\r\n--b--\r\n";

    fn header(name: &str, text: &str) -> bool {
        header_contains(MESSAGE, name, &Needle::new(text))
    }

    #[test]
    fn header_fields_are_decoded() {
        assert!(header("subject", "CAF\u{c9} und \u{fc}ber"));
        assert!(!header("subject", "iso-8859"));
        assert!(header("X-Empty", ""));
        assert!(!header("X-None", ""));
        assert!(!header("X-Empty", "a"));
    }

    #[test]
    fn bodies_are_decoded() {
        let body = |text| body_contains(MESSAGE, &Needle::new(text));
        for text in [
            "zehn \u{20ac}",
            "WEITER",
            "<b>strasse",
            "deep",
            "Subject: Inner",
            "bild.PNG",
            "",
        ] {
            assert!(body(text), "{text}");
        }
        for text in ["hidden", "preamble", "caf\u{e9}", "quoted-printabler"] {
            assert!(!body(text), "{text}");
        }
        assert!(text_contains(MESSAGE, &Needle::new("caf\u{e9}")));
        assert!(text_contains(MESSAGE, &Needle::new("deep")));
    }

    #[test]
    fn texts_across_pieces() {
        let mut message = b"Subject: x\r\n\r\n".to_vec();
        message.extend(std::iter::repeat_n("\u{e9}".as_bytes(), 20_000).flatten());
        message.extend_from_slice("N\u{c4}DEL".as_bytes());
        message.extend(std::iter::repeat_n(b'a', 20_000));
        assert!(body_contains(&message, &Needle::new("\u{e9}n\u{e4}dela")));
        assert!(!body_contains(&message, &Needle::new("n\u{e4}delb")));
    }

    #[test]
    fn sent_dates() {
        assert_eq!(sent_date(MESSAGE).unwrap().day(), 10_186);
        assert_eq!(sent_date(b"Date: never\r\n"), None);
    }

    /// The fast ways find what the plain ones find.
    fn plain_fields(header: &[u8], needle: &Needle) -> bool {
        HeaderFields::new(header).any(|field| field_contains(&field, needle))
    }

    proptest! {
        #[test]
        fn fast_fields_as_plain_ones(
            header in "([aB=? :\\-]{0,4}:? ?(=[?]utf-8[?]q[?]=c3=84[?]=|[aB\u{e4}\u{212a}k ]{0,6})(\r\n| \n|\r\n a|\n)){0,6}",
            needle in "[aAbB:k\u{c4}=? \n]{0,4}",
        ) {
            let needle = Needle::new(&needle);
            let header = header.as_bytes();
            prop_assert_eq!(fields_contain(header, &needle), plain_fields(header, &needle));
            for name in ["a", "B", "aB"] {
                let plain = HeaderFields::new(header).filter(|field| field.is(name)).any(|field| {
                    needle.is_empty() || needle.is_in(&decode_value(&field.unfolded()))
                });
                prop_assert_eq!(header_contains(header, name, &needle), plain);
            }
        }

        #[test]
        fn fast_bodies_as_plain_ones(
            filler in 0..3_usize,
            text in "[aAbBkK\u{212a}\u{e4}\r\n]{0,40}",
            needle in "[aAbBkK\u{212a}\u{c4}\n]{1,5}",
            charset in "(utf-8|us-ascii|iso-8859-1|utf-16le|iso-2022-jp|windows-1252|none)",
        ) {
            let mut body = vec![b'x'; filler * (PIECE - 20)];
            body.extend_from_slice(text.as_bytes());
            let needle = Needle::new(&needle);
            let mut message =
                format!("Content-Type: text/plain; charset={charset}\r\n\r\n").into_bytes();
            message.extend_from_slice(&body);
            let charset = Encoding::for_label(charset.as_bytes()).unwrap_or(encoding_rs::UTF_8);
            let plain = decoded_contains(&body, TransferEncoding::Identity, charset, &needle);
            prop_assert_eq!(body_contains(&message, &needle), plain);
        }
    }

    /// Each of these grows a different way; a quadratic one would not end.
    #[test]
    fn large_hostile_messages() {
        let needle = Needle::new("not there");
        for piece in [
            "=?",
            "=?utf-8?q?a",
            "=?utf-8?q?a?= ",
            "=?utf-8?b?",
            "?=",
            "=",
            "\r\n a",
            "a:\r\n",
            "(",
        ] {
            let message = format!("Subject: {}", piece.repeat(1_000_000));
            assert!(!text_contains(message.as_bytes(), &needle));
        }
        for (encoding, piece) in [
            ("base64", "===="),
            ("base64", "A"),
            ("quoted-printable", "=\r\n"),
            ("quoted-printable", "= "),
        ] {
            let body = piece.repeat(1_000_000);
            let message = format!("Content-Transfer-Encoding: {encoding}\r\n\r\n{body}");
            assert!(!body_contains(message.as_bytes(), &needle));
        }
    }
}
