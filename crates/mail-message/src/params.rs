use crate::lexer::{Lexer, is_token};

/// The most parameters that are kept of one field. Real ones have up to about ten.
const MAX_PARAMS: usize = 32;

/// A value with parameters: `Content-Type` (RFC 2045 §5.1) or `Content-Disposition` (RFC 2183 §2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ParamValue {
    /// The type, or the disposition.
    pub(crate) value: Vec<u8>,
    /// The subtype; empty for a disposition.
    pub(crate) subtype: Vec<u8>,
    /// Names and decoded values in the field's order. Continuations (RFC 2231 §3) are joined.
    pub(crate) params: Vec<(Vec<u8>, Vec<u8>)>,
}

impl ParamValue {
    /// Parses `type/subtype; params`, or nothing if there is no type and subtype.
    pub(crate) fn parse_content_type(value: &[u8]) -> Option<Self> {
        let mut lexer = Lexer::new(value);
        lexer.skip_cfws();
        let main = lexer.take_while(is_token).to_vec();
        lexer.skip_cfws();
        if main.is_empty() || !lexer.eat(b'/') {
            return None;
        }
        lexer.skip_cfws();
        let subtype = lexer.take_while(is_token).to_vec();
        if subtype.is_empty() {
            return None;
        }
        let params = parse_params(&mut lexer);
        Some(Self {
            value: main,
            subtype,
            params,
        })
    }

    /// Parses `disposition; params`, or nothing if there is no disposition.
    pub(crate) fn parse_disposition(value: &[u8]) -> Option<Self> {
        let mut lexer = Lexer::new(value);
        lexer.skip_cfws();
        let main = lexer.take_while(is_token).to_vec();
        if main.is_empty() {
            return None;
        }
        let params = parse_params(&mut lexer);
        Some(Self {
            value: main,
            subtype: Vec::new(),
            params,
        })
    }

    pub(crate) fn is(&self, main: &str, sub: &str) -> bool {
        self.is_type(main) && self.subtype.eq_ignore_ascii_case(sub.as_bytes())
    }

    pub(crate) fn is_type(&self, main: &str) -> bool {
        self.value.eq_ignore_ascii_case(main.as_bytes())
    }

    pub(crate) fn param(&self, name: &str) -> Option<&[u8]> {
        let (_, value) = self
            .params
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()))?;
        Some(value)
    }
}

fn parse_params(lexer: &mut Lexer<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut params = Vec::new();
    while params.len() < MAX_PARAMS {
        // Whatever stands before the next semicolon is none of ours.
        lexer.skip_cfws();
        match lexer.bump() {
            Some(b';') => {}
            Some(b'"') => {
                lexer.quoted();
                continue;
            }
            Some(_) => continue,
            None => break,
        }
        lexer.skip_cfws();
        let name = lexer.take_while(is_token).to_vec();
        lexer.skip_cfws();
        if name.is_empty() || !lexer.eat(b'=') {
            continue;
        }
        lexer.skip_cfws();
        let value = if lexer.eat(b'"') {
            lexer.quoted()
        } else {
            // Many write values with separators unquoted: take all up to the next one that counts.
            lexer
                .take_while(|byte| byte > b' ' && !matches!(byte, b';' | b'"' | b'(' | 0x7F))
                .to_vec()
        };
        params.push((name, value));
    }
    join_continuations(params)
}

/// Joins `name*0`, `name*1`, … (RFC 2231 §3) to one parameter; it is named `name*` if a piece is
/// encoded (`name*1*`). Pieces whose numbers do not go up from 0 without gap stay as they are.
fn join_continuations(params: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<(Vec<u8>, Vec<u8>)> {
    if !params.iter().any(|(name, _)| is_first_piece(name)) {
        return params;
    }
    let mut joined: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut taken = vec![false; params.len()];
    for (at, (name, value)) in params.iter().enumerate() {
        if taken.get(at).copied().unwrap_or(true) {
            continue;
        }
        if !is_first_piece(name) {
            joined.push((name.clone(), value.clone()));
            continue;
        }
        let base = name.split(|byte| *byte == b'*').next().unwrap_or_default();
        let mut encoded = name.ends_with(b"*");
        let mut whole = value.clone();
        for number in 1..MAX_PARAMS {
            let Some((piece_at, starred)) = find_piece(&params, base, number) else {
                break;
            };
            encoded |= starred;
            if let Some((_, piece)) = params.get(piece_at) {
                whole.extend_from_slice(piece);
            }
            if let Some(slot) = taken.get_mut(piece_at) {
                *slot = true;
                if piece_at < at {
                    // It was listed before its first piece: it is part of the whole now.
                    joined.retain(|(n, _)| params.get(piece_at).is_none_or(|(p, _)| n != p));
                }
            }
        }
        let mut name = base.to_vec();
        if encoded {
            name.push(b'*');
        }
        joined.push((name, whole));
    }
    joined
}

fn is_first_piece(name: &[u8]) -> bool {
    name.len() > 2 && (name.ends_with(b"*0") || name.ends_with(b"*0*"))
}

fn find_piece(params: &[(Vec<u8>, Vec<u8>)], base: &[u8], number: usize) -> Option<(usize, bool)> {
    let plain = format!("*{number}");
    params.iter().enumerate().find_map(|(at, (name, _))| {
        let (start, tail) = name.split_at_checked(base.len())?;
        if !start.eq_ignore_ascii_case(base) {
            return None;
        }
        let tail = tail.strip_prefix(plain.as_bytes())?;
        match tail {
            b"" => Some((at, false)),
            b"*" => Some((at, true)),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(value: &str) -> Vec<(String, String)> {
        let parsed = ParamValue::parse_content_type(value.as_bytes()).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        parsed
            .params
            .into_iter()
            .map(|(n, v)| (text(n), text(v)))
            .collect()
    }

    #[test]
    fn odd_parameters() {
        let value = "text/plain; charset=\"utf-8\" (really); x = a b;; name=\"a\\\"b;c\"\r\n ;format=flowed";
        let expected = [
            ("charset", "utf-8"),
            ("x", "a"),
            ("name", "a\"b;c"),
            ("format", "flowed"),
        ];
        let expected: Vec<_> = expected.map(|(n, v)| (n.to_owned(), v.to_owned())).into();
        assert_eq!(params(value), expected);
        assert_eq!(ParamValue::parse_content_type(b"text"), None);
        assert_eq!(ParamValue::parse_content_type(b"; a=b"), None);
    }

    #[test]
    fn continuations() {
        let value = "a/b; name*1=two; x=y; name*0*=utf-8''one; name*2*=%20three; other*1=z";
        let expected = [
            ("x", "y"),
            ("name*", "utf-8''onetwo%20three"),
            ("other*1", "z"),
        ];
        let expected: Vec<_> = expected.map(|(n, v)| (n.to_owned(), v.to_owned())).into();
        assert_eq!(params(value), expected);
    }
}
