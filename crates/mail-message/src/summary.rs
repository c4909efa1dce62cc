use crate::body_structure::Renderer;
use crate::date::MailDate;
use crate::envelope::Envelope;
use crate::fields::CommonFields;
use crate::header::{HeaderField, HeaderFields};
use crate::part_index::PartIndex;
use crate::structure::Structure;

/// From so many octets on, a rendered structure leaves out the message's own texts. Real ones have
/// below 10 kB; the bound keeps a hostile one within a message of gRPC and a value of the index.
const MAX_STRUCTURE: usize = 512 * 1024;
/// More octets of common fields than this are not kept.
const MAX_COMMON: usize = 128 * 1024;
/// The most message ids that are kept for threading; RFC 5256 needs the last ones most.
const MAX_REFERENCES: usize = 100;

/// What the index keeps of a message so that listing a mailbox reads no message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// ENVELOPE with its parentheses, as IMAP sends it (RFC 3501 §7.4.2).
    pub envelope: Vec<u8>,
    /// BODYSTRUCTURE with its parentheses.
    pub body_structure: Vec<u8>,
    /// BODY, the non-extensible form, with its parentheses.
    pub body: Vec<u8>,
    /// [`PartIndex`] in its stored form.
    pub parts: Vec<u8>,
    /// The raw fields named in [`crate::COMMON_FIELDS`] in the message's order, each with its line
    /// end, no empty line behind. Empty if there are none or too many to keep: then the header
    /// itself has to be read.
    pub common_fields: Vec<u8>,
    /// Octets of the header with its empty line.
    pub header_len: u64,
    /// The `Date` field, if it can be read.
    pub sent_date: Option<MailDate>,
    /// What threading needs: the ids in `Message-ID`, `In-Reply-To` and `References`.
    pub thread: ThreadIds,
}

/// The message ids that tie messages to conversations (RFC 5322 §3.6.4), without brackets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ThreadIds {
    /// The message's own.
    pub message_id: Option<Vec<u8>>,
    /// Those of `References` and then of `In-Reply-To`, without repetition; at most the last 100.
    pub references: Vec<Vec<u8>>,
}

/// Walks a message once and renders all that clients ask for in lists. Takes any octets, in
/// linear time and with bounded results.
pub fn summarize(message: &[u8]) -> Summary {
    let structure = Structure::parse(message);
    let header_len = structure.part(0).map_or(0, |root| root.header.end);
    let header = message.get(..header_len).unwrap_or(message);
    let mut found = Envelope::default();
    let mut common = CommonFields::new(MAX_COMMON);
    let mut thread = Thread::default();
    let mut date = None;
    for field in HeaderFields::new(header) {
        found.add(field);
        common.add(&field);
        thread.add(&field);
        if date.is_none() && field.is("date") {
            date = Some(MailDate::parse(field.value()));
        }
    }
    let mut envelope = Vec::with_capacity(512);
    found.push_to(&mut envelope);
    Summary {
        envelope,
        body_structure: render(message, &structure, true),
        body: render(message, &structure, false),
        parts: PartIndex::from_structure(&structure).to_bytes(),
        common_fields: common.finish(),
        header_len: header_len as u64,
        sent_date: date.flatten(),
        thread: thread.finish(),
    }
}

fn render(message: &[u8], structure: &Structure<'_>, extended: bool) -> Vec<u8> {
    let renderer = Renderer {
        message,
        structure,
        extended,
        limit: MAX_STRUCTURE,
    };
    let mut out = Vec::with_capacity(256);
    if let Some(root) = structure.part(0) {
        renderer.push_part(&mut out, root);
    }
    out
}

/// Collects [`ThreadIds`] from the fields of a header.
#[derive(Default)]
struct Thread {
    ids: ThreadIds,
    replied: Vec<Vec<u8>>,
}

impl Thread {
    fn add(&mut self, field: &HeaderField<'_>) {
        if field.is("message-id") && self.ids.message_id.is_none() {
            self.ids.message_id = message_ids(field.value()).pop();
        } else if field.is("references") && self.ids.references.is_empty() {
            self.ids.references = message_ids(field.value());
        } else if field.is("in-reply-to") && self.replied.is_empty() {
            self.replied = message_ids(field.value());
        }
    }

    fn finish(self) -> ThreadIds {
        let mut ids = self.ids;
        for id in self.replied {
            if !ids.references.contains(&id) {
                ids.references.push(id);
            }
        }
        let surplus = ids.references.len().saturating_sub(MAX_REFERENCES);
        ids.references.drain(..surplus);
        ids
    }
}

/// What stands in brackets, the last [`MAX_REFERENCES`].
fn message_ids(value: &[u8]) -> Vec<Vec<u8>> {
    let mut ids: Vec<Vec<u8>> = value
        .rsplit(|byte| *byte == b'<')
        .filter_map(|piece| {
            let end = memchr::memchr(b'>', piece)?;
            let id = piece.get(..end)?.trim_ascii();
            (!id.is_empty() && id.len() <= 1000).then(|| id.to_vec())
        })
        .take(MAX_REFERENCES)
        .collect();
    ids.reverse();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PartIndex, Section};
    use proptest::prelude::*;

    /// Lines that mean something to a scanner, so that random sequences of them reach far.
    fn line() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("\r\n".to_owned()),
            Just("\n".to_owned()),
            Just("Content-Type: multipart/mixed; boundary=a\r\n".to_owned()),
            Just("Content-Type: multipart/digest; boundary=\"a b\"\r\n".to_owned()),
            Just("content-type: message/rfc822\n".to_owned()),
            Just("Content-Type: text/plain; charset=\"x\r\n".to_owned()),
            Just("--a\r\n".to_owned()),
            Just("--a b\n".to_owned()),
            Just("--a--".to_owned()),
            Just("--a b--\r\n".to_owned()),
            "[A-Za-z-]{1,12}: [ -~]{0,20}\r\n",
            "(From|To|Sender|Bcc): [<>@,:;()\"\\\\a. \\[\\]]{0,24}\r\n( [<>@,:;()\"a]{0,8}\r\n)?",
            "\\PC{0,10}\r?\n?",
        ]
    }

    fn check(message: &[u8]) {
        let summary = summarize(message);
        let index = PartIndex::parse(&summary.parts).unwrap();
        assert_eq!(index, PartIndex::of_message(message));
        for path in [&[][..], &[1], &[2], &[1, 1], &[1, 2], &[1, 1, 1]] {
            for section in [
                Section::Header,
                Section::Mime,
                Section::Text,
                Section::Whole,
            ] {
                if let Some(range) = index.locate(path, section) {
                    assert!(range.start <= range.end && range.end <= message.len() as u64);
                }
            }
        }
        for text in [&summary.envelope, &summary.body, &summary.body_structure] {
            assert_eq!(balance(text), 0, "{}", String::from_utf8_lossy(text));
        }
    }

    /// Open parentheses at the end; quoted strings and literals are stepped over.
    fn balance(text: &[u8]) -> i64 {
        let (mut depth, mut at) = (0, 0);
        while at < text.len() {
            match text[at] {
                b'(' => depth += 1,
                b')' => depth -= 1,
                b'"' => {
                    at += 1;
                    while text[at] != b'"' {
                        at += 1 + usize::from(text[at] == b'\\');
                    }
                }
                b'{' => {
                    let end = at + text[at..].iter().position(|b| *b == b'}').unwrap();
                    let len: usize = std::str::from_utf8(&text[at + 1..end])
                        .unwrap()
                        .parse()
                        .unwrap();
                    assert_eq!(&text[end + 1..end + 3], b"\r\n");
                    at = end + 2 + len;
                }
                _ => {}
            }
            assert!(depth >= 0);
            at += 1;
        }
        depth
    }

    proptest! {
        #[test]
        fn random_octets(message: Vec<u8>) {
            check(&message);
        }

        #[test]
        fn random_lines(lines in prop::collection::vec(line(), 0..40)) {
            check(lines.concat().as_bytes());
        }
    }

    /// Each of these grows a different way; a quadratic one would not end.
    #[test]
    fn large_hostile_messages() {
        let many = 1_000_000;
        for (start, piece) in [
            ("To: ", "a,"),
            ("To: ", "("),
            ("To: ", "g:"),
            ("To: <", "@a,"),
            ("References: ", "<a>"),
            ("Content-Type: text/plain", ";a*0=b"),
            ("Content-Language: ", "a,"),
            ("", "a:\r\n"),
            ("", "Content-Type: message/rfc822\r\n\r\n"),
            (
                "Content-Type: multipart/mixed; boundary=b\r\n\r\n",
                "--b\r\n",
            ),
            (
                "Content-Type: multipart/mixed; boundary=b\r\n\r\n",
                "--bb\r\n\r\n",
            ),
            (
                "",
                "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n",
            ),
        ] {
            let message = format!("{start}{}", piece.repeat(many));
            let summary = summarize(message.as_bytes());
            assert!(summary.body_structure.len() < 3_000_000, "{start}{piece}");
            assert!(summary.envelope.len() < 2_000_000, "{start}{piece}");
        }
    }

    #[test]
    fn threads() {
        let header =
            b"Message-ID: <c@x>\r\nReferences: <a@x>\r\n\t<b@x>\r\nIn-Reply-To: <b@x> <d@x>\r\n";
        let thread = summarize(header).thread;
        assert_eq!(thread.message_id.as_deref(), Some(&b"c@x"[..]));
        assert_eq!(thread.references, [&b"a@x"[..], b"b@x", b"d@x"]);
    }
}
