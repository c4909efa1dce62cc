//! A reader of IMAP data that is strict, to check what we write (RFC 3501 §4 and §9).

/// A value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Atom(Vec<u8>),
    List(Vec<Value>),
    Nil,
    Text(Vec<u8>),
}

impl Value {
    pub(crate) fn list(&self) -> Option<&[Value]> {
        match self {
            Self::List(values) => Some(values),
            _ => None,
        }
    }

    fn is_nstring(&self) -> bool {
        matches!(self, Self::Nil | Self::Text(_))
    }

    fn is_number(&self) -> bool {
        matches!(self, Self::Atom(digits) if digits.iter().all(u8::is_ascii_digit))
    }
}

/// Reads one value that is all of the text.
pub(crate) fn read(text: &[u8]) -> Value {
    let mut rest = text;
    let value = value(&mut rest, 0);
    assert!(
        rest.is_empty(),
        "more behind the value: {}",
        text.escape_ascii()
    );
    value
}

fn value(rest: &mut &[u8], depth: usize) -> Value {
    assert!(depth < 500, "too deep");
    match rest.first().expect("a value") {
        b'(' => {
            *rest = &rest[1..];
            let mut values = Vec::new();
            loop {
                match rest.first().expect("the list's end") {
                    b')' => {
                        *rest = &rest[1..];
                        return Value::List(values);
                    }
                    b' ' => {
                        assert!(!values.is_empty(), "a space before the first");
                        *rest = &rest[1..];
                        values.push(value(rest, depth + 1));
                    }
                    b'(' => {
                        // Addresses and parts stand behind each other without a space.
                        assert!(values.last().is_none_or(|last| last.list().is_some()));
                        values.push(value(rest, depth + 1));
                    }
                    _ => {
                        assert!(
                            values.is_empty(),
                            "no space between: {}",
                            rest.escape_ascii()
                        );
                        values.push(value(rest, depth + 1));
                    }
                }
            }
        }
        b'"' => quoted(rest),
        b'{' => literal(rest),
        _ => {
            let len = rest.iter().position(|b| b" ()\"{\r\n\\%*".contains(b));
            let (atom, after) = rest.split_at(len.unwrap_or(rest.len()));
            assert!(!atom.is_empty() && atom.iter().all(u8::is_ascii_graphic));
            *rest = after;
            if atom == b"NIL" {
                Value::Nil
            } else {
                Value::Atom(atom.to_vec())
            }
        }
    }
}

fn quoted(rest: &mut &[u8]) -> Value {
    let mut text = Vec::new();
    let mut at = 1;
    loop {
        match rest[at] {
            b'"' => break,
            b'\\' => {
                at += 1;
                assert!(matches!(rest[at], b'"' | b'\\'));
                text.push(rest[at]);
            }
            byte => {
                assert!(byte != 0 && byte < 0x80 && byte != b'\r' && byte != b'\n');
                text.push(byte);
            }
        }
        at += 1;
    }
    *rest = &rest[at + 1..];
    Value::Text(text)
}

fn literal(rest: &mut &[u8]) -> Value {
    let end = rest
        .iter()
        .position(|b| *b == b'}')
        .expect("a literal's head");
    let len: usize = std::str::from_utf8(&rest[1..end])
        .unwrap()
        .parse()
        .expect("a length");
    assert_eq!(&rest[end + 1..end + 3], b"\r\n");
    let text = rest[end + 3..][..len].to_vec();
    assert!(!text.contains(&0), "NUL in a literal");
    *rest = &rest[end + 3 + len..];
    Value::Text(text)
}

/// RFC 3501 §9 `envelope`.
pub(crate) fn envelope(value: &Value) {
    let fields = value.list().expect("an envelope");
    assert_eq!(fields.len(), 10);
    for (at, field) in fields.iter().enumerate() {
        if !(2..8).contains(&at) {
            assert!(field.is_nstring());
            continue;
        }
        let Some(addresses) = field.list() else {
            assert_eq!(*field, Value::Nil);
            continue;
        };
        assert!(!addresses.is_empty());
        let mut in_group = false;
        for address in addresses {
            let address = address.list().expect("an address");
            assert!(address.len() == 4 && address.iter().all(Value::is_nstring));
            // No host: a group's start, or with no mailbox either its end (RFC 3501 §7.4.2).
            if address[3] == Value::Nil {
                let starts = address[2] != Value::Nil;
                assert_ne!(in_group, starts, "groups do not nest, and end once");
                in_group = starts;
            }
        }
        assert!(!in_group, "a group without end");
    }
}

/// RFC 3501 §9 `body`.
pub(crate) fn body(value: &Value, extended: bool) {
    let fields = value.list().expect("a body");
    let parts = fields
        .iter()
        .take_while(|field| field.list().is_some())
        .count();
    if parts > 0 {
        fields[..parts].iter().for_each(|part| body(part, extended));
        assert!(matches!(fields[parts], Value::Text(_)), "a subtype");
        assert_eq!(fields.len(), parts + if extended { 5 } else { 1 });
        if extended {
            params(&fields[parts + 1]);
            extension(&fields[parts + 2..]);
        }
        return;
    }
    let (Value::Text(main), Value::Text(sub)) = (&fields[0], &fields[1]) else {
        panic!("no type: {fields:?}");
    };
    params(&fields[2]);
    assert!(fields[3].is_nstring() && fields[4].is_nstring());
    assert!(matches!(fields[5], Value::Text(_)) && fields[6].is_number());
    let is_message = main.eq_ignore_ascii_case(b"message") && sub.eq_ignore_ascii_case(b"rfc822");
    let mut at = 7;
    if is_message {
        envelope(&fields[7]);
        body(&fields[8], extended);
        assert!(fields[9].is_number());
        at = 10;
    } else if main.eq_ignore_ascii_case(b"text") {
        assert!(fields[7].is_number());
        at = 8;
    }
    assert_eq!(fields.len(), at + if extended { 4 } else { 0 });
    if extended {
        assert!(fields[at].is_nstring());
        extension(&fields[at + 1..]);
    }
}

fn params(value: &Value) {
    let Some(values) = value.list() else {
        return assert_eq!(*value, Value::Nil);
    };
    assert!(!values.is_empty() && values.len().is_multiple_of(2));
    assert!(values.iter().all(|value| matches!(value, Value::Text(_))));
}

/// Disposition, language, location.
fn extension(fields: &[Value]) {
    assert_eq!(fields.len(), 3);
    if let Some(disposition) = fields[0].list() {
        assert!(disposition.len() == 2 && matches!(disposition[0], Value::Text(_)));
        params(&disposition[1]);
    } else {
        assert_eq!(fields[0], Value::Nil);
    }
    match &fields[1] {
        Value::List(tags) => assert!(!tags.is_empty()),
        other => assert!(other.is_nstring()),
    }
    assert!(fields[2].is_nstring());
}
