use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::units::any_address;
use crate::{Duration, Size};

/// `[imapd]`: IMAP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Imapd {
    /// Addresses for IMAP with STARTTLS (RFC 3501 §6.2.1); empty turns it off.
    pub listen: Vec<SocketAddr>,
    /// Addresses for IMAP with TLS from the start (RFC 8314 §3.2); empty turns it off.
    pub listen_tls: Vec<SocketAddr>,
    /// Addresses of the Prometheus metrics page; none by default, since it has no access control.
    pub metrics: Vec<SocketAddr>,
    /// Connections at once over all services. IMAP clients keep several open for hours.
    pub max_connections: usize,
    /// Connections at once from one IPv4 address or one IPv6 /64; 0 is no limit. An office behind
    /// one address has many clients with several connections each. Loopback has no limit.
    pub max_connections_per_ip: usize,
    /// How long a client may be silent (RFC 3501 §5.4: at least 30 minutes).
    pub idle_timeout: Duration,
    /// How long a client may take to log in. Shorter than `idle_timeout`, since anybody can get here.
    pub login_timeout: Duration,
    /// The largest message that APPEND takes; not above `localdeliver.max_message_size`.
    pub max_message_size: Size,
    /// The largest command with its literals, without APPEND's message. Clients send long lists of
    /// UIDs; RFC 2683 §3.2.1.5 asks for at least 8,000 octets.
    pub max_command_size: Size,
    /// Memory for mailboxes that no session has selected just now, some octets a message: selecting
    /// one again asks only whether it has changed. 0 keeps none.
    pub mailbox_cache: Size,
    /// Wrong commands in a row before the connection ends.
    pub max_errors: u32,
}

impl Default for Imapd {
    fn default() -> Self {
        Self {
            listen: vec![any_address(143)],
            listen_tls: vec![any_address(993)],
            metrics: Vec::new(),
            max_connections: 10_000,
            max_connections_per_ip: 200,
            idle_timeout: Duration::from_secs(1800),
            login_timeout: Duration::from_secs(60),
            max_message_size: Size::from_mib(100),
            max_command_size: Size::from_kib(256),
            mailbox_cache: Size::from_mib(32),
            max_errors: 20,
        }
    }
}
