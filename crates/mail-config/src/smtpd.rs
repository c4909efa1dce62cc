use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::units::any_address;
use crate::{Duration, Size};

/// `[smtpd]`: SMTP in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Smtpd {
    /// Mail from other servers (RFC 5321), port 25.
    pub mx: Mx,
    /// Mail from our users with STARTTLS (RFC 6409), port 587.
    pub submission: Submission,
    /// Mail from our users with TLS from the start (RFC 8314 §3.3), port 465.
    pub submissions: Submissions,
    /// Addresses of the Prometheus metrics page; none by default, since it has no access control.
    pub metrics: Vec<SocketAddr>,
    /// Connections at once over all services. Each costs a file handle and some ten KiB.
    pub max_connections: usize,
    /// Connections at once from one IPv4 address or one IPv6 /64; 0 is no limit. So that one client
    /// cannot take all places. Loopback has no limit.
    pub max_connections_per_ip: usize,
    /// The largest message; told in EHLO (RFC 1870).
    pub max_message_size: Size,
    /// Recipients of one message; at least 100 (RFC 5321 §4.5.3.1.8).
    pub max_recipients: usize,
    /// How long a client may take for its next command (RFC 5321 §4.5.3.2.7: 5 minutes).
    pub command_timeout: Duration,
    /// How long a client may take for its next piece of a message (RFC 5321 §4.5.3.2.5: 3 minutes).
    pub data_timeout: Duration,
    /// Networks whose hosts may relay without a login, as `192.0.2.0/24` or `2001:db8::/32`. None by
    /// default: nobody relays who has not logged in.
    pub relay_networks: Vec<String>,
    /// How long a client may take for a whole message: the largest one at 14 KiB/s.
    pub message_timeout: Duration,
    /// Commands of one session that are refused for good before it ends: nobody honest gets there,
    /// and guessing addresses gets slow.
    pub max_errors: u32,
    /// `Received` fields of one message before it counts as going in a circle (RFC 5321 §6.3 asks
    /// for at least 100).
    pub max_hops: usize,
    /// Memory for messages that are coming in, all sessions together. A message takes at most some
    /// 64 KiB of it at a time; without room a client waits, and after a while gets 452.
    pub max_memory: Size,
    /// Users may only send from their own address and from aliases that lead to them alone.
    pub restrict_sender: bool,
    /// A CR or LF that stands alone in a message.
    pub bare_newlines: BareNewlines,
    /// Addresses whose resolution is remembered, some 200 octets each.
    pub directory_cache: usize,
}

/// What becomes of a CR or LF that stands alone in a message. Never handed on as it is: other
/// servers could take it for the end of the message (SMTP smuggling).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BareNewlines {
    /// LF becomes CRLF, CR becomes a space.
    #[default]
    Normalise,
    /// The message is refused.
    Reject,
}

impl Default for Smtpd {
    fn default() -> Self {
        Self {
            mx: Mx::default(),
            submission: Submission::default(),
            submissions: Submissions::default(),
            metrics: Vec::new(),
            max_connections: 10_000,
            max_connections_per_ip: 50,
            max_message_size: Size::from_mib(50),
            max_recipients: 1000,
            command_timeout: Duration::from_secs(300),
            data_timeout: Duration::from_secs(180),
            relay_networks: Vec::new(),
            message_timeout: Duration::from_secs(3600),
            max_errors: 20,
            max_hops: 100,
            max_memory: Size::from_mib(256),
            restrict_sender: true,
            bare_newlines: BareNewlines::Normalise,
            directory_cache: 100_000,
        }
    }
}

// A type each, since the default addresses differ and a table in the file that leaves `listen` out
// must still get them.
macro_rules! services {
    ($($(#[$doc:meta])* $name:ident = $port:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            /// Addresses to listen on; empty turns the service off.
            pub listen: Vec<SocketAddr>,
        }

        impl Default for $name {
            fn default() -> Self {
                Self { listen: vec![any_address($port)] }
            }
        }
    )*};
}

services! {
    /// `[smtpd.mx]`: mail from other servers.
    Mx = 25;
    /// `[smtpd.submission]`: mail from our users, STARTTLS.
    Submission = 587;
    /// `[smtpd.submissions]`: mail from our users, TLS from the start.
    Submissions = 465;
}
