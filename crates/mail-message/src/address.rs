//! Address lists as ENVELOPE wants them (RFC 3501 §7.4.2), from RFC 5322 §3.4 and what is sent.

use crate::lexer::Lexer;

/// What IMAP calls an address: NIL fields are `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) name: Option<Vec<u8>>,
    /// The source route (RFC 5322 §4.4 `obs-route`).
    pub(crate) route: Option<Vec<u8>>,
    pub(crate) mailbox: Option<Vec<u8>>,
    pub(crate) host: Option<Vec<u8>>,
}

/// Stands for a host that an address lacks: NIL would make it the start of a group.
const NO_HOST: &[u8] = b"MISSING_DOMAIN";
/// Stands for a mailbox that an address lacks: NIL would make it the end of a group.
const NO_MAILBOX: &[u8] = b"MISSING_MAILBOX";

/// Parses an address list of at most `max` entries.
pub(crate) fn parse_addresses(value: &[u8], max: usize) -> Vec<Address> {
    let mut parser = Parser {
        lexer: Lexer::new(value),
        found: Vec::new(),
        in_group: false,
    };
    while parser.found.len() < max && parser.next_entry() {}
    parser.end_group();
    parser.found
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    found: Vec<Address>,
    in_group: bool,
}

/// Words in front of a separator, both as a display name and as a local part.
#[derive(Default)]
struct Words {
    phrase: Vec<u8>,
    local: Vec<u8>,
    comment: Option<Vec<u8>>,
    any: bool,
    /// There is white space between words.
    spaced: bool,
}

impl Parser<'_> {
    /// False at the end.
    fn next_entry(&mut self) -> bool {
        let mut words = self.words();
        match self.lexer.bump() {
            Some(b'<') => {
                let address = self.angle(words);
                self.found.push(address);
            }
            Some(b'@') => {
                let address = self.addr_spec(words);
                self.found.push(address);
                if self.lexer.peek() == Some(b'@') {
                    // `a@b@c`: what goes on here is no address of its own.
                    self.lexer.take_while(|byte| !matches!(byte, b',' | b';'));
                }
            }
            Some(b':') => self.start_group(words),
            Some(b';') => {
                self.push_lone(words);
                self.end_group();
            }
            Some(b',') => self.push_lone(words),
            Some(_) => {
                // A stray separator such as `)` or `]` has no meaning here.
                words.any = false;
            }
            None => {
                self.push_lone(words);
                return false;
            }
        }
        true
    }

    /// Words up to the next of `<@:;,` or the end.
    fn words(&mut self) -> Words {
        let mut words = Words::default();
        let mut gap = false;
        loop {
            let before = self.lexer.rest().len();
            let comment = self.lexer.skip_cfws();
            gap |= self.lexer.rest().len() < before;
            words.comment = comment.or(words.comment);
            let word = match self.lexer.peek() {
                Some(b'"') => {
                    self.lexer.bump();
                    self.lexer.quoted()
                }
                Some(byte) if is_word(byte) => self.lexer.take_while(is_word).to_vec(),
                _ => return words,
            };
            if words.any && gap {
                words.phrase.push(b' ');
                words.spaced = true;
            }
            words.phrase.extend_from_slice(&word);
            words.local.extend_from_slice(&word);
            words.any = true;
            gap = false;
        }
    }

    /// A list entry that is words alone, such as `root`.
    fn push_lone(&mut self, words: Words) {
        if !words.any {
            return;
        }
        // Several words are a display name whose address was forgotten.
        let (name, mailbox) = if words.spaced {
            (Some(words.phrase), NO_MAILBOX.to_vec())
        } else {
            (words.comment, words.local)
        };
        self.found.push(Address {
            name,
            route: None,
            mailbox: Some(mailbox),
            host: Some(NO_HOST.to_vec()),
        });
    }

    /// `<route:local@domain>` with the `<` taken.
    fn angle(&mut self, name: Words) -> Address {
        self.lexer.skip_cfws();
        let route = (self.lexer.peek() == Some(b'@')).then(|| self.route());
        let words = self.words();
        let host = if self.lexer.eat(b'@') {
            self.domain().0
        } else {
            Vec::new()
        };
        // Up to the bracket, but not into the next address if there is none.
        self.lexer.take_while(|byte| !matches!(byte, b'>' | b','));
        self.lexer.eat(b'>');
        let comment = self.lexer.skip_cfws();
        let name_is_there = name.any && !name.phrase.is_empty();
        Address {
            name: if name_is_there {
                Some(name.phrase)
            } else {
                comment.or(name.comment)
            },
            route: route.filter(|route| !route.is_empty()),
            ..spec(words.local, words.any, host)
        }
    }

    /// `@a,@b:` of an obsolete route (RFC 5322 §4.4).
    fn route(&mut self) -> Vec<u8> {
        let mut route = Vec::new();
        loop {
            self.lexer.skip_cfws();
            match self.lexer.peek() {
                Some(b'@') => {
                    self.lexer.bump();
                    if !route.is_empty() {
                        route.push(b',');
                    }
                    route.push(b'@');
                    route.extend_from_slice(&self.domain().0);
                }
                Some(b',') => {
                    self.lexer.bump();
                }
                Some(b':') => {
                    self.lexer.bump();
                    return route;
                }
                _ => return route,
            }
        }
    }

    /// `local@domain` with the `@` taken.
    fn addr_spec(&mut self, words: Words) -> Address {
        let (host, comment) = self.domain();
        Address {
            name: comment.or(words.comment),
            ..spec(words.local, words.any, host)
        }
    }

    /// A domain, and the last comment behind it.
    fn domain(&mut self) -> (Vec<u8>, Option<Vec<u8>>) {
        let mut domain = Vec::new();
        let mut comment = self.lexer.skip_cfws();
        loop {
            if self.lexer.eat(b'[') {
                domain.push(b'[');
                domain
                    .extend_from_slice(self.lexer.take_while(|byte| !matches!(byte, b']' | b'>')));
                if self.lexer.eat(b']') {
                    domain.push(b']');
                }
            }
            let atom = self.lexer.take_while(|byte| is_word(byte) && byte != b'.');
            domain.extend_from_slice(atom);
            comment = self.lexer.skip_cfws().or(comment);
            if !self.lexer.eat(b'.') {
                return (domain, comment);
            }
            domain.push(b'.');
            comment = self.lexer.skip_cfws().or(comment);
        }
    }

    fn start_group(&mut self, words: Words) {
        self.end_group();
        self.in_group = true;
        self.found.push(Address {
            mailbox: Some(words.phrase),
            ..Address::default()
        });
    }

    fn end_group(&mut self) {
        if self.in_group {
            self.in_group = false;
            self.found.push(Address::default());
        }
    }
}

fn spec(local: Vec<u8>, has_local: bool, host: Vec<u8>) -> Address {
    Address {
        mailbox: Some(if has_local {
            local
        } else {
            NO_MAILBOX.to_vec()
        }),
        host: Some(if host.is_empty() {
            NO_HOST.to_vec()
        } else {
            host
        }),
        ..Address::default()
    }
}

/// Not white space and none of the separators that divide addresses.
fn is_word(byte: u8) -> bool {
    byte > b' ' && !b"\"(),:;<>@[]".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &str) -> String {
        let field = |field: &Option<Vec<u8>>| match field {
            Some(text) => String::from_utf8_lossy(text).into_owned(),
            None => String::from("-"),
        };
        parse_addresses(value.as_bytes(), 100)
            .iter()
            .map(|a| {
                let parts = [
                    field(&a.name),
                    field(&a.route),
                    field(&a.mailbox),
                    field(&a.host),
                ];
                parts.join("|")
            })
            .collect::<Vec<_>>()
            .join(" ; ")
    }

    #[test]
    fn forms_of_addresses() {
        for (value, expected) in [
            ("a@b", "-|-|a|b"),
            ("a@b (Ana  (x) B)", "Ana  (x) B|-|a|b"),
            ("Ana B. <a@b.c>, d@e", "Ana B.|-|a|b.c ; -|-|d|e"),
            ("\"Ana \\\"B\\\"\" <a@b>", "Ana \"B\"|-|a|b"),
            ("<@r1,@r2:a@b>", "-|@r1,@r2|a|b"),
            (
                "Friends: a@b, C <d@e>;, f@g",
                "-|-|Friends|- ; -|-|a|b ; C|-|d|e ; -|-|-|- ; -|-|f|g",
            ),
            (
                "undisclosed-recipients:;",
                "-|-|undisclosed-recipients|- ; -|-|-|-",
            ),
            ("root", "-|-|root|MISSING_DOMAIN"),
            ("Root <root>", "Root|-|root|MISSING_DOMAIN"),
            ("<>", "-|-|MISSING_MAILBOX|MISSING_DOMAIN"),
            ("a@[1.2.3.4]", "-|-|a|[1.2.3.4]"),
            (
                "a b c, d",
                "a b c|-|MISSING_MAILBOX|MISSING_DOMAIN ; -|-|d|MISSING_DOMAIN",
            ),
            ("a@b@c,d@e", "-|-|a|b ; -|-|d|e"),
            ("\"a b\"@c", "-|-|a b|c"),
            ("", ""),
            (",, ,", ""),
        ] {
            assert_eq!(shown(value), expected, "{value}");
        }
    }

    #[test]
    fn long_lists_are_cut() {
        let value = "a@b,".repeat(1000);
        assert_eq!(parse_addresses(value.as_bytes(), 10).len(), 10);
    }
}
