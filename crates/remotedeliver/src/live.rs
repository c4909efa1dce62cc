//! What deliveries take from the configuration, checked.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use mail_config::{Config, RemoteCredentials, RemoteTls, Remotedeliver};
use mail_types::{Domain, EnhancedCode, Outcome, Secret};
use smtp_proto::client::{Settings, Timeouts, TlsPolicy};

use crate::connection::{Opener, Plan};
use crate::destination::{Destination, SmartHost};
use crate::dns::{Dns, DnsSettings};
use crate::own::OwnHost;
use crate::route::Candidate;
use crate::tls::TlsClient;

/// The configuration of deliveries; replaced as a whole at a reload.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) dns: Dns,
    pub(crate) own: OwnHost,
    pub(crate) opener: Opener,
    pub(crate) smtp_port: u16,
    pub(crate) connection_messages: u32,
    pub(crate) idle_timeout: Duration,
    tls: RemoteTls,
    tls_required: HashSet<Domain>,
    credentials: HashMap<String, Credentials>,
}

#[derive(Debug)]
struct Credentials {
    password: Secret<Vec<u8>>,
    unverified: bool,
}

/// Whom to log in as.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) username: String,
    pub(crate) password: Secret<Vec<u8>>,
}

impl Live {
    pub(crate) fn new(config: &Config) -> anyhow::Result<Self> {
        let remote = &config.remotedeliver;
        let dns = DnsSettings {
            name_servers: remote.name_servers.clone(),
            timeout: *remote.dns_timeout,
            ipv4: remote.ipv4,
            ipv6: remote.ipv6,
        };
        let required = remote.tls_required.iter().map(|domain| {
            domain
                .parse()
                .with_context(|| format!("remotedeliver.tls_required: {domain}"))
        });
        Ok(Self {
            dns: Dns::new(&dns).context("cannot set up name resolution")?,
            own: OwnHost::new(
                config.server.hostname.clone(),
                config.smtpd.mx.listen.clone(),
            ),
            opener: Opener {
                settings: Arc::new(settings(config)),
                tls: TlsClient::new(&remote.ca_file)?,
                connect_timeout: *remote.connect_timeout,
                sources: remote.source_addresses.clone(),
            },
            smtp_port: remote.smtp_port,
            connection_messages: remote.connection_messages,
            idle_timeout: *remote.idle_timeout,
            tls: remote.tls,
            tls_required: required.collect::<anyhow::Result<_>>()?,
            credentials: credentials(remote)?,
        })
    }

    /// How to talk to a server of the destination. The error is the outcome for all recipients.
    pub(crate) fn plan(
        &self,
        destination: &Destination,
        candidate: &Candidate,
    ) -> Result<Plan, Outcome> {
        match destination {
            Destination::Domain(domain) => {
                let (tls, verify) = self.tls_for(domain);
                Ok(Plan {
                    tls,
                    verify,
                    implicit_tls: false,
                    account: None,
                })
            }
            Destination::SmartHost(host) if host.username.is_empty() => {
                let (tls, verify) = self.tls_for(&host.host);
                Ok(Plan {
                    tls,
                    verify,
                    implicit_tls: host.implicit_tls,
                    account: None,
                })
            }
            Destination::SmartHost(host) => self.plan_with_login(host, candidate),
        }
    }

    fn plan_with_login(&self, host: &SmartHost, candidate: &Candidate) -> Result<Plan, Outcome> {
        let Some(credentials) = self.credentials.get(&host.credentials) else {
            // The operator can mend that while the mail waits.
            return Err(Outcome::local(
                EnhancedCode::SYSTEM_TROUBLE,
                format!(
                    "no remotedeliver.credentials with key \"{}\" for {}",
                    host.credentials, host.host
                ),
            ));
        };
        let loopback = candidate.address.ip().is_loopback();
        let (by_domain, verify_by_domain) = self.tls_for(&host.host);
        Ok(Plan {
            // A password is told to nobody who listens or pretends.
            tls: if loopback {
                by_domain
            } else {
                TlsPolicy::Required
            },
            verify: verify_by_domain || !(loopback || credentials.unverified),
            implicit_tls: host.implicit_tls,
            account: Some(Account {
                username: host.username.clone(),
                password: credentials.password.clone(),
            }),
        })
    }

    fn tls_for(&self, domain: &Domain) -> (TlsPolicy, bool) {
        if self.tls_required.contains(domain) {
            return (TlsPolicy::Required, true);
        }
        match self.tls {
            RemoteTls::None => (TlsPolicy::None, false),
            RemoteTls::Opportunistic => (TlsPolicy::Opportunistic, false),
            RemoteTls::Required => (TlsPolicy::Required, true),
        }
    }
}

fn settings(config: &Config) -> Settings {
    let remote = &config.remotedeliver;
    Settings {
        chunking: remote.chunking,
        pipelining: remote.pipelining,
        timeouts: Timeouts {
            greeting: *remote.command_timeout,
            command: *remote.command_timeout,
            data_start: *remote.command_timeout,
            data_block: *remote.data_timeout,
            data_end: *remote.data_end_timeout,
            ..Timeouts::default()
        },
        ..Settings::new(config.server.hostname.to_string())
    }
}

fn credentials(remote: &Remotedeliver) -> anyhow::Result<HashMap<String, Credentials>> {
    let entries = remote.credentials.iter().map(|entry| {
        let RemoteCredentials {
            key,
            password_file,
            unverified,
        } = entry;
        let credentials = Credentials {
            password: read_password(password_file)
                .with_context(|| format!("remotedeliver.credentials \"{key}\""))?,
            unverified: *unverified,
        };
        Ok((key.clone(), credentials))
    });
    entries.collect()
}

fn read_password(file: &Path) -> anyhow::Result<Secret<Vec<u8>>> {
    let content =
        Secret::new(fs::read(file).with_context(|| format!("cannot read {}", file.display()))?);
    let line = content.expose().split(|byte| *byte == b'\n').next();
    let line = line.unwrap_or_default();
    let password = line.strip_suffix(b"\r").unwrap_or(line);
    sasl::prepare_password(password)
        .with_context(|| format!("{}: not usable as a password", file.display()))
}
