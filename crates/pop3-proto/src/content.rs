//! A message as a multi-line answer (RFC 1939 §3): dots at the beginning of lines are doubled.

use memchr::{memchr, memmem};

/// Writes one message's content, whatever pieces it comes in.
#[derive(Debug, Clone)]
pub struct ContentWriter {
    at_line_start: bool,
    last_two: [u8; 2],
    top: Option<Top>,
}

/// How far TOP is.
#[derive(Debug, Clone)]
struct Top {
    /// Lines of the body that it still wants.
    lines_left: u32,
    in_header: bool,
    /// The line so far is empty but for a CR.
    line_is_empty: bool,
    done: bool,
}

impl ContentWriter {
    /// For RETR, or for TOP with a number of lines of the body.
    pub(crate) fn new(top: Option<u32>) -> Self {
        Self {
            at_line_start: true,
            last_two: *b"\r\n",
            top: top.map(|lines_left| Top {
                lines_left,
                in_header: true,
                line_is_empty: true,
                done: false,
            }),
        }
    }

    /// True for TOP.
    pub(crate) fn is_top(&self) -> bool {
        self.top.is_some()
    }

    /// True if no more content is wanted.
    pub fn is_done(&self) -> bool {
        self.top.as_ref().is_some_and(|top| top.done)
    }

    pub(crate) fn write(&mut self, mut content: &[u8], out: &mut Vec<u8>) {
        // One in a hundred octets is more dots than mail has.
        out.reserve(content.len() + content.len() / 128 + 64);
        let Some(mut top) = self.top.take() else {
            return self.write_piece(content, out);
        };
        while !content.is_empty() && !top.done {
            let end = memchr(b'\n', content).map_or(content.len(), |at| at + 1);
            let (line, rest) = content.split_at(end);
            if top.wants(self.at_line_start) {
                self.write_piece(line, out);
                top.pass(line);
            }
            content = rest;
        }
        self.top = Some(top);
    }

    /// Any number of lines, the first and the last of which may be parts of one.
    fn write_piece(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let Some(last) = piece.last() else { return };
        if self.at_line_start && piece.first() == Some(&b'.') {
            out.push(b'.');
        }
        let mut written = 0;
        for end in memmem::find_iter(piece, b"\n.") {
            out.extend_from_slice(piece.get(written..=end).unwrap_or_default());
            out.push(b'.');
            written = end + 1;
        }
        out.extend_from_slice(piece.get(written..).unwrap_or_default());
        self.at_line_start = *last == b'\n';
        for byte in piece.iter().rev().take(2).rev() {
            self.last_two = [self.last_two[1], *byte];
        }
    }

    pub(crate) fn finish(&self, out: &mut Vec<u8>) {
        if self.last_two != *b"\r\n" {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
    }
}

impl Top {
    /// Whether the next piece of a line is wanted.
    fn wants(&mut self, at_line_start: bool) -> bool {
        self.done = at_line_start && !self.in_header && self.lines_left == 0;
        !self.done
    }

    /// Behind a line or a part of one.
    fn pass(&mut self, piece: &[u8]) {
        self.line_is_empty &= piece.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
        if piece.last() != Some(&b'\n') {
            return;
        }
        if self.in_header {
            self.in_header = !self.line_is_empty;
        } else {
            self.lines_left = self.lines_left.saturating_sub(1);
        }
        self.line_is_empty = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn write(top: Option<u32>, pieces: &[&[u8]]) -> String {
        let mut writer = ContentWriter::new(top);
        let mut out = Vec::new();
        for piece in pieces {
            writer.write(piece, &mut out);
        }
        writer.finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn dots_are_doubled() {
        assert_eq!(
            write(None, &[b"a: b\r\n\r\n.\r\n..x\r\ny."]),
            "a: b\r\n\r\n..\r\n...x\r\ny.\r\n.\r\n"
        );
        assert_eq!(write(None, &[b""]), ".\r\n");
        assert_eq!(
            write(None, &[b".\n.\n", b".", b".\n"]),
            "..\n..\n...\n\r\n.\r\n"
        );
    }

    #[test]
    fn top_counts_lines_of_the_body() {
        let mail: &[u8] = b"a: b\r\nc: d\r\n\r\n1\r\n2\r\n3\r\n";
        assert_eq!(write(Some(0), &[mail]), "a: b\r\nc: d\r\n\r\n.\r\n");
        assert_eq!(
            write(Some(2), &[mail]),
            "a: b\r\nc: d\r\n\r\n1\r\n2\r\n.\r\n"
        );
        assert_eq!(
            write(Some(9), &[mail]),
            "a: b\r\nc: d\r\n\r\n1\r\n2\r\n3\r\n.\r\n"
        );
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "[a.\r\n]{0,60}", cut in 0usize..60, top: Option<u8>) {
            let top = top.map(u32::from);
            let bytes = text.as_bytes();
            let cut = cut.min(bytes.len());
            let whole = write(top, &[bytes]);
            prop_assert_eq!(&write(top, &[&bytes[..cut], &bytes[cut..]]), &whole);
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(write(top, &single), whole);
        }
    }
}
