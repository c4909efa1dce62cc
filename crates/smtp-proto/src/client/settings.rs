use std::time::Duration;

use mail_types::Domain;

/// What all sessions have in common.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What we call ourselves in EHLO: a name, or an address literal (RFC 5321 §4.1.1.1).
    pub hello: String,
    /// Send content by BDAT where the server offers CHUNKING (RFC 3030): no dot-stuffing, and a
    /// small message costs one round trip.
    pub chunking: bool,
    /// Send commands in groups where the server offers PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// How long the server may take.
    pub timeouts: Timeouts,
    /// What the server may make us keep.
    pub limits: Limits,
}

impl Settings {
    /// Settings with all defaults.
    pub fn new(hello: impl Into<String>) -> Self {
        Self {
            hello: hello.into(),
            chunking: true,
            pipelining: true,
            timeouts: Timeouts::default(),
            limits: Limits::default(),
        }
    }
}

/// What one connection begins with.
#[derive(Debug, Clone)]
pub struct Opening {
    /// The server's name, for outcomes.
    pub peer: Domain,
    /// Whether to ask for TLS.
    pub tls: TlsPolicy,
    /// TLS is on already (RFC 8314 §3).
    pub encrypted: bool,
    /// Log in before the first transaction; a server that does not offer AUTH is then a failure.
    pub authenticate: bool,
}

/// Whether to ask for TLS (RFC 3207).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TlsPolicy {
    /// Never.
    None,
    /// Where the server offers it.
    Opportunistic,
    /// Without it, no mail is sent.
    Required,
}

/// How long the server may take: the minimums of RFC 5321 §4.5.3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For the greeting (§4.5.3.2.1).
    pub greeting: Duration,
    /// For the reply to MAIL (§4.5.3.2.2), RCPT (§4.5.3.2.3) and any command not named.
    pub command: Duration,
    /// For the reply to DATA (§4.5.3.2.4).
    pub data_start: Duration,
    /// For taking a piece of content (§4.5.3.2.5).
    pub data_block: Duration,
    /// For the reply to the content (§4.5.3.2.6).
    pub data_end: Duration,
    /// For the reply to QUIT: nothing depends on it, so that it need not be long.
    pub quit: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            greeting: Duration::from_mins(5),
            command: Duration::from_mins(5),
            data_start: Duration::from_mins(2),
            data_block: Duration::from_mins(3),
            data_end: Duration::from_mins(10),
            quit: Duration::from_secs(5),
        }
    }
}

/// What the server may make us keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Octets of a reply's line that are kept; the rest is skipped. RFC 5321 §4.5.3.1.5 allows
    /// 512; 2 KiB leaves room for servers that answer with long URLs.
    pub reply_line: usize,
    /// Octets of one reply, skipped ones included, after which the server is no SMTP server.
    pub reply_size: usize,
    /// Lines of one reply. EHLO of large servers has about 20.
    pub reply_lines: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            reply_line: 2048,
            reply_size: 64 * 1024,
            reply_lines: 128,
        }
    }
}
