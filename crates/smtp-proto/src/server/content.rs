//! Content as it comes over the wire, turned into what it means: dots unstuffed, the end found,
//! every line end a CRLF.

use memchr::memchr2;

use super::BareNewlines;

/// The content of one message, piece by piece.
///
/// Only `<CRLF>.<CRLF>` ends DATA, and only a dot behind CRLF is unstuffed (RFC 5321 §4.5.2); what
/// comes out holds no CR or LF but in CRLF (except for BINARYMIME, which is raw by its nature),
/// so that no server that gets it from us can see an end or a command in it that we did not see.
#[derive(Debug)]
pub(super) struct Content {
    kind: Kind,
    at: At,
    bare: BareNewlines,
    bare_seen: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// DATA: dots are stuffed.
    Dotted,
    /// BDAT with lines.
    Lines,
    /// BDAT with BODY=BINARYMIME (RFC 3030 §3).
    Raw,
}

/// Where in a line we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Behind CRLF, or at the beginning.
    Start,
    /// Behind a dot at the beginning of a line, which is not passed on.
    Dot,
    /// Behind such a dot and a CR.
    DotCr,
    /// Elsewhere.
    Middle,
    /// Behind a CR.
    Cr,
}

/// How far [`Content::push`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// All was content.
    More,
    /// The end was found; this much of the input belongs to the content and its end.
    End(usize),
}

impl Content {
    /// Content that comes by DATA.
    pub(super) fn dotted(bare: BareNewlines) -> Self {
        Self::new(Kind::Dotted, bare)
    }

    /// Content that comes by BDAT.
    pub(super) fn chunked(bare: BareNewlines, binary: bool) -> Self {
        let kind = if binary { Kind::Raw } else { Kind::Lines };
        Self::new(kind, bare)
    }

    fn new(kind: Kind, bare: BareNewlines) -> Self {
        Self {
            kind,
            at: At::Start,
            bare,
            bare_seen: false,
        }
    }

    /// True if the content broke the rule on line ends and that is to be refused.
    pub(super) fn is_refused(&self) -> bool {
        self.bare_seen && self.bare == BareNewlines::Reject
    }

    /// Takes input and appends what it means.
    pub(super) fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Progress {
        if self.kind == Kind::Raw {
            out.extend_from_slice(input);
            return Progress::More;
        }
        let mut pos = 0;
        while let Some(&byte) = input.get(pos) {
            match (self.at, byte) {
                (At::Start, b'.') if self.kind == Kind::Dotted => {
                    self.at = At::Dot;
                    pos += 1;
                }
                (At::Dot, b'\r') => {
                    self.at = At::DotCr;
                    pos += 1;
                }
                (At::DotCr, b'\n') => return Progress::End(pos + 1),
                (At::Cr, b'\n') => {
                    out.extend_from_slice(b"\r\n");
                    self.at = At::Start;
                    pos += 1;
                }
                (At::Cr | At::DotCr, _) => {
                    self.bare_cr(out);
                    self.at = At::Middle;
                }
                (At::Start | At::Dot | At::Middle, _) => pos = self.run(input, pos, out),
            }
        }
        Progress::More
    }

    /// The last piece of BDAT was pushed.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        if self.at == At::Cr {
            self.bare_cr(out);
            self.at = At::Middle;
        }
    }

    /// Copies whole runs: lines that are in order go out in one piece, up to the next line that
    /// begins with a dot, the next line end that is none, or the end of input.
    fn run(&mut self, input: &[u8], from: usize, out: &mut Vec<u8>) -> usize {
        let mut pos = from;
        loop {
            let rest = input.get(pos..).unwrap_or_default();
            let Some(found) = memchr2(b'\r', b'\n', rest) else {
                out.extend_from_slice(input.get(from..).unwrap_or_default());
                self.at = At::Middle;
                return input.len();
            };
            let end = pos + found;
            match (input.get(end), input.get(end + 1), input.get(end + 2)) {
                (Some(b'\r'), Some(b'\n'), Some(next)) if !self.is_stuffed(*next) => pos = end + 2,
                (Some(b'\r'), Some(b'\n'), _) => {
                    out.extend_from_slice(input.get(from..end + 2).unwrap_or_default());
                    self.at = At::Start;
                    return end + 2;
                }
                (Some(b'\r'), ..) => {
                    out.extend_from_slice(input.get(from..end).unwrap_or_default());
                    self.at = At::Cr;
                    return end + 1;
                }
                _ => {
                    out.extend_from_slice(input.get(from..end).unwrap_or_default());
                    out.extend_from_slice(b"\r\n");
                    self.bare_seen = true;
                    self.at = At::Middle;
                    return end + 1;
                }
            }
        }
    }

    fn is_stuffed(&self, first: u8) -> bool {
        first == b'.' && self.kind == Kind::Dotted
    }

    fn bare_cr(&mut self, out: &mut Vec<u8>) {
        self.bare_seen = true;
        out.push(b' ');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Pushes in pieces; gives what came out and how much of the input was taken.
    fn push(content: &mut Content, input: &[u8], step: usize) -> (Vec<u8>, Option<usize>) {
        let mut out = Vec::new();
        for (index, piece) in input.chunks(step).enumerate() {
            if let Progress::End(taken) = content.push(piece, &mut out) {
                return (out, Some(index * step + taken));
            }
        }
        (out, None)
    }

    fn dotted(input: &[u8], step: usize) -> (Vec<u8>, Option<usize>) {
        push(&mut Content::dotted(BareNewlines::Normalise), input, step)
    }

    #[track_caller]
    fn check(input: &[u8], want: &[u8], end: bool) {
        for step in 1..=input.len() {
            let (out, taken) = dotted(input, step);
            assert_eq!(
                out.escape_ascii().to_string(),
                want.escape_ascii().to_string()
            );
            assert_eq!(taken.is_some(), end, "{}", input.escape_ascii());
        }
    }

    // Tests RFC 5321 §4.5.2
    #[test]
    fn dots_are_unstuffed() {
        check(b".\r\n", b"", true);
        check(b"a\r\n.\r\nQUIT", b"a\r\n", true);
        check(b"..\r\n.\r\n", b".\r\n", true);
        check(b"..a\r\n...\r\n.b\r\n.\r\n", b".a\r\n..\r\nb\r\n", true);
        check(b"a.\r\nb\r\n\r\n.\r\n", b"a.\r\nb\r\n\r\n", true);
    }

    // Tests RFC 5321 §2.3.8 and §4.1.1.4: nothing but CRLF.CRLF ends DATA
    #[test]
    fn no_other_sequence_ends() {
        check(b"a\n.\nb", b"a\r\n.\r\nb", false);
        check(b"a\n.\r\nb", b"a\r\n.\r\nb", false);
        check(b"a\r.\rb", b"a . b", false);
        check(b"a\r.\r\nb", b"a .\r\nb", false);
        check(b"a\r\n.\nb", b"a\r\n\r\nb", false);
        check(b"a\r\n.\rb", b"a\r\n b", false);
        check(b"a\r\n\0.\r\nb", b"a\r\n\0.\r\nb", false);
        check(b"a\r\r\n.\r\n", b"a \r\n", true);
        check(b"a\r\n.\r\r\n.\r\n", b"a\r\n \r\n", true);
    }

    #[test]
    fn bare_newlines_can_be_refused() {
        let mut content = Content::dotted(BareNewlines::Reject);
        push(&mut content, b"a\r\n.b\r\n", 3);
        assert!(!content.is_refused());
        push(&mut content, b"a\nb", 3);
        assert!(content.is_refused());
    }

    #[test]
    fn chunks_have_no_dots() {
        let mut content = Content::chunked(BareNewlines::Normalise, false);
        let (mut out, taken) = push(&mut content, b".\r\n..a\nb\r", 2);
        content.finish(&mut out);
        assert_eq!((&out[..], taken), (&b".\r\n..a\r\nb "[..], None));
        let mut content = Content::chunked(BareNewlines::Normalise, true);
        assert_eq!(push(&mut content, b"\n\r.\r\n", 2).0, b"\n\r.\r\n");
    }

    fn wild() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(proptest::sample::select(b"\r\n.a".to_vec()), 0..40)
    }

    proptest! {
        /// However it is cut, the same comes out.
        #[test]
        fn cuts_do_not_matter(input in wild(), step in 1usize..10) {
            prop_assert_eq!(dotted(&input, step), dotted(&input, 1000));
        }

        /// What comes out has no line end but CRLF.
        #[test]
        fn nothing_to_smuggle_with(input in wild()) {
            let (out, _) = dotted(&input, 1000);
            for (i, byte) in out.iter().enumerate() {
                if *byte == b'\n' {
                    prop_assert!(i > 0 && out[i - 1] == b'\r');
                }
                // A CR at the very end waits for what comes next and has not come out.
                if *byte == b'\r' {
                    prop_assert_eq!(out.get(i + 1), Some(&b'\n'));
                }
            }
        }

        /// What was stuffed comes back as it was.
        #[test]
        fn stuffing_is_undone(lines in proptest::collection::vec("[.a]{0,5}", 0..8)) {
            let mut plain = Vec::new();
            let mut wire = Vec::new();
            for line in &lines {
                plain.extend_from_slice(format!("{line}\r\n").as_bytes());
                let dot = if line.starts_with('.') { "." } else { "" };
                wire.extend_from_slice(format!("{dot}{line}\r\n").as_bytes());
            }
            wire.extend_from_slice(b".\r\n");
            prop_assert_eq!(dotted(&wire, 1000), (plain, Some(wire.len())));
        }
    }
}
