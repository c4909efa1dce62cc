use super::{Cursor, ParseError};
use crate::command::Command;
use crate::{BodySection, FetchItem, Section, SectionText};
use std::num::NonZeroU32;

type Result<T> = std::result::Result<T, ParseError>;

/// Parts in a part: deeper numbers than any message that we walk has.
const MAX_PATH: usize = 64;

/// ```abnf
/// fetch = "FETCH" SP sequence-set SP ("ALL" / "FULL" / "FAST" / fetch-att /
///         "(" fetch-att *(SP fetch-att) ")") [SP "(" "CHANGEDSINCE" SP mod-sequence-value ")"]
/// ```
pub(super) fn fetch(at: &mut Cursor<'_>, uid: bool) -> Result<Command> {
    at.space()?;
    let set = at.sequence_set()?;
    at.space()?;
    let mut items = Vec::new();
    if at.eat(b'(') {
        loop {
            item(at, &mut items)?;
            if at.eat(b')') {
                break;
            }
            at.space()?;
        }
    } else if !macros(at, &mut items) {
        item(at, &mut items)?;
    }
    let changed_since = modifier(at)?;
    Ok(Command::Fetch {
        uid,
        set,
        items,
        changed_since,
    })
}

/// ```abnf
/// fetch-modifier = "CHANGEDSINCE" SP mod-sequence-value
/// ```
fn modifier(at: &mut Cursor<'_>) -> Result<Option<u64>> {
    if !at.eat(b' ') {
        return Ok(None);
    }
    at.open()?;
    if !at.eat_word("CHANGEDSINCE ") {
        return Err(ParseError::Unknown("FETCH modifier"));
    }
    let value = at.number()?;
    at.close()?;
    Ok(Some(value))
}

/// The macros of RFC 3501 §6.4.5; they stand alone.
fn macros(at: &mut Cursor<'_>, items: &mut Vec<FetchItem>) -> bool {
    let all = at.eat_word("ALL");
    let full = !all && at.eat_word("FULL");
    if !all && !full && !at.eat_word("FAST") {
        return false;
    }
    items.extend([
        FetchItem::Flags,
        FetchItem::InternalDate,
        FetchItem::Rfc822Size,
    ]);
    if all || full {
        items.push(FetchItem::Envelope);
    }
    if full {
        items.push(FetchItem::Body);
    }
    true
}

fn item(at: &mut Cursor<'_>, items: &mut Vec<FetchItem>) -> Result<()> {
    let name = at.take_while(|b| b.is_ascii_alphanumeric() || b == b'.');
    let item = match name.to_ascii_uppercase().as_slice() {
        b"BODY" if at.peek() == Some(b'[') => FetchItem::BodySection(body(at, false)?),
        b"BODY.PEEK" => FetchItem::BodySection(body(at, true)?),
        b"BODY" => FetchItem::Body,
        b"BODYSTRUCTURE" => FetchItem::BodyStructure,
        b"EMAILID" => FetchItem::EmailId,
        b"ENVELOPE" => FetchItem::Envelope,
        b"FLAGS" => FetchItem::Flags,
        b"INTERNALDATE" => FetchItem::InternalDate,
        b"MODSEQ" => FetchItem::ModSeq,
        b"RFC822" => FetchItem::Rfc822,
        b"RFC822.HEADER" => FetchItem::Rfc822Header,
        b"RFC822.SIZE" => FetchItem::Rfc822Size,
        b"RFC822.TEXT" => FetchItem::Rfc822Text,
        b"THREADID" => FetchItem::ThreadId,
        b"UID" => FetchItem::Uid,
        _ => return Err(ParseError::Unknown("FETCH item")),
    };
    if !items.contains(&item) {
        items.push(item);
    }
    Ok(())
}

/// ```abnf
/// section      = "[" [section-spec] "]"
/// section-spec = section-msgtext / (section-part ["." section-text])
/// partial      = "<" number "." nz-number ">"
/// ```
fn body(at: &mut Cursor<'_>, peek: bool) -> Result<BodySection> {
    at.expect(b'[', "\"[\"")?;
    let section = section(at)?;
    at.expect(b']', "\"]\"")?;
    let mut partial = None;
    if at.eat(b'<') {
        let first = at.number32()?;
        at.expect(b'.', "\".\"")?;
        let count = NonZeroU32::new(at.number32()?).ok_or(ParseError::BadNumber)?;
        at.expect(b'>', "\">\"")?;
        partial = Some((first, count));
    }
    Ok(BodySection {
        peek,
        section,
        partial,
    })
}

fn section(at: &mut Cursor<'_>) -> Result<Section> {
    let mut path = Vec::new();
    while at.peek().is_some_and(|b| b.is_ascii_digit()) {
        let part = at.number32()?;
        if part == 0 || path.len() == MAX_PATH {
            return Err(ParseError::BadNumber);
        }
        path.push(part);
        if !at.eat(b'.') {
            let text = SectionText::Whole;
            return Ok(Section { path, text });
        }
    }
    if path.is_empty() && at.peek() == Some(b']') {
        let text = SectionText::Whole;
        return Ok(Section { path, text });
    }
    let name = at.take_while(|b| b.is_ascii_alphabetic() || b == b'.');
    let text = match name.to_ascii_uppercase().as_slice() {
        b"HEADER" => SectionText::Header,
        b"HEADER.FIELDS" => header_fields(at, false)?,
        b"HEADER.FIELDS.NOT" => header_fields(at, true)?,
        b"MIME" if !path.is_empty() => SectionText::Mime,
        b"TEXT" => SectionText::Text,
        _ => return Err(ParseError::Unknown("section")),
    };
    Ok(Section { path, text })
}

/// `header-list = "(" header-fld-name *(SP header-fld-name) ")"`
fn header_fields(at: &mut Cursor<'_>, not: bool) -> Result<SectionText> {
    at.space()?;
    at.open()?;
    let mut names = Vec::new();
    loop {
        let name = at.astring()?;
        if name.is_empty() || !name.iter().all(|b| b.is_ascii_graphic() && *b != b':') {
            return Err(ParseError::Expected("a header field's name"));
        }
        names.push(name);
        if at.eat(b')') {
            return Ok(SectionText::HeaderFields { not, names });
        }
        at.space()?;
    }
}
