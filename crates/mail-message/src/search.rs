//! Matching for SEARCH (RFC 3501 §6.4.4): what a text says once charset, transfer encoding and
//! encoded words are taken off, compared without regard to case.

use encoding_rs::{CoderResult, Encoding};
use memchr::memmem;

use crate::date::MailDate;
use crate::encoded_words::decode_value;
use crate::header::{HeaderFields, header_len};
use crate::structure::{Part, PartKind, Structure};
use crate::transfer::{self, TransferEncoding};

/// A text to look for, prepared once for many messages.
#[derive(Debug)]
pub struct Needle {
    finder: memmem::Finder<'static>,
}

impl Needle {
    /// Folds the text's case.
    pub fn new(text: &str) -> Self {
        let folded = fold(text);
        Self {
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
}

/// Unicode lower case, character by character; a fast way for ASCII.
fn fold(text: &str) -> String {
    if text.is_ascii() {
        text.to_ascii_lowercase()
    } else {
        text.chars().flat_map(char::to_lowercase).collect()
    }
}

/// HEADER, FROM, SUBJECT and their like: a field of that name has the text in its decoded value.
/// An empty text asks for the field alone.
pub fn header_contains(header: &[u8], name: &str, needle: &Needle) -> bool {
    HeaderFields::new(header)
        .filter(|field| field.is(name))
        .any(|field| needle.is_empty() || needle.is_in(&decode_value(&field.unfolded())))
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
    HeaderFields::new(header).any(|field| {
        let name = String::from_utf8_lossy(field.name());
        needle.is_in(&format!("{name}: {}", decode_value(&field.unfolded())))
    })
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
    let mut window = Window {
        decoder: charset.new_decoder_without_bom_handling(),
        text: String::new(),
        folded: String::new(),
        found: false,
    };
    let body = message.get(part.body.clone()).unwrap_or_default();
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
