//! Strict settings structs of the one `correo.toml`, a file for each table.
//!
//! # Adding an option
//!
//! 1. A field in the table's struct, with a doc comment: unit, reason; and its value in `Default`.
//!    Durations are [`Duration`], sizes [`Size`]; what is off is an empty list or text or 0, so that
//!    every option has a default that can be written down.
//! 2. A line in `deploy/etc/correo.toml`: `#name = default` (no space behind the `#`), above it the
//!    explanation in lines that begin with `# `. A test compares both.
//! 3. A path goes into its table's `paths_mut` too: relative ones are put under `home` at loading.
//!
//! The structs are plain data. What is to be checked beyond a value's own form, the daemon checks.

mod directoryd;
mod error;
mod imapd;
mod load;
mod localdeliver;
mod pop3d;
mod queued;
mod remotedeliver;
mod rpc;
mod schema;
mod server;
mod smtpd;
mod units;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use directoryd::{Argon2, Directoryd};
pub use error::ConfigError;
pub use imapd::Imapd;
pub use load::{FILE_NAME, Source};
pub use localdeliver::Localdeliver;
pub use pop3d::Pop3d;
pub use queued::{Queued, QueuedRoute};
pub use remotedeliver::{RemoteCredentials, RemoteTls, Remotedeliver};
pub use rpc::{Rpc, RpcTls};
pub use server::{Log, LogFormat, Server, Tls};
pub use smtpd::{BareNewlines, Mx, Smtpd, Submission, Submissions};
pub use units::{Duration, Size, UnitError};

/// The whole of `correo.toml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The folder under which relative paths are. Empty in the file means: the file's own folder.
    pub home: PathBuf,
    /// `[server]`: what this server is called.
    pub server: Server,
    /// `[tls]`: the certificate that mail clients see.
    pub tls: Tls,
    /// `[log]`: what is logged and how.
    pub log: Log,
    /// `[rpc]`: where the daemons find each other.
    pub rpc: Rpc,
    /// `[smtpd]`
    pub smtpd: Smtpd,
    /// `[queued]`
    pub queued: Queued,
    /// `[localdeliver]`
    pub localdeliver: Localdeliver,
    /// `[remotedeliver]`
    pub remotedeliver: Remotedeliver,
    /// `[pop3d]`
    pub pop3d: Pop3d,
    /// `[imapd]`
    pub imapd: Imapd,
    /// `[directoryd]`
    pub directoryd: Directoryd,
}

impl Config {
    /// The whole configuration as a file that sets every option.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        self.tls
            .paths_mut()
            .chain(self.rpc.paths_mut())
            .chain(self.queued.paths_mut())
            .chain(self.localdeliver.paths_mut())
            .chain(self.remotedeliver.paths_mut())
            .chain(self.directoryd.paths_mut())
    }
}
