use std::num::NonZeroU32;

use crate::encode::{push_astring, push_number};

/// What FETCH asks of a message (RFC 3501 §6.4.5). Macros are taken apart by the parser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchItem {
    /// `BODY`: the structure without extension data.
    Body,
    /// `BODY[…]`, `BODY.PEEK[…]`
    BodySection(BodySection),
    /// `BODYSTRUCTURE`
    BodyStructure,
    /// RFC 8474 §5.1
    EmailId,
    /// `ENVELOPE`
    Envelope,
    /// `FLAGS`
    Flags,
    /// `INTERNALDATE`
    InternalDate,
    /// RFC 7162 §3.1.5
    ModSeq,
    /// `RFC822`
    Rfc822,
    /// `RFC822.HEADER`
    Rfc822Header,
    /// `RFC822.SIZE`
    Rfc822Size,
    /// `RFC822.TEXT`
    Rfc822Text,
    /// RFC 8474 §5.2
    ThreadId,
    /// `UID`
    Uid,
}

/// A part of a message's octets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodySection {
    /// Reading it does not set `\Seen`.
    pub peek: bool,
    /// Which part.
    pub section: Section,
    /// First octet and how many: `<a.b>`.
    pub partial: Option<(u32, NonZeroU32)>,
}

/// RFC 3501 §9 `section-spec`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The part's number at each level; empty is the message itself.
    pub path: Vec<u32>,
    /// What of it.
    pub text: SectionText,
}

/// RFC 3501 §9 `section-text`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SectionText {
    /// `HEADER`
    Header,
    /// `HEADER.FIELDS` and `HEADER.FIELDS.NOT`
    HeaderFields {
        /// All fields but those.
        not: bool,
        /// The fields' names as the client spells them.
        names: Vec<Vec<u8>>,
    },
    /// `MIME`
    Mime,
    /// `TEXT`
    Text,
    /// Nothing: the whole part.
    Whole,
}

impl FetchItem {
    /// True if fetching it sets `\Seen`.
    pub fn sets_seen(&self) -> bool {
        match self {
            Self::BodySection(body) => !body.peek,
            Self::Rfc822 | Self::Rfc822Text => true,
            _ => false,
        }
    }
}

impl BodySection {
    /// Writes the item's name as the response repeats it: `BODY[1.HEADER.FIELDS (DATE)]<0>`.
    pub fn push_name(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"BODY[");
        self.section.push(out);
        out.push(b']');
        if let Some((first, _)) = self.partial {
            out.push(b'<');
            push_number(out, u64::from(first));
            out.push(b'>');
        }
    }
}

impl Section {
    fn push(&self, out: &mut Vec<u8>) {
        for (n, part) in self.path.iter().enumerate() {
            if n > 0 {
                out.push(b'.');
            }
            push_number(out, u64::from(*part));
        }
        if !self.path.is_empty() && self.text != SectionText::Whole {
            out.push(b'.');
        }
        match &self.text {
            SectionText::Header => out.extend_from_slice(b"HEADER"),
            SectionText::Mime => out.extend_from_slice(b"MIME"),
            SectionText::Text => out.extend_from_slice(b"TEXT"),
            SectionText::Whole => {}
            SectionText::HeaderFields { not, names } => {
                let word: &[u8] = if *not {
                    b"HEADER.FIELDS.NOT ("
                } else {
                    b"HEADER.FIELDS ("
                };
                out.extend_from_slice(word);
                for (n, name) in names.iter().enumerate() {
                    if n > 0 {
                        out.push(b' ');
                    }
                    push_astring(out, name);
                }
                out.push(b')');
            }
        }
    }
}
