use std::sync::Arc;
use std::time::Duration;

use mail_types::Domain;

/// What a listener's sessions have in common.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name that the server gives itself in the greeting and in answers to HELO and EHLO.
    pub hostname: String,
    /// The domain of addresses that come without one.
    pub domain: Domain,
    /// What becomes of line ends that are none.
    pub bare_newlines: BareNewlines,
    /// Bounds on what a client may cost.
    pub limits: Limits,
}

/// What becomes of a CR or LF that stands alone in content (RFC 5321 §2.3.8). Passed on as they
/// are, other servers could take them for line ends and find commands in the content (SMTP
/// smuggling), so that is not offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BareNewlines {
    /// LF becomes CRLF, CR becomes a space: content of careless programs still gets through, and
    /// none of it can be taken for anything but content.
    #[default]
    Normalise,
    /// The message is refused, 554 5.6.0.
    Reject,
}

/// Bounds on what a client may cost. Each default has its reason beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Octets of a command line, CRLF included. RFC 5321 §4.5.3.1.4 asks for 512; SIZE, DSN
    /// (RFC 3461 §4), SMTPUTF8 and AUTH parameters add up to 1,300 more.
    pub command_line: usize,
    /// Octets of a line in an AUTH exchange (RFC 4954 §4 asks for 12,288).
    pub auth_line: usize,
    /// Octets of a message, as SIZE announces them (RFC 1870). 50 MiB: what other large providers
    /// take, with the overhead of base64.
    pub message_size: u64,
    /// Recipients of one message. RFC 5321 §4.5.3.1.8 asks for 100; mailing lists like 1,000.
    pub recipients: usize,
    /// Commands answered with 5yz before the session ends. 20: no honest client gets there, and
    /// somebody who guesses addresses has to reconnect, which connection limits slow down.
    pub errors: u32,
    /// Commands that lead nowhere (NOOP, RSET, VRFY, HELP, EHLO) in a row of one message.
    pub idle_commands: u32,
    /// The wait for a whole command line (RFC 5321 §4.5.3.2.7: 5 minutes). Half a line does not
    /// make it longer, so that nobody holds a session by a byte a minute.
    pub command_timeout: Duration,
    /// The wait for the next piece of content (RFC 5321 §4.5.3.2.5: 3 minutes).
    pub content_timeout: Duration,
    /// The wait for a message's whole content: 50 MiB at 14 KiB/s, a bad modem, is one hour.
    pub message_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            command_line: 2048,
            auth_line: 12_288,
            message_size: 50 * 1024 * 1024,
            recipients: 1000,
            errors: 20,
            idle_commands: 100,
            command_timeout: Duration::from_mins(5),
            content_timeout: Duration::from_mins(3),
            message_timeout: Duration::from_hours(1),
        }
    }
}

/// What a session can offer as things stand: with TLS, more.
#[derive(Debug, Clone, Default)]
pub struct Offer {
    /// TLS is on.
    pub encrypted: bool,
    /// STARTTLS is possible; counts only without TLS.
    pub starttls: bool,
    /// Names of SASL mechanisms, upper case, in the order in which EHLO lists them.
    pub mechanisms: Arc<[String]>,
}
