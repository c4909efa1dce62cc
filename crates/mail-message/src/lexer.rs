//! Tokens of structured header fields (RFC 5322 §3.2, RFC 2045 §5.1), lenient and in linear time.

/// A place in a structured field's value. Folds need not be taken out: line ends are white space.
#[derive(Debug, Clone)]
pub(crate) struct Lexer<'a> {
    rest: &'a [u8],
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(value: &'a [u8]) -> Self {
        Self { rest: value }
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    pub(crate) fn bump(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// Takes the octet if it is the next one.
    pub(crate) fn eat(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.bump();
        }
        found
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Skips white space and comments; gives the text of the last comment.
    pub(crate) fn skip_cfws(&mut self) -> Option<Vec<u8>> {
        let mut last = None;
        loop {
            self.take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0));
            if !self.eat(b'(') {
                return last;
            }
            last = Some(self.comment());
        }
    }

    pub(crate) fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let len = self.rest.iter().position(|byte| !wanted(*byte));
        let (taken, rest) = self.rest.split_at(len.unwrap_or(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// The inside of a comment whose `(` is taken: decoded, inner comments with their brackets.
    fn comment(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        let mut depth = 1_usize;
        while let Some(byte) = self.bump() {
            match byte {
                b'\\' => text.extend(self.bump()),
                b'(' => depth += 1,
                b')' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
            if !matches!(byte, b'\\' | b'\r' | b'\n') {
                text.push(byte);
            }
        }
        text
    }

    /// The inside of a quoted string whose `"` is taken: decoded, folds taken out. One that is
    /// not closed goes to the end.
    pub(crate) fn quoted(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        while let Some(byte) = self.bump() {
            match byte {
                b'"' => break,
                b'\\' => text.extend(self.bump()),
                b'\r' | b'\n' => {}
                _ => text.push(byte),
            }
        }
        text
    }
}

/// `token` of RFC 2045 §5.1, and what is sent unquoted in its place: all but white space,
/// controls and the separators that matter.
pub(crate) fn is_token(byte: u8) -> bool {
    byte > b' ' && byte != 0x7F && !b"()<>@,;:\\\"/[]?=".contains(&byte)
}
