//! Where a task is to go.

use std::net::IpAddr;

use mail_rpc::convert::ConvertError;
use mail_rpc::pb::queue::v1 as pb;
use mail_types::Domain;

/// Connections to equal destinations are interchangeable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Destination {
    /// A domain, by its mail exchangers, or an address literal.
    Domain(Domain),
    /// A certain host.
    SmartHost(SmartHost),
}

/// A host that takes mail for others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SmartHost {
    pub(crate) host: Domain,
    pub(crate) port: u16,
    /// Log in as; empty: do not.
    pub(crate) username: String,
    /// The password's key.
    pub(crate) credentials: String,
    pub(crate) implicit_tls: bool,
}

impl TryFrom<pb::SmtpDestination> for Destination {
    type Error = ConvertError;

    fn try_from(destination: pb::SmtpDestination) -> Result<Self, ConvertError> {
        let wrong = || ConvertError::new("destination");
        match destination.target.ok_or_else(wrong)? {
            pb::smtp_destination::Target::Domain(domain) => {
                Ok(Self::Domain(domain.parse().map_err(|_| wrong())?))
            }
            pb::smtp_destination::Target::SmartHost(host) => Ok(Self::SmartHost(SmartHost {
                host: host_name(&host.host).ok_or_else(wrong)?,
                port: u16::try_from(host.port)
                    .ok()
                    .filter(|port| *port > 0)
                    .ok_or_else(wrong)?,
                username: host.username,
                credentials: host.credentials,
                implicit_tls: host.implicit_tls,
            })),
        }
    }
}

/// A name, or an address with or without its brackets: no name looks like one, and to ask the DNS
/// for it would only have mail wait.
fn host_name(text: &str) -> Option<Domain> {
    match text.parse::<IpAddr>() {
        Ok(ip) => Some(ip.into()),
        Err(_) => text.parse().ok(),
    }
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Domain(domain) => domain.fmt(f),
            Self::SmartHost(host) => write!(f, "{}:{}", host.host, host.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smart_hosts_by_name_and_by_address() {
        let literal = |text: &str| host_name(text).unwrap().literal();
        let v4: IpAddr = "192.0.2.1".parse().unwrap();
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        assert_eq!(literal("192.0.2.1"), Some(v4));
        assert_eq!(literal("[192.0.2.1]"), Some(v4));
        assert_eq!(literal("2001:db8::1"), Some(v6));
        assert_eq!(literal("[IPv6:2001:db8::1]"), Some(v6));
        assert_eq!(literal("relay.example.net"), None);
        assert_eq!(host_name("no host"), None);
    }
}
