//! Parts of messages: which octets a section is, and how it is written (RFC 3501 §6.4.5).

use imap_proto::{BodySection, FetchItem, Section, SectionText};
use mail_message::{PartIndex, Section as Place};

/// An item that needs a message's octets.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// The item's name as the response repeats it.
    pub(super) name: Vec<u8>,
    pub(super) section: Section,
    /// First octet, and how many.
    pub(super) partial: Option<(u64, u64)>,
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

    /// True for the message itself.
    pub(super) fn is_whole(&self) -> bool {
        self.section.path.is_empty() && self.section.text == SectionText::Whole
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

    /// First octet and length of what is to be read, `None` if there is no such part. For fields it
    /// is the header that they are in; `size` is the message's.
    pub(super) fn range(&self, parts: &PartIndex, size: u64) -> Option<(u64, u64)> {
        if self.is_whole() {
            return Some((0, size));
        }
        let place = match self.section.text {
            SectionText::Header | SectionText::HeaderFields { .. } => Place::Header,
            SectionText::Mime => Place::Mime,
            SectionText::Text => Place::Text,
            SectionText::Whole => Place::Whole,
        };
        let range = parts.locate(&self.section.path, place)?;
        Some((range.start, range.end.saturating_sub(range.start)))
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
