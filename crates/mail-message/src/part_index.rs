use std::ops::Range;

use crate::structure::{PartKind, Structure};

/// Version of the stored form. Another one is not read; the message has to be walked again.
const VERSION: u8 = 1;

/// Which octets of a part are meant (RFC 3501 §6.4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// `HEADER`: of the message, or of the message that a `message/rfc822` part holds.
    Header,
    /// `MIME`: the part's own header.
    Mime,
    /// `TEXT`: the body of the message, or of the message that a `message/rfc822` part holds.
    Text,
    /// No name: the part's content, or the whole message.
    Whole,
}

/// Where the parts of one message lie, in a compact form that is stored beside the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartIndex {
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    kind: PartKind,
    header: Range<u64>,
    body_end: u64,
    children: Vec<usize>,
}

/// Stored bytes that are no part index of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a part index")]
pub struct PartIndexError;

impl PartIndex {
    /// Walks a message.
    pub fn of_message(message: &[u8]) -> Self {
        Self::from_structure(&Structure::parse(message))
    }

    pub(crate) fn from_structure(structure: &Structure<'_>) -> Self {
        let nodes = structure
            .parts
            .iter()
            .map(|part| Node {
                kind: part.kind,
                header: part.header.start as u64..part.header.end as u64,
                body_end: part.body.end as u64,
                children: part.children.clone(),
            })
            .collect();
        Self { nodes }
    }

    /// Reads the stored form.
    pub fn parse(stored: &[u8]) -> Result<Self, PartIndexError> {
        let mut reader = Reader { rest: stored };
        if reader.byte()? != VERSION {
            return Err(PartIndexError);
        }
        let mut nodes: Vec<Node> = Vec::new();
        // Parents that lack children, with how many.
        let mut open: Vec<(usize, u64)> = Vec::new();
        let mut header_start = 0_u64;
        loop {
            let kind = match reader.byte()? {
                0 => PartKind::Leaf,
                1 => PartKind::Message,
                2 => PartKind::Multipart,
                _ => return Err(PartIndexError),
            };
            header_start = add(header_start, reader.number()?)?;
            let header_end = add(header_start, reader.number()?)?;
            let body_end = add(header_end, reader.number()?)?;
            let at = nodes.len();
            if let Some((parent, missing)) = open.last_mut() {
                *missing -= 1;
                let parent = nodes.get_mut(*parent).ok_or(PartIndexError)?;
                parent.children.push(at);
            }
            let children = if kind == PartKind::Leaf {
                0
            } else {
                reader.number()?
            };
            nodes.push(Node {
                kind,
                header: header_start..header_end,
                body_end,
                children: Vec::new(),
            });
            open.push((at, children));
            while open.pop_if(|(_, missing)| *missing == 0).is_some() {}
            if open.is_empty() {
                break;
            }
        }
        if reader.rest.is_empty() {
            Ok(Self { nodes })
        } else {
            Err(PartIndexError)
        }
    }

    /// The stored form: a version, then for each part its kind and, as variable-length numbers,
    /// the distance to the header before, the lengths of header and body, and how many children.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 + 8 * self.nodes.len());
        out.push(VERSION);
        let mut before = 0;
        for node in &self.nodes {
            out.push(match node.kind {
                PartKind::Leaf => 0,
                PartKind::Message => 1,
                PartKind::Multipart => 2,
            });
            push_varint(&mut out, node.header.start - before);
            push_varint(&mut out, node.header.end - node.header.start);
            push_varint(&mut out, node.body_end - node.header.end);
            if node.kind != PartKind::Leaf {
                push_varint(&mut out, node.children.len() as u64);
            }
            before = node.header.start;
        }
        out
    }

    /// The octets of a section, counted from the message's first, or `None` if the message has no
    /// such part or the part no such section. An empty path is the message itself.
    pub fn locate(&self, part_path: &[u32], section: Section) -> Option<Range<u64>> {
        let root = self.nodes.first()?;
        let Some((last, outer)) = part_path.split_last() else {
            return match section {
                Section::Header => Some(root.header.clone()),
                Section::Mime => None,
                Section::Text => Some(body(root)),
                Section::Whole => Some(root.header.start..root.body_end),
            };
        };
        let mut container = root;
        for number in outer {
            let part = self.child(container, *number)?;
            container = match part.kind {
                PartKind::Leaf => return None,
                PartKind::Message => self.nodes.get(*part.children.first()?)?,
                PartKind::Multipart => part,
            };
        }
        let part = self.child(container, *last)?;
        let nested = || match part.kind {
            PartKind::Message => self.nodes.get(*part.children.first()?),
            PartKind::Leaf | PartKind::Multipart => None,
        };
        match section {
            Section::Header => nested().map(|message| message.header.clone()),
            Section::Mime => Some(part.header.clone()),
            Section::Text => nested().map(body),
            Section::Whole => Some(body(part)),
        }
    }

    /// Part `number` of a message or multipart. "Every message has at least one part number":
    /// the body of one that is no multipart is its part 1 (RFC 3501 §6.4.5).
    fn child<'a>(&'a self, container: &'a Node, number: u32) -> Option<&'a Node> {
        let place = usize::try_from(number).ok()?.checked_sub(1)?;
        match container.kind {
            PartKind::Multipart => self.nodes.get(*container.children.get(place)?),
            PartKind::Leaf | PartKind::Message => (place == 0).then_some(container),
        }
    }
}

fn body(node: &Node) -> Range<u64> {
    node.header.end..node.body_end
}

fn add(a: u64, b: u64) -> Result<u64, PartIndexError> {
    a.checked_add(b).ok_or(PartIndexError)
}

fn push_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7F) as u8 | 0x80);
        number >>= 7;
    }
    out.push((number & 0x7F) as u8);
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, PartIndexError> {
        let (first, rest) = self.rest.split_first().ok_or(PartIndexError)?;
        self.rest = rest;
        Ok(*first)
    }

    fn number(&mut self) -> Result<u64, PartIndexError> {
        let mut number = 0_u64;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(PartIndexError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NESTED: &str = "Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nA: 1\r\n\r\none\r\n\
        --o\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\nContent-Type: \
        multipart/mixed; boundary=i\r\n\r\n--i\r\n\r\nin1\r\n--i\r\n\r\nin2\r\n--i--\r\n--o\r\n\
        Content-Type: message/rfc822\r\n\r\nSubject: plain\r\n\r\ntext\r\n--o--\r\n";

    fn locate<'a>(message: &'a str, path: &[u32], section: Section) -> Option<&'a str> {
        let stored = PartIndex::of_message(message.as_bytes()).to_bytes();
        let range = PartIndex::parse(&stored).unwrap().locate(path, section)?;
        Some(&message[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()])
    }

    // The numbering of RFC 3501 §6.4.5.
    #[test]
    fn parts_of_parts() {
        use Section::{Header, Mime, Text, Whole};
        let inner = "Subject: plain\r\n\r\n";
        for (path, section, expected) in [
            (&[][..], Whole, Some(NESTED)),
            (&[1], Whole, Some("one")),
            (&[1], Mime, Some("A: 1\r\n\r\n")),
            (&[1], Header, None),
            (&[1, 1], Whole, None),
            (&[2, 2], Whole, Some("in2")),
            (&[2, 3], Whole, None),
            (&[3], Whole, Some("Subject: plain\r\n\r\ntext")),
            (&[3], Header, Some(inner)),
            (&[3], Text, Some("text")),
            (&[3, 1], Whole, Some("text")),
            (&[3, 1], Mime, Some(inner)),
            (&[3, 2], Whole, None),
            (&[4], Whole, None),
            (&[0], Whole, None),
            (&[], Mime, None),
        ] {
            assert_eq!(
                locate(NESTED, path, section),
                expected,
                "{path:?} {section:?}"
            );
        }
    }

    #[test]
    fn messages_of_one_part() {
        let message = "Subject: s\r\n\r\nbody";
        assert_eq!(locate(message, &[1], Section::Whole), Some("body"));
        assert_eq!(locate(message, &[], Section::Text), Some("body"));
        assert_eq!(
            locate(message, &[], Section::Header),
            Some("Subject: s\r\n\r\n")
        );
        assert_eq!(locate(message, &[1, 1], Section::Whole), None);
        assert_eq!(locate("", &[], Section::Whole), Some(""));
        let attached = "Content-Type: message/rfc822\r\n\r\nX: y\r\n\r\nbody";
        assert_eq!(
            locate(attached, &[1], Section::Header),
            Some("X: y\r\n\r\n")
        );
        assert_eq!(locate(attached, &[1, 1], Section::Whole), Some("body"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_index_or_none(bytes: Vec<u8>, path: Vec<u32>) {
            if let Ok(index) = PartIndex::parse(&bytes) {
                index.locate(&path, Section::Whole);
            }
        }

        #[test]
        fn a_damaged_index_does_no_harm(at: usize, byte: u8, path in prop::collection::vec(0_u32..4, 0..4)) {
            let mut stored = PartIndex::of_message(NESTED.as_bytes()).to_bytes();
            let at = at % stored.len();
            stored[at] = byte;
            if let Ok(index) = PartIndex::parse(&stored) {
                index.locate(&path, Section::Text);
            }
        }
    }
}
