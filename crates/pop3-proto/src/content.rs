//! A message as a multi-line answer (RFC 1939 §3): dots at the beginning of lines are doubled.

use memchr::memchr;

/// Writes one message's content, whatever pieces it comes in.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own about where in the message the writer is"
)]
pub struct ContentWriter {
    /// Lines of the body that TOP still wants; `None` is all.
    lines_left: Option<u32>,
    in_header: bool,
    at_line_start: bool,
    /// The line so far is empty but for a CR.
    line_is_empty: bool,
    last_two: [u8; 2],
    done: bool,
}

impl ContentWriter {
    /// For RETR, or for TOP with a number of lines of the body.
    pub(crate) fn new(top: Option<u32>) -> Self {
        Self {
            lines_left: top,
            in_header: true,
            at_line_start: true,
            line_is_empty: true,
            last_two: *b"\r\n",
            done: false,
        }
    }

    /// True if no more content is wanted.
    pub fn is_done(&self) -> bool {
        self.done
    }

    pub(crate) fn write(&mut self, mut content: &[u8], out: &mut Vec<u8>) {
        out.reserve(content.len() + 64);
        while !content.is_empty() && !self.done {
            let end = memchr(b'\n', content).map_or(content.len(), |at| at + 1);
            let (line, rest) = content.split_at(end);
            self.write_piece(line, out);
            content = rest;
        }
    }

    /// A whole line or a piece of one.
    fn write_piece(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        if self.at_line_start && !self.in_header && self.lines_left == Some(0) {
            self.done = true;
            return;
        }
        if self.at_line_start && piece.first() == Some(&b'.') {
            out.push(b'.');
        }
        out.extend_from_slice(piece);
        for byte in piece.iter().rev().take(2).rev() {
            self.last_two = [self.last_two[1], *byte];
        }
        let ends = piece.last() == Some(&b'\n');
        self.line_is_empty &= piece.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
        self.at_line_start = ends;
        if ends {
            self.end_line();
        }
    }

    fn end_line(&mut self) {
        if self.in_header {
            self.in_header = !self.line_is_empty;
        } else if let Some(left) = &mut self.lines_left {
            *left = left.saturating_sub(1);
        }
        self.line_is_empty = true;
    }

    pub(crate) fn finish(&self, out: &mut Vec<u8>) {
        if self.last_two != *b"\r\n" {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
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
