use crate::command::FlagList;
use crate::tag::{is_astring_char, is_atom_char};
use crate::{Date, MailboxName, ParseError, SequenceSet};
use mail_types::SystemFlag;

type Result<T> = std::result::Result<T, ParseError>;

/// A place in a command. Literals lie in it as they came: `{n}`, CRLF, octets.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn end(&self) -> Result<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(ParseError::Expected("the end of the command"))
        }
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Takes the octet if it is the next one.
    pub(crate) fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.rest = self.rest.get(1..).unwrap_or_default();
        }
        found
    }

    /// Takes the word if it comes next, in any case.
    pub(crate) fn eat_word(&mut self, word: &str) -> bool {
        match self.rest.split_at_checked(word.len()) {
            Some((head, rest)) if head.eq_ignore_ascii_case(word.as_bytes()) => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    pub(crate) fn expect(&mut self, byte: u8, what: &'static str) -> Result<()> {
        if self.eat(byte) {
            Ok(())
        } else {
            Err(ParseError::Expected(what))
        }
    }

    pub(crate) fn space(&mut self) -> Result<()> {
        self.expect(b' ', "a space")
    }

    pub(crate) fn open(&mut self) -> Result<()> {
        self.expect(b'(', "\"(\"")
    }

    pub(crate) fn close(&mut self) -> Result<()> {
        self.expect(b')', "\")\"")
    }

    pub(crate) fn take_while(&mut self, test: impl Fn(u8) -> bool) -> &'a [u8] {
        let len = self
            .rest
            .iter()
            .position(|b| !test(*b))
            .unwrap_or(self.rest.len());
        let (head, rest) = self.rest.split_at_checked(len).unwrap_or((self.rest, &[]));
        self.rest = rest;
        head
    }

    fn some_while(&mut self, what: &'static str, test: impl Fn(u8) -> bool) -> Result<&'a [u8]> {
        let taken = self.take_while(test);
        if taken.is_empty() {
            Err(ParseError::Expected(what))
        } else {
            Ok(taken)
        }
    }

    /// `atom`, in upper case: keywords of the protocol come in any case.
    pub(crate) fn keyword(&mut self) -> Result<String> {
        self.atom().map(str::to_ascii_uppercase)
    }

    /// `atom = 1*ATOM-CHAR`
    pub(crate) fn atom(&mut self) -> Result<&'a str> {
        let atom = self.some_while("an atom", is_atom_char)?;
        std::str::from_utf8(atom).map_err(|_| ParseError::Expected("an atom"))
    }

    pub(crate) fn number32(&mut self) -> Result<u32> {
        self.number()?.try_into().map_err(|_| ParseError::BadNumber)
    }

    pub(crate) fn number(&mut self) -> Result<u64> {
        let digits = self.take_while(|b| b.is_ascii_digit());
        let text = std::str::from_utf8(digits).map_err(|_| ParseError::BadNumber)?;
        text.parse().map_err(|_| ParseError::BadNumber)
    }

    /// ```abnf
    /// sequence-set = (seq-number / seq-range) *("," sequence-set)
    /// ```
    pub(crate) fn sequence_set(&mut self) -> Result<SequenceSet> {
        let text = self.take_while(|b| b.is_ascii_digit() || matches!(b, b':' | b',' | b'*'));
        SequenceSet::parse(text).ok_or(ParseError::BadSequenceSet)
    }

    /// `astring = 1*ASTRING-CHAR / string`
    pub(crate) fn astring(&mut self) -> Result<Vec<u8>> {
        match self.peek() {
            Some(b'"' | b'{') => self.string(),
            _ => self
                .some_while("a string", is_astring_char)
                .map(<[u8]>::to_vec),
        }
    }

    /// `string = quoted / literal`
    pub(crate) fn string(&mut self) -> Result<Vec<u8>> {
        match self.peek() {
            Some(b'"') => self.quoted(),
            Some(b'{') => self.literal().map(<[u8]>::to_vec),
            _ => Err(ParseError::Expected("a string")),
        }
    }

    /// `nstring = string / nil`
    pub(crate) fn nstring(&mut self) -> Result<Option<Vec<u8>>> {
        if self.eat_word("NIL") {
            return Ok(None);
        }
        self.string().map(Some)
    }

    /// `quoted = DQUOTE *QUOTED-CHAR DQUOTE`. Octets above 127 are taken: clients send them, and
    /// nothing is gained by refusing.
    pub(crate) fn quoted(&mut self) -> Result<Vec<u8>> {
        self.expect(b'"', "a quoted string")?;
        let mut out = Vec::new();
        loop {
            out.extend_from_slice(
                self.take_while(|b| !matches!(b, b'"' | b'\\' | b'\r' | b'\n' | 0)),
            );
            match self.peek() {
                Some(b'"') => {
                    self.eat(b'"');
                    return Ok(out);
                }
                Some(b'\\') => {
                    self.eat(b'\\');
                    let escaped = self.peek().filter(|b| matches!(b, b'"' | b'\\'));
                    let byte = escaped.ok_or(ParseError::Expected("a quoted \" or \\"))?;
                    self.eat(byte);
                    out.push(byte);
                }
                _ => return Err(ParseError::Expected("a closing quote")),
            }
        }
    }

    /// `literal = "{" number ["+"] "}" CRLF *CHAR8`
    fn literal(&mut self) -> Result<&'a [u8]> {
        let size = self.literal_head()?;
        let size = usize::try_from(size).map_err(|_| ParseError::BadNumber)?;
        let (octets, rest) = self
            .rest
            .split_at_checked(size)
            .ok_or(ParseError::Incomplete)?;
        self.rest = rest;
        if octets.contains(&0) {
            return Err(ParseError::Expected("a literal without NUL"));
        }
        Ok(octets)
    }

    /// A literal up to its octets; answers how many they are.
    pub(crate) fn literal_head(&mut self) -> Result<u64> {
        self.expect(b'{', "a literal")?;
        let size = self.number()?;
        self.eat(b'+');
        self.expect(b'}', "\"}\"")?;
        self.eat(b'\r');
        self.expect(b'\n', "a line's end behind \"}\"")?;
        Ok(size)
    }

    /// `mailbox = "INBOX" / astring`
    pub(crate) fn mailbox(&mut self) -> Result<MailboxName> {
        let name = self.astring()?;
        MailboxName::from_wire(&name).map_err(|_| ParseError::BadMailboxName)
    }

    /// `list-mailbox = 1*list-char / string`
    pub(crate) fn list_mailbox(&mut self) -> Result<String> {
        let octets = match self.peek() {
            Some(b'"' | b'{') => self.string()?,
            _ => self
                .some_while("a pattern", |b| {
                    is_astring_char(b) || matches!(b, b'%' | b'*')
                })?
                .to_vec(),
        };
        crate::mailbox_name::decode(&octets).map_err(|_| ParseError::BadMailboxName)
    }

    /// `date = date-text / DQUOTE date-text DQUOTE`
    pub(crate) fn date(&mut self) -> Result<Date> {
        let text = if self.peek() == Some(b'"') {
            self.quoted()?
        } else {
            self.atom()?.as_bytes().to_vec()
        };
        Date::parse(&text).ok_or(ParseError::BadDate)
    }

    /// `flag-list = "(" [flag *(SP flag)] ")"`
    pub(crate) fn flag_list(&mut self) -> Result<FlagList> {
        self.open()?;
        let mut flags = FlagList::default();
        if self.eat(b')') {
            return Ok(flags);
        }
        loop {
            self.flag(&mut flags)?;
            if self.eat(b')') {
                return Ok(flags);
            }
            self.space()?;
        }
    }

    /// ```abnf
    /// flag = "\Answered" / "\Flagged" / "\Deleted" / "\Seen" / "\Draft" /
    ///        flag-keyword / flag-extension
    /// ```
    /// `\Recent` is the server's alone; clients that send back what they got send it too, and it
    /// is left out.
    pub(crate) fn flag(&mut self, flags: &mut FlagList) -> Result<()> {
        if self.eat(b'\\') {
            let name = format!("\\{}", self.atom()?);
            match SystemFlag::from_name(&name) {
                Some(flag) => flags.system = flags.system | flag.into(),
                None if name.eq_ignore_ascii_case("\\Recent") => {}
                None => return Err(ParseError::Unknown("flag")),
            }
            return Ok(());
        }
        let keyword = self.atom()?;
        let known = flags
            .keywords
            .iter()
            .any(|k| k.eq_ignore_ascii_case(keyword));
        if !known {
            flags.keywords.push(keyword.to_owned());
        }
        Ok(())
    }
}
