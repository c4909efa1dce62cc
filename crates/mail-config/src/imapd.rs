use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::Duration;
use crate::units::any_address;

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
        }
    }
}
