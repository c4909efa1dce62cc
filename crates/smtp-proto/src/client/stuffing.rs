use memchr::memchr2;

/// Makes content ready for DATA, piece by piece (RFC 5321 §4.5.2): a dot that begins a line is
/// doubled, and the end is marked.
///
/// A CR or LF that stands alone must not be sent (RFC 5321 §2.3.8), and another server could take
/// it for a line end and find commands in the content, so LF becomes CRLF and CR a space.
#[derive(Debug)]
pub struct DotStuffer {
    line_start: bool,
    /// A CR came, and what follows it not yet.
    pending_cr: bool,
}

impl Default for DotStuffer {
    fn default() -> Self {
        Self {
            line_start: true,
            pending_cr: false,
        }
    }
}

impl DotStuffer {
    /// Appends a piece of content to `out`.
    pub fn push(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        out.reserve(input.len() + input.len() / 32);
        while let Some(first) = input.first() {
            if self.pending_cr {
                self.pending_cr = false;
                if *first != b'\n' {
                    out.push(b' ');
                    self.line_start = false;
                }
            }
            if self.line_start && *first == b'.' {
                out.push(b'.');
            }
            let end = memchr2(b'\r', b'\n', input).unwrap_or(input.len());
            let (text, rest) = input.split_at_checked(end).unwrap_or((input, b""));
            out.extend_from_slice(text);
            self.line_start &= text.is_empty();
            input = match rest {
                [b'\n', rest @ ..] | [b'\r', b'\n', rest @ ..] => {
                    out.extend_from_slice(b"\r\n");
                    self.line_start = true;
                    rest
                }
                [b'\r', rest @ ..] => {
                    self.pending_cr = true;
                    rest
                }
                rest => rest,
            };
        }
    }

    /// Appends the end of the content to `out`, with a line end for a last line that has none.
    pub fn finish(self, out: &mut Vec<u8>) {
        if self.pending_cr || !self.line_start {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stuff(pieces: &[&[u8]]) -> Vec<u8> {
        let mut stuffer = DotStuffer::default();
        let mut out = Vec::new();
        for piece in pieces {
            stuffer.push(piece, &mut out);
        }
        stuffer.finish(&mut out);
        out
    }

    // Tests RFC 5321 §4.5.2
    #[test]
    fn known_answers() {
        for (input, output) in [
            ("", ".\r\n"),
            ("a", "a\r\n.\r\n"),
            ("a\r\n", "a\r\n.\r\n"),
            (".", "..\r\n.\r\n"),
            (".\r\n..a\r\nb.c\r\n", "..\r\n...a\r\nb.c\r\n.\r\n"),
            ("a\n.\nb", "a\r\n..\r\nb\r\n.\r\n"),
            ("a\r.\rb\r", "a . b\r\n.\r\n"),
            ("\r\r\n.", " \r\n..\r\n.\r\n"),
            ("\n\r.\r\n", "\r\n .\r\n.\r\n"),
        ] {
            let out = String::from_utf8(stuff(&[input.as_bytes()])).unwrap();
            assert_eq!(out, output, "{input:?}");
            let bytes: Vec<&[u8]> = input.as_bytes().chunks(1).collect();
            assert_eq!(stuff(&bytes), output.as_bytes(), "{input:?} byte by byte");
        }
    }

    proptest! {
        #[test]
        fn the_end_comes_once(input in "[\r\n.a]{0,40}", cut in 0usize..40) {
            let (head, tail) = input.as_bytes().split_at(cut.min(input.len()));
            let out = stuff(&[head, tail]);
            prop_assert_eq!(&out, &stuff(&[input.as_bytes()]));
            let framed = [b"\r\n".to_vec(), out.clone()].concat();
            let ends = framed.windows(5).filter(|w| w == b"\r\n.\r\n").count();
            prop_assert_eq!(ends, 1);
            prop_assert!(framed.ends_with(b"\r\n.\r\n"));
            let bare = out.iter().enumerate().any(|(i, b)| match b {
                b'\n' => i == 0 || out[i - 1] != b'\r',
                b'\r' => out.get(i + 1) != Some(&b'\n'),
                _ => false,
            });
            prop_assert!(!bare);
        }
    }
}
