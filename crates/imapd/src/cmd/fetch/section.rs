//! Parts of messages: how a section is asked for, and how it is written (RFC 3501 §6.4.5).

use imap_proto::{BodySection, FetchItem, Section, SectionText};
use mail_rpc::pb::mailbox::v1 as pb;

/// An item that needs a message's octets.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// The item's name as the response repeats it.
    pub(super) name: Vec<u8>,
    section: Section,
    /// First octet, and how many.
    partial: Option<(u64, u64)>,
}

impl Wanted {
    /// The item as a wanted section, if it is one.
    pub(super) fn of(item: &FetchItem) -> Option<Self> {
        let plain = |name: &str, text: SectionText| Self {
            name: name.as_bytes().to_vec(),
            section: Section {
                path: Vec::new(),
                text,
            },
            partial: None,
        };
        Some(match item {
            FetchItem::BodySection(body) => Self::of_body(body),
            FetchItem::Rfc822 => plain("RFC822", SectionText::Whole),
            FetchItem::Rfc822Header => plain("RFC822.HEADER", SectionText::Header),
            FetchItem::Rfc822Text => plain("RFC822.TEXT", SectionText::Text),
            _ => return None,
        })
    }

    fn of_body(body: &BodySection) -> Self {
        let mut name = Vec::new();
        body.push_name(&mut name);
        let partial = body
            .partial
            .map(|(first, len)| (first.into(), len.get().into()));
        Self {
            name,
            section: body.section.clone(),
            partial,
        }
    }

    /// The contract's form.
    pub(super) fn piece(&self) -> pb::Piece {
        let section = match self.section.text {
            SectionText::Header | SectionText::HeaderFields { .. } => pb::piece::Section::Header,
            SectionText::Mime => pb::piece::Section::Mime,
            SectionText::Text => pb::piece::Section::Text,
            SectionText::Whole => pb::piece::Section::Whole,
        };
        let (names, not) = self.fields().unwrap_or_default();
        pb::Piece {
            kind: pb::piece::Kind::Section.into(),
            path: self.section.path.clone(),
            section: section.into(),
            fields: names.iter().map(|name| name.clone().into()).collect(),
            fields_not: not,
            range: self
                .partial
                .map(|(offset, length)| pb::ByteRange { offset, length }),
        }
    }

    /// The fields that are asked for, if it is such a section.
    pub(super) fn fields(&self) -> Option<(&[Vec<u8>], bool)> {
        match &self.section.text {
            SectionText::HeaderFields { not, names } => Some((names, *not)),
            _ => None,
        }
    }

    /// True if the fields that every summary has are enough.
    pub(super) fn is_common(&self) -> bool {
        self.section.path.is_empty()
            && self.fields().is_some_and(|(names, not)| {
                !not && mail_message::all_common(names.iter().map(Vec::as_slice))
            })
    }

    /// The part of a range that the client asked for.
    pub(super) fn cut(&self, (start, len): (u64, u64)) -> (u64, u64) {
        match self.partial {
            None => (start, len),
            Some((first, most)) => {
                let first = first.min(len);
                (start + first, (len - first).min(most))
            }
        }
    }
}
