use std::path::PathBuf;

use mail_types::Domain;
use serde::{Deserialize, Serialize};

use crate::Duration;
use crate::units::{constant, text};

/// `[server]`: what this server is called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// The name that this host says in greetings, in EHLO and in `Received` fields. It should have
    /// an address record that leads back here (RFC 5321 §2.3.5), since many servers check that.
    #[serde(with = "text")]
    pub hostname: Domain,
    /// The domain that unqualified names get, such as `root` in a classic telnet session.
    #[serde(with = "text")]
    pub domain: Domain,
    /// How long sessions and deliveries may go on after SIGTERM before they are cut.
    pub grace: Duration,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            hostname: constant("localhost"),
            domain: constant("localhost"),
            grace: Duration::from_secs(30),
        }
    }
}

/// `[tls]`: the certificate that mail clients see.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// PEM file with the certificate and the chain up to its root. Empty: no TLS at all.
    pub certificate: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

impl Tls {
    pub(crate) fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [&mut self.certificate, &mut self.key].into_iter()
    }
}

/// `[log]`: what is logged and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// A level (`error`, `warn`, `info`, `debug`, `trace`), or a filter in the syntax of
    /// `tracing_subscriber::EnvFilter`, such as `info,smtpd=debug`.
    pub filter: String,
    /// The form of a line.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}
