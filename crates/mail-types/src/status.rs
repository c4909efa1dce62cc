use std::fmt;
use std::str::FromStr;

/// What a status says in a word (RFC 3463 §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StatusClass {
    /// 2: done.
    Success,
    /// 4: may work later.
    Transient,
    /// 5: will not work.
    Permanent,
}

impl StatusClass {
    /// The digit on the wire.
    pub fn digit(self) -> u8 {
        match self {
            Self::Success => 2,
            Self::Transient => 4,
            Self::Permanent => 5,
        }
    }
}

/// An enhanced status code (RFC 3463 §2, names by the registry of RFC 5248).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EnhancedCode {
    class: StatusClass,
    subject: u16,
    detail: u16,
}

/// A text that is no enhanced status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an enhanced status code")]
pub struct StatusError;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $class:ident, $subject:literal, $detail:literal;)*) => {
        impl EnhancedCode {
            $($(#[$doc])*
            pub const $name: Self = Self { class: StatusClass::$class, subject: $subject, detail: $detail };)*
        }
    };
}

codes! {
    /// 2.0.0: done (RFC 3463 §3.1).
    OK = Success, 0, 0;
    /// 2.1.0: sender address good.
    SENDER_OK = Success, 1, 0;
    /// 2.1.5: recipient address good.
    RECIPIENT_OK = Success, 1, 5;
    /// 2.7.0: authenticated (RFC 4954 §6).
    AUTHENTICATED = Success, 7, 0;
    /// 4.2.1: mailbox cannot take mail now.
    MAILBOX_BUSY = Transient, 2, 1;
    /// 4.2.2: mailbox full, may get room.
    MAILBOX_FULL_FOR_NOW = Transient, 2, 2;
    /// 4.3.0: something of ours does not work.
    SYSTEM_TROUBLE = Transient, 3, 0;
    /// 4.3.1: no room to store mail.
    SYSTEM_FULL = Transient, 3, 1;
    /// 4.3.2: not taking mail at the moment.
    SHUTTING_DOWN = Transient, 3, 2;
    /// 4.4.1: no answer from the host.
    NO_ANSWER = Transient, 4, 1;
    /// 4.4.2: the connection broke or idled out.
    BAD_CONNECTION = Transient, 4, 2;
    /// 4.4.3: the directory or name server did not answer.
    DIRECTORY_FAILURE = Transient, 4, 3;
    /// 4.4.7: was not delivered in time.
    EXPIRED_FOR_NOW = Transient, 4, 7;
    /// 4.5.3: too many recipients.
    TOO_MANY_RECIPIENTS = Transient, 5, 3;
    /// 4.7.0: refused for now by policy.
    POLICY_FOR_NOW = Transient, 7, 0;
    /// 5.0.0: fails for a reason with no better code.
    UNDEFINED_FAILURE = Permanent, 0, 0;
    /// 5.1.1: no such user.
    NO_SUCH_USER = Permanent, 1, 1;
    /// 5.1.2: no such domain.
    NO_SUCH_DOMAIN = Permanent, 1, 2;
    /// 5.1.3: recipient address does not parse.
    BAD_RECIPIENT_SYNTAX = Permanent, 1, 3;
    /// 5.1.7: sender address does not parse.
    BAD_SENDER_SYNTAX = Permanent, 1, 7;
    /// 5.1.8: sender's domain cannot get mail.
    BAD_SENDER_DOMAIN = Permanent, 1, 8;
    /// 5.1.10: the domain takes no mail (RFC 7505 §4.2).
    NULL_MX = Permanent, 1, 10;
    /// 5.2.2: mailbox full.
    MAILBOX_FULL = Permanent, 2, 2;
    /// 5.3.4: message larger than the system takes.
    MESSAGE_TOO_LARGE = Permanent, 3, 4;
    /// 5.4.4: no way to the host: it has no address.
    UNABLE_TO_ROUTE = Permanent, 4, 4;
    /// 5.4.6: the mail goes in a circle.
    ROUTING_LOOP = Permanent, 4, 6;
    /// 5.4.7: was not delivered in time.
    EXPIRED = Permanent, 4, 7;
    /// 5.5.1: wrong or unknown command.
    INVALID_COMMAND = Permanent, 5, 1;
    /// 5.5.2: syntax error.
    SYNTAX_ERROR = Permanent, 5, 2;
    /// 5.5.4: wrong arguments.
    INVALID_ARGUMENTS = Permanent, 5, 4;
    /// 5.5.6: the exchange of credentials does not parse (RFC 4954 §6).
    AUTH_EXCHANGE_TOO_LONG = Permanent, 5, 6;
    /// 5.6.0: the content is wrong.
    BAD_CONTENT = Permanent, 6, 0;
    /// 5.6.7: a non-ASCII address on a way that cannot carry it (RFC 6531 §3.7.4.1).
    NON_ASCII_ADDRESS = Permanent, 6, 7;
    /// 5.7.0: authentication is needed (RFC 4954 §6).
    AUTH_REQUIRED = Permanent, 7, 0;
    /// 5.7.1: not allowed.
    NOT_ALLOWED = Permanent, 7, 1;
    /// 5.7.8: credentials are wrong (RFC 4954 §6).
    BAD_CREDENTIALS = Permanent, 7, 8;
    /// 5.7.11: encryption is needed for that mechanism (RFC 4954 §6).
    ENCRYPTION_REQUIRED = Permanent, 7, 11;
}

impl EnhancedCode {
    /// Builds a code; subject and detail have at most three digits on the wire.
    pub fn new(class: StatusClass, subject: u16, detail: u16) -> Result<Self, StatusError> {
        if subject > 999 || detail > 999 {
            return Err(StatusError);
        }
        Ok(Self {
            class,
            subject,
            detail,
        })
    }

    /// Success, transient or permanent.
    pub fn class(self) -> StatusClass {
        self.class
    }

    /// The second number.
    pub fn subject(self) -> u16 {
        self.subject
    }

    /// The third number.
    pub fn detail(self) -> u16 {
        self.detail
    }

    /// The same subject and detail with another class.
    pub fn with_class(self, class: StatusClass) -> Self {
        Self { class, ..self }
    }
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class.digit(), self.subject, self.detail)
    }
}

impl fmt::Debug for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for EnhancedCode {
    type Err = StatusError;

    fn from_str(text: &str) -> Result<Self, StatusError> {
        let mut parts = text.split('.');
        let class = match parts.next() {
            Some("2") => StatusClass::Success,
            Some("4") => StatusClass::Transient,
            Some("5") => StatusClass::Permanent,
            _ => return Err(StatusError),
        };
        let subject = number(parts.next())?;
        let detail = number(parts.next())?;
        if parts.next().is_some() {
            return Err(StatusError);
        }
        Self::new(class, subject, detail)
    }
}

fn number(part: Option<&str>) -> Result<u16, StatusError> {
    let part = part
        .filter(|p| (1..=3).contains(&p.len()))
        .ok_or(StatusError)?;
    if !part.bytes().all(|b| b.is_ascii_digit()) {
        return Err(StatusError);
    }
    part.parse().map_err(|_| StatusError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        assert_eq!(
            "5.1.10".parse::<EnhancedCode>().unwrap(),
            EnhancedCode::NULL_MX
        );
        assert_eq!(EnhancedCode::NULL_MX.to_string(), "5.1.10");
        for bad in [
            "", "5", "5.1", "3.1.1", "5.1.1.1", "5.+1.1", "5.1.1000", "5..1",
        ] {
            assert!(bad.parse::<EnhancedCode>().is_err(), "{bad}");
        }
    }
}
