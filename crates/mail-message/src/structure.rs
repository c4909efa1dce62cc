//! One linear pass over a message that finds its MIME parts (RFC 2046 §5.1).

use std::ops::Range;

use memchr::memmem::Finder;

use crate::header::{HeaderField, HeaderFields, line_len, starts_with_line_end, strip_line_end};
use crate::params::ParamValue;

/// Deeper parts are not looked into: what they hold is one part. Real mail nests up to about ten
/// levels; recursion over the tree and the search for delimiters cost by level.
pub(crate) const MAX_DEPTH: usize = 64;
/// Further parts are content of the last one. Keeps a summary of hostile input small.
pub(crate) const MAX_PARTS: usize = 10_000;
/// RFC 2046 §5.1.1 allows 70 octets.
const MAX_BOUNDARY: usize = 250;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PartKind {
    Leaf,
    /// `message/rfc822`: its one child is the message within.
    Message,
    Multipart,
}

/// One node: a message or a part of one. Ranges are octets of the whole message.
#[derive(Debug, Clone)]
pub(crate) struct Part<'a> {
    pub(crate) kind: PartKind,
    /// The empty line included.
    pub(crate) header: Range<usize>,
    pub(crate) body: Range<usize>,
    /// Line ends in the body.
    pub(crate) lines: usize,
    pub(crate) content_type: Option<ParamValue>,
    pub(crate) fields: Fields<'a>,
    pub(crate) children: Vec<usize>,
}

/// A part's own fields, the first one of each name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fields<'a> {
    content_type: Option<HeaderField<'a>>,
    pub(crate) description: Option<HeaderField<'a>>,
    pub(crate) disposition: Option<HeaderField<'a>>,
    pub(crate) encoding: Option<HeaderField<'a>>,
    pub(crate) id: Option<HeaderField<'a>>,
    pub(crate) language: Option<HeaderField<'a>>,
    pub(crate) location: Option<HeaderField<'a>>,
    pub(crate) md5: Option<HeaderField<'a>>,
}

impl<'a> Fields<'a> {
    fn of_header(header: &'a [u8]) -> Self {
        let mut found = Self::default();
        for field in HeaderFields::new(header) {
            let Some((start, rest)) = field.name().split_at_checked(8) else {
                continue;
            };
            if !start.eq_ignore_ascii_case(b"content-") {
                continue;
            }
            let slots = [
                ("type", &mut found.content_type),
                ("description", &mut found.description),
                ("disposition", &mut found.disposition),
                ("transfer-encoding", &mut found.encoding),
                ("id", &mut found.id),
                ("language", &mut found.language),
                ("location", &mut found.location),
                ("md5", &mut found.md5),
            ];
            for (name, slot) in slots {
                if rest.eq_ignore_ascii_case(name.as_bytes()) {
                    slot.get_or_insert(field);
                }
            }
        }
        found
    }
}

/// All parts in the order in which they stand in the message; the first one is the message.
#[derive(Debug)]
pub(crate) struct Structure<'a> {
    pub(crate) parts: Vec<Part<'a>>,
}

impl<'a> Structure<'a> {
    pub(crate) fn parse(message: &'a [u8]) -> Self {
        let mut scanner = Scanner {
            message,
            at: 0,
            lines: 0,
            open: Vec::new(),
            parts: Vec::new(),
            dashes: Finder::new(b"\n--"),
        };
        scanner.open_part(false);
        scanner.scan();
        Self {
            parts: scanner.parts,
        }
    }

    pub(crate) fn part(&self, at: usize) -> Option<&Part<'a>> {
        self.parts.get(at)
    }

    pub(crate) fn children<'s>(&'s self, part: &'s Part<'a>) -> impl Iterator<Item = &'s Part<'a>> {
        part.children.iter().filter_map(|at| self.part(*at))
    }
}

/// A part whose end is not found yet.
#[derive(Debug)]
struct OpenPart {
    part: usize,
    /// Line ends before its body.
    lines_before: usize,
    /// Of a multipart that is not closed yet.
    boundary: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Scanner<'a> {
    message: &'a [u8],
    at: usize,
    /// Line ends up to `at`.
    lines: usize,
    open: Vec<OpenPart>,
    parts: Vec<Part<'a>>,
    /// What a line end and a delimiter begin with.
    dashes: Finder<'static>,
}

/// A delimiter line: the open part it belongs to, and whether it is the closing one.
#[derive(Debug, Clone, Copy)]
struct Delimiter {
    level: usize,
    closing: bool,
}

impl<'a> Scanner<'a> {
    fn scan(&mut self) {
        loop {
            self.skip_text();
            let Some(line) = self.line() else {
                break;
            };
            let found = self.find_delimiter(line);
            if let Some(delimiter) = found {
                self.delimit(delimiter, line);
            } else {
                self.skip(line);
            }
        }
        self.close_down_to(0, self.message.len(), self.lines);
    }

    fn line(&self) -> Option<&'a [u8]> {
        let rest = self
            .message
            .get(self.at..)
            .filter(|rest| !rest.is_empty())?;
        rest.get(..line_len(rest))
    }

    /// Up to the next line that can be a delimiter.
    fn skip_text(&mut self) {
        let rest = self.message.get(self.at..).unwrap_or_default();
        let len = if self.open.iter().all(|open| open.boundary.is_none()) {
            rest.len()
        } else if rest.starts_with(b"--") {
            0
        } else {
            self.dashes.find(rest).map_or(rest.len(), |at| at + 1)
        };
        let text = rest.get(..len).unwrap_or_default();
        self.at += len;
        self.lines += memchr::memchr_iter(b'\n', text).count();
    }

    fn skip(&mut self, line: &[u8]) {
        self.at += line.len();
        self.lines += usize::from(line.ends_with(b"\n"));
    }

    /// Reads a part's header at the current place, and if it is a message within a part, that
    /// one's header too. In a digest the default is `message/rfc822` (RFC 2046 §5.1.5).
    fn open_part(&mut self, in_digest: bool) {
        let mut in_digest = in_digest;
        loop {
            let start = self.at;
            self.skip_header();
            let header = start..self.at;
            let fields = self.message.get(header.clone()).unwrap_or_default();
            let fields = Fields::of_header(fields);
            let content_type = fields
                .content_type
                .map(|field| ParamValue::parse_content_type(field.value()));
            let room = self.open.len() + 1 < MAX_DEPTH && self.parts.len() + 1 < MAX_PARTS;
            let is_message = match &content_type {
                Some(Some(parsed)) => parsed.is("message", "rfc822"),
                Some(None) => false,
                None => in_digest,
            };
            let content_type = content_type.flatten();
            let boundary = content_type.as_ref().and_then(boundary_of);
            let kind = match boundary {
                Some(_) if room => PartKind::Multipart,
                _ if is_message && room => PartKind::Message,
                _ => PartKind::Leaf,
            };
            let at = self.parts.len();
            let parent = self.open.last().map(|open| open.part);
            if let Some(parent) = parent.and_then(|parent| self.parts.get_mut(parent)) {
                parent.children.push(at);
            }
            self.parts.push(Part {
                kind,
                header,
                body: self.at..self.at,
                lines: 0,
                content_type,
                fields,
                children: Vec::new(),
            });
            self.open.push(OpenPart {
                part: at,
                lines_before: self.lines,
                boundary: boundary.filter(|_| kind == PartKind::Multipart),
            });
            if kind != PartKind::Message {
                return;
            }
            in_digest = false;
        }
    }

    /// Up to behind the empty line, or to a delimiter of an outer multipart, or to the end.
    fn skip_header(&mut self) {
        while let Some(line) = self.line() {
            if self.find_delimiter(line).is_some() {
                return;
            }
            self.skip(line);
            if starts_with_line_end(line) {
                return;
            }
        }
    }

    /// The delimiter that the line is, if any: the innermost that is matched exactly, or else the
    /// longest boundary the line begins with (RFC 2046 §5.1.1: "it is sufficient that the
    /// boundary appear in its entirety following the CRLF").
    fn find_delimiter(&self, line: &[u8]) -> Option<Delimiter> {
        let text = line.strip_prefix(b"--")?;
        let text = text.trim_ascii_end();
        let mut best: Option<(usize, Delimiter)> = None;
        for (level, open) in self.open.iter().enumerate().rev() {
            let Some(boundary) = &open.boundary else {
                continue;
            };
            let Some(tail) = text.strip_prefix(boundary.as_slice()) else {
                continue;
            };
            let closing = tail.starts_with(b"--");
            let delimiter = Delimiter { level, closing };
            if tail.is_empty() || tail == b"--" {
                return Some(delimiter);
            }
            if best.is_none_or(|(len, _)| len < boundary.len()) {
                best = Some((boundary.len(), delimiter));
            }
        }
        best.map(|(_, delimiter)| delimiter)
    }

    fn delimit(&mut self, delimiter: Delimiter, line: &[u8]) {
        // The line end before a delimiter belongs to it (RFC 2046 §5.1.1).
        let before = self.message.get(..self.at).unwrap_or_default();
        let end = strip_line_end(before).len();
        let lines = self.lines - usize::from(end < self.at);
        self.close_down_to(delimiter.level + 1, end, lines);
        self.skip(line);
        if delimiter.closing {
            if let Some(open) = self.open.get_mut(delimiter.level) {
                // What follows is epilogue, up to an outer delimiter.
                open.boundary = None;
            }
            return;
        }
        let in_digest = self
            .open
            .get(delimiter.level)
            .and_then(|open| self.parts.get(open.part))
            .and_then(|part| part.content_type.as_ref())
            .is_some_and(|content_type| content_type.is("multipart", "digest"));
        if self.parts.len() < MAX_PARTS {
            self.open_part(in_digest);
        }
    }

    /// Ends the open parts above a level.
    fn close_down_to(&mut self, level: usize, end: usize, lines: usize) {
        for open in self.open.drain(level.min(self.open.len())..) {
            if let Some(part) = self.parts.get_mut(open.part) {
                // A part that is cut short before its body has an empty one, and its header ends
                // where the delimiter's line end begins.
                part.header.end = part.header.end.min(end).max(part.header.start);
                part.body.start = part.header.end;
                part.body.end = end.max(part.body.start);
                part.lines = lines.saturating_sub(open.lines_before);
            }
        }
    }
}

fn boundary_of(content_type: &ParamValue) -> Option<Vec<u8>> {
    let boundary = content_type
        .is_type("multipart")
        .then(|| content_type.param("boundary"))??
        .trim_ascii_end();
    (1..=MAX_BOUNDARY)
        .contains(&boundary.len())
        .then(|| boundary.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(message: &str) -> Vec<&str> {
        let structure = Structure::parse(message.as_bytes());
        structure
            .parts
            .iter()
            .map(|part| &message[part.body.clone()])
            .collect()
    }

    #[test]
    fn parts_end_before_the_delimiters_line_end() {
        let message = "Content-Type: multipart/mixed; boundary=b\r\n\r\npreamble\r\n--b\r\n\r\none\
                       \r\n--b  \r\nX: y\r\n\r\n\r\n--b--\r\nepilogue\r\n--b\r\n";
        assert_eq!(bodies(message)[1..], ["one", ""]);
    }

    #[test]
    fn a_longer_boundary_is_not_the_shorter_one() {
        let message = "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: \
                       multipart/alternative; boundary=b-2\n\n--b-2\n\none\n--b-2--\n--b\n\ntwo\n--b--\n";
        assert_eq!(
            bodies(message)[1..],
            ["--b-2\n\none\n--b-2--", "one", "two"]
        );
    }

    #[test]
    fn messages_within_and_unclosed_parts() {
        let message = "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: \
                       s\r\n\r\ninner\r\n--b\r\nSubject: cut";
        let structure = Structure::parse(message.as_bytes());
        let kinds: Vec<_> = structure.parts.iter().map(|p| p.kind).collect();
        let message_kind = PartKind::Message;
        assert_eq!(
            kinds,
            [
                PartKind::Multipart,
                message_kind,
                PartKind::Leaf,
                message_kind,
                PartKind::Leaf
            ]
        );
        assert_eq!(bodies(message)[1..3], ["Subject: s\r\n\r\ninner", "inner"]);
    }

    #[test]
    fn depth_and_number_are_bounded() {
        let deep = "Content-Type: message/rfc822\n\n".repeat(10_000);
        assert!(Structure::parse(deep.as_bytes()).parts.len() <= MAX_DEPTH);
        let wide = format!(
            "Content-Type: multipart/mixed; boundary=b\n\n{}",
            "--b\n\nx\n".repeat(2 * MAX_PARTS)
        );
        assert!(Structure::parse(wide.as_bytes()).parts.len() <= MAX_PARTS);
    }
}
