use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::units::any_address;
use crate::{Duration, Size};

/// `[pop3d]`: POP3.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pop3d {
    /// Addresses for POP3 with STLS (RFC 2595 §4); empty turns it off.
    pub listen: Vec<SocketAddr>,
    /// Addresses for POP3 with TLS from the start (RFC 8314 §3.2); empty turns it off.
    pub listen_tls: Vec<SocketAddr>,
    /// Addresses of the Prometheus metrics page; none by default, since it has no access control.
    pub metrics: Vec<SocketAddr>,
    /// Connections at once over all services.
    pub max_connections: usize,
    /// Connections at once from one IPv4 address or one IPv6 /64; 0 is no limit. So that one client
    /// cannot take all places. Loopback has no limit.
    pub max_connections_per_ip: usize,
    /// How long a client may be silent (RFC 1939 §3: at least 10 minutes).
    pub idle_timeout: Duration,
    /// How long a client may take to log in. Shorter than `idle_timeout`, since anybody can get here.
    pub login_timeout: Duration,
    /// Commands of one session that fail before it ends.
    pub max_errors: u32,
    /// Memory for messages that are read ahead of clients that fetch one after the other, all sessions
    /// together; each uses 256 KiB at most. Without room messages are read when they are asked for.
    pub read_ahead_memory: Size,
}

impl Default for Pop3d {
    fn default() -> Self {
        Self {
            listen: vec![any_address(110)],
            listen_tls: vec![any_address(995)],
            metrics: Vec::new(),
            max_connections: 10_000,
            max_connections_per_ip: 50,
            idle_timeout: Duration::from_secs(600),
            login_timeout: Duration::from_secs(120),
            max_errors: 20,
            read_ahead_memory: Size::from_mib(64),
        }
    }
}
