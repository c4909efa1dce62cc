//! Questions to name servers.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::{Resolver, ResolverBuilder, TokioResolver};
use tracing::warn;

/// Answers that are kept, by the number of records' sets: some MiB.
const CACHE_SIZE: u64 = 10_000;

/// Asks name servers and remembers what they said for as long as they allow.
#[derive(Clone)]
pub(crate) struct Dns {
    resolver: TokioResolver,
    ipv4: bool,
    ipv6: bool,
}

/// Where to ask and for what.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DnsSettings {
    /// Empty: those of the system.
    pub(crate) name_servers: Vec<SocketAddr>,
    pub(crate) timeout: Duration,
    pub(crate) ipv4: bool,
    pub(crate) ipv6: bool,
}

/// One mail exchanger. An empty name is the root, "." (RFC 7505 §3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exchanger {
    pub(crate) preference: u16,
    pub(crate) name: String,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DnsError {
    /// The name servers failed or were silent: nothing is known.
    #[error("{0}")]
    Failed(String),
    /// There is no such name (NXDOMAIN).
    #[error("there is no such name")]
    NoName,
    /// The name exists and has no such record.
    #[error("there is no such record")]
    NoRecord,
}

impl Dns {
    pub(crate) fn new(settings: &DnsSettings) -> anyhow::Result<Self> {
        let mut builder = if settings.name_servers.is_empty() {
            TokioResolver::builder_tokio().unwrap_or_else(|error| {
                // As resolver(5) has it: without that file, this machine's own name server.
                warn!(%error, "cannot use /etc/resolv.conf, asking 127.0.0.1");
                asking(&[SocketAddr::from(([127, 0, 0, 1], 53))])
            })
        } else {
            asking(&settings.name_servers)
        };
        tune(builder.options_mut(), settings.timeout);
        Ok(Self {
            resolver: builder.build()?,
            ipv4: settings.ipv4,
            ipv6: settings.ipv6,
        })
    }

    /// The domain's mail exchangers, in no order; aliases are followed.
    pub(crate) async fn exchangers(&self, domain: &str) -> Result<Vec<Exchanger>, DnsError> {
        let lookup = self
            .resolver
            .mx_lookup(absolute(domain))
            .await
            .map_err(cause)?;
        let exchangers = lookup
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::MX(mx) => Some(Exchanger {
                    preference: mx.preference,
                    name: relative(&mx.exchange.to_ascii()),
                }),
                _ => None,
            });
        non_empty(exchangers.collect())
    }

    /// The host's addresses, IPv6 first as RFC 6724 §2.1 has it; aliases are followed.
    pub(crate) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        let name = absolute(host);
        let v6 = async {
            if !self.ipv6 {
                return Err(DnsError::NoRecord);
            }
            addresses(self.resolver.ipv6_lookup(name.clone()).await)
        };
        let v4 = async {
            if !self.ipv4 {
                return Err(DnsError::NoRecord);
            }
            addresses(self.resolver.ipv4_lookup(name.clone()).await)
        };
        match tokio::join!(v6, v4) {
            (Ok(mut v6), Ok(v4)) => {
                v6.extend(v4);
                Ok(v6)
            }
            (Ok(found), Err(_)) | (Err(_), Ok(found)) => Ok(found),
            // What is not known weighs more than what is known not to be.
            (Err(failed @ DnsError::Failed(_)), _) | (_, Err(failed @ DnsError::Failed(_))) => {
                Err(failed)
            }
            (Err(DnsError::NoName), _) | (_, Err(DnsError::NoName)) => Err(DnsError::NoName),
            (Err(error), Err(_)) => Err(error),
        }
    }
}

impl std::fmt::Debug for Dns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dns").finish_non_exhaustive()
    }
}

fn asking(servers: &[SocketAddr]) -> ResolverBuilder<TokioRuntimeProvider> {
    let servers = servers.iter().map(|at| name_server(*at));
    let config = ResolverConfig::from_name_servers(servers.collect());
    Resolver::builder_with_config(config, TokioRuntimeProvider::default())
}

fn tune(options: &mut ResolverOpts, timeout: Duration) {
    options.timeout = timeout;
    options.attempts = 2;
    options.cache_size = CACHE_SIZE;
    options.edns0 = true;
    // A host that was mended is to get its mail within the minute, whatever its zone says.
    options.negative_max_ttl = Some(Duration::from_mins(1));
}

fn name_server(at: SocketAddr) -> NameServerConfig {
    let over = |protocol| {
        let mut connection = ConnectionConfig::new(protocol);
        connection.port = at.port();
        connection
    };
    let connections = vec![over(ProtocolConfig::Udp), over(ProtocolConfig::Tcp)];
    NameServerConfig::new(at.ip(), true, connections)
}

/// With the dot behind it no search list is used.
fn absolute(name: &str) -> String {
    format!("{name}.")
}

fn relative(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn addresses(lookup: Result<Lookup, NetError>) -> Result<Vec<IpAddr>, DnsError> {
    let lookup = lookup.map_err(cause)?;
    let addresses = lookup
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
            _ => None,
        });
    non_empty(addresses.collect())
}

fn non_empty<T>(found: Vec<T>) -> Result<Vec<T>, DnsError> {
    if found.is_empty() {
        Err(DnsError::NoRecord)
    } else {
        Ok(found)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn cause(error: NetError) -> DnsError {
    if error.is_nx_domain() {
        DnsError::NoName
    } else if error.is_no_records_found() {
        DnsError::NoRecord
    } else {
        DnsError::Failed(error.to_string())
    }
}
