use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// `[rpc]`: where the daemons find each other. An endpoint is `unix:PATH`, where a relative path
/// is under `run_dir`, or `https://HOST:PORT` with mutual TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rpc {
    /// The folder of the sockets.
    pub run_dir: PathBuf,
    /// directoryd: resolving addresses.
    pub directory: String,
    /// directoryd: logins.
    pub directory_auth: String,
    /// directoryd: changing accounts and aliases.
    pub directory_admin: String,
    /// queued: handing in mail.
    pub queue_submit: String,
    /// queued: taking tasks for delivery.
    pub queue_agent: String,
    /// queued: queue control.
    pub queue_admin: String,
    /// localdeliver: reading and changing mailboxes.
    pub mailbox: String,
    /// localdeliver: removing accounts' mail.
    pub mailbox_admin: String,
    /// Certificates for endpoints over TCP.
    pub tls: RpcTls,
}

impl Default for Rpc {
    fn default() -> Self {
        let socket = |name: &str| format!("unix:{name}.sock");
        Self {
            run_dir: "run".into(),
            directory: socket("directory"),
            directory_auth: socket("directory-auth"),
            directory_admin: socket("directory-admin"),
            queue_submit: socket("queue-submit"),
            queue_agent: socket("queue-agent"),
            queue_admin: socket("queue-admin"),
            mailbox: socket("mailbox"),
            mailbox_admin: socket("mailbox-admin"),
            tls: RpcTls::default(),
        }
    }
}

impl Rpc {
    pub(crate) fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let tls = &mut self.tls;
        [
            &mut self.run_dir,
            &mut tls.ca,
            &mut tls.certificate,
            &mut tls.key,
        ]
        .into_iter()
    }

    /// Puts relative sockets under `run_dir`.
    pub(crate) fn resolve_sockets(&mut self) {
        let run_dir = self.run_dir.clone();
        for endpoint in [
            &mut self.directory,
            &mut self.directory_auth,
            &mut self.directory_admin,
            &mut self.queue_submit,
            &mut self.queue_agent,
            &mut self.queue_admin,
            &mut self.mailbox,
            &mut self.mailbox_admin,
        ] {
            under(endpoint, &run_dir);
        }
    }
}

fn under(endpoint: &mut String, run_dir: &Path) {
    if let Some(path) = endpoint.strip_prefix("unix:").filter(|p| !p.is_empty()) {
        *endpoint = format!("unix:{}", run_dir.join(path).display());
    }
}

/// `[rpc.tls]`: the suite's own certificates, for endpoints over TCP. Both sides show theirs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RpcTls {
    /// PEM file of the authority that signed every daemon's certificate.
    pub ca: PathBuf,
    /// PEM file of this daemon's certificate.
    pub certificate: PathBuf,
    /// PEM file of this daemon's private key.
    pub key: PathBuf,
}
