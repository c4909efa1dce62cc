//! What the server says. No other crate has texts of POP3.

/// Said to a client for which there is no place.
pub const BUSY: &[u8] = b"-ERR [SYS/TEMP] too many connections, try again later\r\n";

/// Why a login fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthFailure {
    /// Unknown name or wrong password.
    BadCredentials,
    /// The client's messages do not parse.
    BadExchange,
    /// The client cancelled.
    Cancelled,
    /// Only under TLS.
    EncryptionRequired,
    /// Something of ours does not work.
    Temporary,
    /// Too many failures from there.
    TooManyFailures,
    /// No such mechanism.
    UnknownMechanism,
}

impl AuthFailure {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::BadCredentials => "-ERR [AUTH] wrong name or password",
            Self::BadExchange => "-ERR [AUTH] the response does not parse",
            Self::Cancelled => "-ERR authentication cancelled",
            Self::EncryptionRequired => "-ERR [AUTH] start TLS first",
            Self::Temporary => "-ERR [SYS/TEMP] logins do not work at the moment",
            Self::TooManyFailures => "-ERR [SYS/TEMP] too many failed logins, try again later",
            Self::UnknownMechanism => "-ERR [AUTH] unknown mechanism",
        }
    }
}

/// Why the maildrop cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaildropFailure {
    /// Another session has it (RFC 2449 §8.1.1).
    InUse,
    /// Something of ours does not work (RFC 3206 §4).
    Temporary,
}

impl MaildropFailure {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::InUse => "-ERR [IN-USE] another session has the maildrop",
            Self::Temporary => "-ERR [SYS/TEMP] the maildrop cannot be opened at the moment",
        }
    }
}
