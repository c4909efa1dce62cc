use std::borrow::Cow;

use memchr::memchr;

/// Octets of one over-long line that are skipped before the session is given up.
const MAX_SKIPPED: usize = 1024 * 1024;

/// Cuts input into lines, and keeps half a line until the rest comes.
#[derive(Debug, Default)]
pub(super) struct LineReader {
    partial: Vec<u8>,
    /// Octets of an over-long line that were thrown away; 0 outside of one.
    skipped: usize,
}

/// What [`LineReader::next`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// A whole line without its line end.
    Whole(Cow<'a, [u8]>),
    /// All was taken, and the line's end is still to come.
    Partial,
    /// A line that was longer than allowed came to its end.
    TooLong,
    /// A line goes on for ever.
    Endless,
}

impl LineReader {
    /// Looks for the next line; says how much of the input it took. `limit` gives the longest line
    /// in octets, line end included, by how the line begins.
    pub(super) fn next<'a>(
        &mut self,
        input: &'a [u8],
        limit: impl Fn(&[u8]) -> usize,
    ) -> (usize, Line<'a>) {
        let Some(end) = memchr(b'\n', input) else {
            return (input.len(), self.keep(input, limit));
        };
        let taken = end + 1;
        let head = input.get(..taken).unwrap_or(input);
        if self.skipped > 0 {
            self.skipped = 0;
            return (taken, Line::TooLong);
        }
        let line = if self.partial.is_empty() {
            Cow::Borrowed(head)
        } else {
            self.partial.extend_from_slice(head);
            Cow::Owned(std::mem::take(&mut self.partial))
        };
        if line.len() > limit(&line) {
            return (taken, Line::TooLong);
        }
        (taken, Line::Whole(without_line_end(line)))
    }

    fn keep(&mut self, input: &[u8], limit: impl Fn(&[u8]) -> usize) -> Line<'static> {
        if self.skipped > 0 {
            self.skipped = self.skipped.saturating_add(input.len());
        } else if self.partial.len() + input.len() <= self.longest(input, limit) {
            self.partial.extend_from_slice(input);
        } else {
            self.skipped = self.partial.len() + input.len();
            self.partial = Vec::new();
        }
        if self.skipped > MAX_SKIPPED {
            return Line::Endless;
        }
        Line::Partial
    }

    fn longest(&self, input: &[u8], limit: impl Fn(&[u8]) -> usize) -> usize {
        // The verb may have come in pieces; it has at most 8 octets.
        let mut verb = [0; 8];
        let bytes = self.partial.iter().chain(input);
        verb.iter_mut()
            .zip(bytes)
            .for_each(|(to, from)| *to = *from);
        limit(&verb)
    }

    /// Forgets half a line.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// A command line ends with LF, with or without the CR: people type at it. Content is not as
/// lenient.
fn without_line_end(line: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    match line {
        Cow::Borrowed(line) => {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            Cow::Borrowed(line.strip_suffix(b"\r").unwrap_or(line))
        }
        Cow::Owned(mut line) => {
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            Cow::Owned(line)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_in_pieces() {
        let mut reader = LineReader::default();
        assert_eq!(reader.next(b"NO", |_| 10), (2, Line::Partial));
        let (taken, line) = reader.next(b"OP\r\nrest", |_| 10);
        assert_eq!((taken, line), (4, Line::Whole(b"NOOP".into())));
        assert_eq!(reader.next(b"x\n", |_| 10), (2, Line::Whole(b"x".into())));
    }

    #[test]
    fn long_lines_are_skipped_whole() {
        for step in [1, 3, 100] {
            let mut reader = LineReader::default();
            let input = b"0123456789\r\n";
            let mut lines = Vec::new();
            for piece in input.chunks(step) {
                lines.push(reader.next(piece, |_| 8).1);
            }
            assert_eq!(lines.pop(), Some(Line::TooLong), "{step}");
            assert!(lines.iter().all(|l| *l == Line::Partial));
            assert_eq!(
                reader.next(b"QUIT\r\n", |_| 8).1,
                Line::Whole(b"QUIT".into())
            );
        }
    }

    #[test]
    fn the_limit_goes_by_the_verb() {
        let limit = |line: &[u8]| if line.starts_with(b"AUTH") { 20 } else { 8 };
        let mut reader = LineReader::default();
        for piece in [&b"AU"[..], b"TH PLAIN", b" abc"] {
            assert_eq!(reader.next(piece, limit).1, Line::Partial);
        }
        assert!(matches!(reader.next(b"\r\n", limit).1, Line::Whole(_)));
    }

    #[test]
    fn endless_lines_end() {
        let mut reader = LineReader::default();
        let piece = [b'x'; 4096];
        let endless = (0..1000).any(|_| reader.next(&piece, |_| 100).1 == Line::Endless);
        assert!(endless);
        assert!(reader.partial.capacity() < 8192);
    }
}
