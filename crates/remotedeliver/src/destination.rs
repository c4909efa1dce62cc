//! Where a task is to go.

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
                host: host.host.parse().map_err(|_| wrong())?,
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

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Domain(domain) => domain.fmt(f),
            Self::SmartHost(host) => write!(f, "{}:{}", host.host, host.port),
        }
    }
}
