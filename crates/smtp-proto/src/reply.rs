//! Replies: what a server says to a command (RFC 5321 §4.2, RFC 2034, RFC 3463).

mod refusal;
mod texts;

use std::borrow::Cow;
use std::fmt;

use mail_types::{EnhancedCode, StatusClass};

pub use refusal::{AuthFailure, Refusal};

/// The three digits of a reply, 200 to 599 (RFC 5321 §4.2: `Reply-code`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplyCode(u16);

/// Three digits that are no reply code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an SMTP reply code is a number from 200 to 599")]
pub struct ReplyCodeError;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        impl ReplyCode {
            $($(#[$doc])*
            pub const $name: Self = Self($code);)*
        }
    };
}

codes! {
    /// 211: system status.
    SYSTEM_STATUS = 211;
    /// 214: help.
    HELP = 214;
    /// 220: service ready.
    READY = 220;
    /// 221: closing the channel as asked.
    CLOSING = 221;
    /// 235: authenticated (RFC 4954 §6).
    AUTHENTICATED = 235;
    /// 250: done.
    OK = 250;
    /// 251: not local, will forward.
    WILL_FORWARD = 251;
    /// 252: cannot verify, will try.
    CANNOT_VERIFY = 252;
    /// 334: the next step of an AUTH exchange (RFC 4954 §4).
    CHALLENGE = 334;
    /// 354: go on with the content.
    START_INPUT = 354;
    /// 421: service not available, closing the channel.
    NOT_AVAILABLE = 421;
    /// 450: mailbox busy or refused for now.
    MAILBOX_BUSY = 450;
    /// 451: a local error.
    LOCAL_ERROR = 451;
    /// 452: no room.
    NO_ROOM = 452;
    /// 454: authentication or TLS not possible for now (RFC 4954 §6, RFC 3207 §4).
    TEMPORARY_AUTH = 454;
    /// 500: the command is not known, or its line too long.
    UNKNOWN_COMMAND = 500;
    /// 501: wrong arguments.
    BAD_ARGUMENTS = 501;
    /// 502: known, but not served.
    NOT_IMPLEMENTED = 502;
    /// 503: not in this order.
    BAD_SEQUENCE = 503;
    /// 504: an argument's value is not served.
    BAD_ARGUMENT_VALUE = 504;
    /// 530: authentication needed first (RFC 4954 §6).
    AUTH_REQUIRED = 530;
    /// 535: wrong credentials (RFC 4954 §6).
    BAD_CREDENTIALS = 535;
    /// 538: that mechanism needs encryption (RFC 4954 §6).
    ENCRYPTION_REQUIRED = 538;
    /// 550: mailbox not there, or not allowed.
    REFUSED = 550;
    /// 551: not local.
    NOT_LOCAL = 551;
    /// 552: larger than what is taken.
    TOO_LARGE = 552;
    /// 553: the address is not allowed.
    BAD_ADDRESS = 553;
    /// 554: the transaction failed.
    FAILED = 554;
    /// 555: a MAIL or RCPT parameter is not known (RFC 5321 §4.1.1.11).
    UNKNOWN_PARAMETER = 555;
}

impl ReplyCode {
    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }

    /// 2yz or 3yz: the command was taken (RFC 5321 §4.2.1).
    pub fn is_positive(self) -> bool {
        self.0 < 400
    }

    /// 4yz: may work later.
    pub fn is_transient(self) -> bool {
        (400..500).contains(&self.0)
    }

    /// 5yz: will not work.
    pub fn is_permanent(self) -> bool {
        self.0 >= 500
    }

    /// The class of status that goes with the code; 3yz counts as success.
    pub fn class(self) -> StatusClass {
        match self.0 {
            ..400 => StatusClass::Success,
            400..500 => StatusClass::Transient,
            500.. => StatusClass::Permanent,
        }
    }
}

impl TryFrom<u16> for ReplyCode {
    type Error = ReplyCodeError;

    fn try_from(code: u16) -> Result<Self, ReplyCodeError> {
        if (200..600).contains(&code) {
            Ok(Self(code))
        } else {
            Err(ReplyCodeError)
        }
    }
}

impl fmt::Display for ReplyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for ReplyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One reply: a code, perhaps an enhanced code, and one or more lines of text (RFC 5321 §4.2.1).
///
/// A reply of one fixed line, which is nearly every one, costs no allocation.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    code: ReplyCode,
    enhanced: Option<EnhancedCode>,
    first: Cow<'static, str>,
    rest: Vec<Cow<'static, str>>,
}

impl Reply {
    /// A reply of one line. `text` holds no line end and no codes.
    pub fn new(
        code: ReplyCode,
        enhanced: Option<EnhancedCode>,
        text: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            code,
            enhanced,
            first: text.into(),
            rest: Vec::new(),
        }
    }

    /// A reply of one fixed line.
    pub const fn fixed(code: ReplyCode, enhanced: EnhancedCode, text: &'static str) -> Self {
        Self {
            code,
            enhanced: Some(enhanced),
            first: Cow::Borrowed(text),
            rest: Vec::new(),
        }
    }

    /// A reply of one fixed line without an enhanced code: greetings, HELO, EHLO, 334 and 354
    /// have none (RFC 2034 §4).
    pub const fn bare(code: ReplyCode, text: &'static str) -> Self {
        Self {
            code,
            enhanced: None,
            first: Cow::Borrowed(text),
            rest: Vec::new(),
        }
    }

    /// Adds a line behind the others.
    pub fn with_line(mut self, line: impl Into<Cow<'static, str>>) -> Self {
        self.rest.push(line.into());
        self
    }

    /// The code.
    pub fn code(&self) -> ReplyCode {
        self.code
    }

    /// The enhanced code, if the reply has one.
    pub fn enhanced(&self) -> Option<EnhancedCode> {
        self.enhanced
    }

    /// The lines' texts, without codes. There is at least one, which may be empty.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.first)
            .chain(&self.rest)
            .map(AsRef::as_ref)
    }

    /// The lines' texts joined by spaces, for logs and delivery reports.
    pub fn text(&self) -> String {
        self.lines().collect::<Vec<_>>().join(" ")
    }

    /// Appends the reply as it goes over the wire, CRLF included. The enhanced code stands in each
    /// line (RFC 2034 §4). Line ends and other controls in a text become spaces, so that no text
    /// can forge a reply.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        self.write_line(out, &self.first, self.rest.is_empty());
        for (index, line) in self.rest.iter().enumerate() {
            self.write_line(out, line, index + 1 == self.rest.len());
        }
    }

    fn write_line(&self, out: &mut Vec<u8>, text: &str, last: bool) {
        push_number(out, self.code.0);
        out.push(if last { b' ' } else { b'-' });
        if let Some(enhanced) = self.enhanced {
            out.extend([b'0' + enhanced.class().digit(), b'.']);
            push_number(out, enhanced.subject());
            out.push(b'.');
            push_number(out, enhanced.detail());
            if !text.is_empty() {
                out.push(b' ');
            }
        }
        if text.bytes().any(|b| b.is_ascii_control()) {
            out.extend(
                text.bytes()
                    .map(|b| if b.is_ascii_control() { b' ' } else { b }),
            );
        } else {
            out.extend_from_slice(text.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends a number of at most three digits.
fn push_number(out: &mut Vec<u8>, number: u16) {
    for unit in [100, 10, 1] {
        if number >= unit || unit == 1 {
            let digit = u8::try_from(number / unit % 10).unwrap_or(0);
            out.push(b'0' + digit);
        }
    }
}

impl fmt::Display for Reply {
    /// One line for people: `550 5.1.1 No such user here`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        for line in self.lines().filter(|line| !line.is_empty()) {
            write!(f, " {line}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(reply: &Reply) -> String {
        let mut out = Vec::new();
        reply.write_to(&mut out);
        String::from_utf8(out).unwrap()
    }

    // Tests RFC 5321 §4.2.1 and RFC 2034 §4
    #[test]
    fn lines_and_codes() {
        let reply = Reply::fixed(ReplyCode::OK, EnhancedCode::OK, "done");
        assert_eq!(wire(&reply), "250 2.0.0 done\r\n");
        let reply = reply.with_line("more").with_line("");
        assert_eq!(
            wire(&reply),
            "250-2.0.0 done\r\n250-2.0.0 more\r\n250 2.0.0\r\n"
        );
        assert_eq!(reply.text(), "done more ");
        let code = EnhancedCode::new(StatusClass::Permanent, 10, 201).unwrap();
        let reply = Reply::new(ReplyCode::FAILED, Some(code), "x");
        assert_eq!(wire(&reply), "554 5.10.201 x\r\n");
        assert_eq!(
            wire(&Reply::bare(ReplyCode::START_INPUT, "go")),
            "354 go\r\n"
        );
    }

    #[test]
    fn no_text_forges_a_reply() {
        let reply = Reply::new(ReplyCode::REFUSED, None, "a\r\n250 ok");
        assert_eq!(wire(&reply), "550 a  250 ok\r\n");
    }

    #[test]
    fn codes_have_a_range() {
        assert!(ReplyCode::try_from(199).is_err());
        assert!(ReplyCode::try_from(600).is_err());
        assert_eq!(ReplyCode::try_from(451).unwrap(), ReplyCode::LOCAL_ERROR);
        assert_eq!(ReplyCode::LOCAL_ERROR.class(), StatusClass::Transient);
    }
}
