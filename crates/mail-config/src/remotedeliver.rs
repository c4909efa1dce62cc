use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Duration, Size};

/// `[remotedeliver]`: SMTP out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each one is a switch of its own"
)]
pub struct Remotedeliver {
    /// Addresses of the Prometheus metrics page; none by default, since it has no access control.
    pub metrics: Vec<SocketAddr>,
    /// The port of other domains' mail exchangers. Another one than 25 is for tests.
    pub smtp_port: u16,
    /// Name servers, as `192.0.2.53:53` or `[2001:db8::53]:53`. Empty: those of /etc/resolv.conf.
    pub name_servers: Vec<SocketAddr>,
    /// How long a name server may take for one answer; it is asked twice.
    pub dns_timeout: Duration,
    /// Deliver to IPv4 addresses.
    pub ipv4: bool,
    /// Deliver to IPv6 addresses.
    pub ipv6: bool,
    /// Addresses of this host to send from, at most one of each family; empty: the system chooses.
    pub source_addresses: Vec<IpAddr>,
    /// Messages that queued hands out to one remotedeliver at once.
    pub max_tasks: u32,
    /// Memory for the contents of these messages. Those over 64 KiB do not count, they are read
    /// piece by piece.
    pub max_memory: Size,
    /// Connections at once. Each costs a file handle and some ten KiB.
    pub max_connections: usize,
    /// Connections at once to one destination; many refuse more than this.
    pub destination_connections: usize,
    /// Messages over one connection before it is closed, so that a host behind a load balancer
    /// can move us; 0 is no limit.
    pub connection_messages: u32,
    /// How long a connection without work is kept for the next message. Long ones are a nuisance
    /// to the other side.
    pub idle_timeout: Duration,
    /// How long connecting to one address may take.
    pub connect_timeout: Duration,
    /// How long a server may take for its greeting or for the answer to a command (RFC 5321
    /// §4.5.3.2.1–3: 5 minutes).
    pub command_timeout: Duration,
    /// How long a server may take for a piece of the content (RFC 5321 §4.5.3.2.5: 3 minutes).
    pub data_timeout: Duration,
    /// How long a server may take for the answer to the whole message (RFC 5321 §4.5.3.2.6: 10
    /// minutes). Giving up too early means that the message is delivered twice.
    pub data_end_timeout: Duration,
    /// TLS with mail exchangers (RFC 3207).
    pub tls: RemoteTls,
    /// Domains whose mail exchangers must offer TLS with a valid certificate.
    pub tls_required: Vec<String>,
    /// PEM file with the authorities that count where certificates are checked. Empty: those of
    /// Mozilla's list.
    pub ca_file: PathBuf,
    /// Send content by BDAT where it is offered (RFC 3030): fewer round trips.
    pub chunking: bool,
    /// Send commands in groups where that is offered (RFC 2920): fewer round trips.
    pub pipelining: bool,
    /// Delivered recipients that are remembered, some 300 octets each: when queued dies before it
    /// has noted the result, the message is not sent again.
    pub remembered: usize,
    /// `[[remotedeliver.credentials]]`: passwords for smart hosts.
    pub credentials: Vec<RemoteCredentials>,
}

/// TLS with mail exchangers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RemoteTls {
    /// Never.
    None,
    /// Where it is offered, whatever the certificate; in the clear where it fails.
    #[default]
    Opportunistic,
    /// With a valid certificate, or not at all.
    Required,
}

/// `[[remotedeliver.credentials]]`: the password for a smart host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoteCredentials {
    /// What `credentials` of a `[[queued.route]]` says.
    pub key: String,
    /// A file that holds the password, and only it, in its first line.
    pub password_file: PathBuf,
    /// Send the password without a valid certificate too. A host on loopback never needs one.
    #[serde(default)]
    pub unverified: bool,
}

impl Default for Remotedeliver {
    fn default() -> Self {
        Self {
            metrics: Vec::new(),
            smtp_port: 25,
            name_servers: Vec::new(),
            dns_timeout: Duration::from_secs(5),
            ipv4: true,
            ipv6: true,
            source_addresses: Vec::new(),
            max_tasks: 1000,
            max_memory: Size::from_mib(64),
            max_connections: 500,
            destination_connections: 20,
            connection_messages: 1000,
            idle_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(30),
            command_timeout: Duration::from_secs(300),
            data_timeout: Duration::from_secs(180),
            data_end_timeout: Duration::from_secs(600),
            tls: RemoteTls::Opportunistic,
            tls_required: Vec::new(),
            ca_file: PathBuf::new(),
            chunking: true,
            pipelining: true,
            remembered: 20_000,
            credentials: Vec::new(),
        }
    }
}

impl Remotedeliver {
    pub(crate) fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let passwords = self.credentials.iter_mut().map(|c| &mut c.password_file);
        std::iter::once(&mut self.ca_file).chain(passwords)
    }
}
