//! What MAIL and RCPT carry: the path and the parameters of RFC 1870, 3030, 3461, 4954, 6152, 6531.

use mail_types::{Domain, EmailAddress, ReversePath};

use super::command::CommandError;
use super::path;

/// What MAIL says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailFrom {
    /// Who sends.
    pub path: ReversePath,
    /// The path came without a domain and got the server's own.
    pub unqualified: bool,
    /// SIZE in octets (RFC 1870 §3), as the client estimates it.
    pub size: Option<u64>,
    /// BODY (RFC 6152 §2, RFC 3030 §3).
    pub body: BodyType,
    /// SMTPUTF8 (RFC 6531 §3.4).
    pub smtputf8: bool,
    /// RET (RFC 3461 §4.3).
    pub dsn_return: Option<DsnReturn>,
    /// ENVID (RFC 3461 §4.4), decoded.
    pub envelope_id: Option<String>,
}

/// What RCPT says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RcptTo {
    /// The recipient.
    pub address: EmailAddress,
    /// The path came without a domain and got the server's own.
    pub unqualified: bool,
    /// ORCPT (RFC 3461 §4.2) as sent: `addr-type ";" xtext`.
    pub original: Option<String>,
    /// NOTIFY (RFC 3461 §4.1).
    pub notify: Option<Notify>,
}

/// The kind of content that a client announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum BodyType {
    /// Octets without any structure, only by BDAT (RFC 3030 §3).
    BinaryMime,
    /// Lines with octets over 127 (RFC 6152).
    EightBitMime,
    /// Lines of ASCII.
    #[default]
    SevenBit,
}

/// What a delivery report returns of the message (RFC 3461 §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DsnReturn {
    /// All of it.
    Full,
    /// Its header.
    Headers,
}

/// When the sender wants a delivery report (RFC 3461 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Notify {
    /// Never.
    Never,
    /// In the cases that are true; at least one is.
    On {
        /// It was delivered.
        success: bool,
        /// It was given up.
        failure: bool,
        /// It takes longer than usual.
        delay: bool,
    },
}

/// Parses `"FROM:" Reverse-path [SP Mail-parameters]` (RFC 5321 §4.1.1.2).
pub(super) fn parse_mail(args: &str, domain: &Domain) -> Result<MailFrom, CommandError> {
    let args = strip_keyword(args, "FROM:").ok_or(CommandError::Arguments)?;
    let (text, params) = path::split(args).map_err(|_| CommandError::Arguments)?;
    let path = path::reverse(text, domain).map_err(|_| CommandError::SenderSyntax)?;
    let mut mail = MailFrom {
        path,
        unqualified: !text.is_empty() && is_unqualified(text),
        size: None,
        body: BodyType::SevenBit,
        smtputf8: false,
        dsn_return: None,
        envelope_id: None,
    };
    let mut seen = Seen::default();
    for param in params.split_ascii_whitespace() {
        mail_param(&mut mail, param, &mut seen)?;
    }
    if !text.is_ascii() && !mail.smtputf8 {
        return Err(CommandError::NonAscii);
    }
    Ok(mail)
}

fn mail_param(mail: &mut MailFrom, param: &str, seen: &mut Seen) -> Result<(), CommandError> {
    let (name, value) = name_and_value(param);
    match upper(name).as_slice() {
        b"SIZE" => {
            seen.once(0)?;
            mail.size = Some(size(value)?);
        }
        b"BODY" => {
            seen.once(1)?;
            mail.body = body(value)?;
        }
        b"SMTPUTF8" if value.is_none() => {
            seen.once(2)?;
            mail.smtputf8 = true;
        }
        b"SMTPUTF8" => return Err(CommandError::Arguments),
        b"RET" => {
            seen.once(3)?;
            mail.dsn_return = Some(dsn_return(value)?);
        }
        b"ENVID" => {
            seen.once(4)?;
            mail.envelope_id = Some(envelope_id(value)?);
        }
        b"AUTH" => {
            // RFC 4954 §5: who it claims to come from. Nobody here trusts that, so it is checked
            // and dropped, as the RFC lets a server do.
            seen.once(5)?;
            decode_xtext(value.ok_or(CommandError::Arguments)?)?;
        }
        _ => return Err(CommandError::UnknownParameter),
    }
    Ok(())
}

/// Parses `"TO:" Forward-path [SP Rcpt-parameters]` (RFC 5321 §4.1.1.3). `smtputf8` tells if MAIL
/// had that.
pub(super) fn parse_rcpt(
    args: &str,
    domain: &Domain,
    smtputf8: bool,
) -> Result<RcptTo, CommandError> {
    let args = strip_keyword(args, "TO:").ok_or(CommandError::Arguments)?;
    let (text, params) = path::split(args).map_err(|_| CommandError::Arguments)?;
    if !text.is_ascii() && !smtputf8 {
        return Err(CommandError::NonAscii);
    }
    let address = path::mailbox(text, domain).map_err(|_| CommandError::RecipientSyntax)?;
    let mut rcpt = RcptTo {
        address,
        unqualified: is_unqualified(text),
        original: None,
        notify: None,
    };
    let mut seen = Seen::default();
    for param in params.split_ascii_whitespace() {
        let (name, value) = name_and_value(param);
        match upper(name).as_slice() {
            b"ORCPT" => {
                seen.once(0)?;
                rcpt.original = Some(original(value)?);
            }
            b"NOTIFY" => {
                seen.once(1)?;
                rcpt.notify = Some(notify(value)?);
            }
            _ => return Err(CommandError::UnknownParameter),
        }
    }
    Ok(rcpt)
}

/// Which parameters came already: each may stand once (RFC 5321 §4.1.1.11).
#[derive(Default)]
struct Seen(u8);

impl Seen {
    fn once(&mut self, parameter: u8) -> Result<(), CommandError> {
        let bit = 1 << parameter;
        if self.0 & bit != 0 {
            return Err(CommandError::Arguments);
        }
        self.0 |= bit;
        Ok(())
    }
}

fn strip_keyword<'a>(args: &'a str, keyword: &str) -> Option<&'a str> {
    let (head, rest) = args.split_at_checked(keyword.len())?;
    head.eq_ignore_ascii_case(keyword).then_some(rest)
}

fn is_unqualified(path: &str) -> bool {
    path.ends_with('"') || !path.contains('@')
}

fn name_and_value(param: &str) -> (&str, Option<&str>) {
    match param.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (param, None),
    }
}

/// An upper-case copy of a keyword; too long ones are no keywords.
fn upper(name: &str) -> Keyword {
    let mut keyword = Keyword([0; 8], name.len().min(8));
    if name.len() <= 8 {
        for (to, from) in keyword.0.iter_mut().zip(name.bytes()) {
            *to = from.to_ascii_uppercase();
        }
    }
    keyword
}

struct Keyword([u8; 8], usize);

impl Keyword {
    fn as_slice(&self) -> &[u8] {
        self.0.get(..self.1).unwrap_or_default()
    }
}

/// `size-value = 1*20DIGIT` (RFC 1870 §4). A number past 64 bits is as large as can be.
fn size(value: Option<&str>) -> Result<u64, CommandError> {
    let digits = value.unwrap_or_default();
    let number = (1..=20).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    if number {
        Ok(digits.parse().unwrap_or(u64::MAX))
    } else {
        Err(CommandError::Arguments)
    }
}

fn body(value: Option<&str>) -> Result<BodyType, CommandError> {
    let value = value.unwrap_or_default();
    [
        ("7BIT", BodyType::SevenBit),
        ("8BITMIME", BodyType::EightBitMime),
        ("BINARYMIME", BodyType::BinaryMime),
    ]
    .into_iter()
    .find(|(name, _)| name.eq_ignore_ascii_case(value))
    .map(|(_, body)| body)
    .ok_or(CommandError::Arguments)
}

fn dsn_return(value: Option<&str>) -> Result<DsnReturn, CommandError> {
    match value {
        Some(value) if value.eq_ignore_ascii_case("FULL") => Ok(DsnReturn::Full),
        Some(value) if value.eq_ignore_ascii_case("HDRS") => Ok(DsnReturn::Headers),
        _ => Err(CommandError::Arguments),
    }
}

/// At most 100 octets, all printable (RFC 3461 §4.4).
fn envelope_id(value: Option<&str>) -> Result<String, CommandError> {
    let id = decode_xtext(value.ok_or(CommandError::Arguments)?)?;
    let fits = (1..=100).contains(&id.len()) && id.bytes().all(|b| (32..127).contains(&b));
    fits.then_some(id).ok_or(CommandError::Arguments)
}

/// `original-recipient-address = atom ";" xtext`, at most 500 octets (RFC 3461 §4.2).
fn original(value: Option<&str>) -> Result<String, CommandError> {
    let value = value.filter(|v| v.len() <= 500).unwrap_or_default();
    let (kind, address) = value.split_once(';').ok_or(CommandError::Arguments)?;
    let atom = !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !atom || address.is_empty() {
        return Err(CommandError::Arguments);
    }
    // The type utf-8 has escapes of its own (RFC 6533 §3).
    if kind.eq_ignore_ascii_case("utf-8") {
        if address.chars().any(char::is_control) {
            return Err(CommandError::Arguments);
        }
    } else {
        decode_xtext(address)?;
    }
    Ok(value.to_owned())
}

/// `NEVER`, or a list of `SUCCESS`, `FAILURE` and `DELAY` (RFC 3461 §4.1).
fn notify(value: Option<&str>) -> Result<Notify, CommandError> {
    let value = value.unwrap_or_default();
    if value.eq_ignore_ascii_case("NEVER") {
        return Ok(Notify::Never);
    }
    let (mut success, mut failure, mut delay) = (false, false, false);
    for word in value.split(',') {
        let flag = match upper(word).as_slice() {
            b"SUCCESS" => &mut success,
            b"FAILURE" => &mut failure,
            b"DELAY" => &mut delay,
            _ => return Err(CommandError::Arguments),
        };
        *flag = true;
    }
    Ok(Notify::On {
        success,
        failure,
        delay,
    })
}

/// `xtext = *( xchar / hexchar )` (RFC 3461 §4).
fn decode_xtext(text: &str) -> Result<String, CommandError> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => {
                let high = hex(bytes.next())?;
                decoded.push(high << 4 | hex(bytes.next())?);
            }
            b'!'..=b'~' if byte != b'=' => decoded.push(byte),
            _ => return Err(CommandError::Arguments),
        }
    }
    String::from_utf8(decoded).map_err(|_| CommandError::Arguments)
}

fn hex(digit: Option<u8>) -> Result<u8, CommandError> {
    match digit {
        Some(d @ b'0'..=b'9') => Ok(d - b'0'),
        Some(d @ b'A'..=b'F') => Ok(d - b'A' + 10),
        _ => Err(CommandError::Arguments),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(args: &str) -> Result<MailFrom, CommandError> {
        parse_mail(args, &"aula.test".parse().unwrap())
    }

    fn rcpt(args: &str) -> Result<RcptTo, CommandError> {
        parse_rcpt(args, &"aula.test".parse().unwrap(), false)
    }

    #[test]
    fn mail_with_all_parameters() {
        let mail =
            mail("from:<é@x.test> size=10 BODY=8bitmime SMTPUTF8 RET=hdrs ENVID=a+2Bb AUTH=<>")
                .unwrap();
        assert_eq!(mail.size, Some(10));
        assert_eq!(mail.body, BodyType::EightBitMime);
        assert!(mail.smtputf8);
        assert_eq!(mail.dsn_return, Some(DsnReturn::Headers));
        assert_eq!(mail.envelope_id.as_deref(), Some("a+b"));
        assert!(!mail.unqualified);
    }

    #[test]
    fn bad_parameters() {
        use CommandError::{Arguments, NonAscii, SenderSyntax, UnknownParameter};
        for (args, error) in [
            ("", Arguments),
            ("FROM", Arguments),
            ("FROM:", Arguments),
            ("FROM:<a@x.test", Arguments),
            ("FROM:<a b@x.test>", SenderSyntax),
            ("FROM:<é@x.test>", NonAscii),
            ("FROM:<a@é.test>", NonAscii),
            ("FROM:<> X=1", UnknownParameter),
            ("FROM:<> TOOLONGAKEYWORD", UnknownParameter),
            ("FROM:<> SIZE", Arguments),
            ("FROM:<> SIZE=", Arguments),
            ("FROM:<> SIZE=-1", Arguments),
            ("FROM:<> SIZE=1 SIZE=2", Arguments),
            ("FROM:<> BODY=9BIT", Arguments),
            ("FROM:<> SMTPUTF8=1", Arguments),
            ("FROM:<> RET=SOME", Arguments),
            ("FROM:<> ENVID=+0", Arguments),
            ("FROM:<> ENVID=+0A", Arguments),
            ("FROM:<> ENVID=a=b", Arguments),
        ] {
            assert_eq!(mail(args), Err(error), "{args}");
        }
        assert_eq!(
            mail("FROM:<> SIZE=99999999999999999999").unwrap().size,
            Some(u64::MAX)
        );
    }

    #[test]
    fn recipients() {
        let to = rcpt("TO: anton").unwrap();
        assert!(to.unqualified);
        assert_eq!(to.address.to_string(), "anton@aula.test");
        let to = rcpt("to:<a@x.test> NOTIFY=success,DELAY ORCPT=rfc822;a+2B@x.test").unwrap();
        assert_eq!(to.original.as_deref(), Some("rfc822;a+2B@x.test"));
        let notify = Notify::On {
            success: true,
            failure: false,
            delay: true,
        };
        assert_eq!(to.notify, Some(notify));
        assert_eq!(
            rcpt("TO:<a> NOTIFY=NEVER").unwrap().notify,
            Some(Notify::Never)
        );
        for (args, error) in [
            ("TO:<>", CommandError::RecipientSyntax),
            ("TO:<a@>", CommandError::RecipientSyntax),
            ("TO:<a> NOTIFY=NEVER,DELAY", CommandError::Arguments),
            ("TO:<a> NOTIFY=", CommandError::Arguments),
            ("TO:<a> ORCPT=x", CommandError::Arguments),
            ("TO:<a> ORCPT=x;", CommandError::Arguments),
            ("TO:<a> SIZE=1", CommandError::UnknownParameter),
        ] {
            assert_eq!(rcpt(args), Err(error), "{args}");
        }
    }
}
