use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Duration, Size};

/// `[directoryd]`: domains, accounts, aliases and credentials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Directoryd {
    /// The folder of the directory's database.
    pub data_dir: PathBuf,
    /// Addresses of the Prometheus metrics page; none by default, since it has no access control.
    pub metrics: Vec<SocketAddr>,
    /// Where mail for `postmaster` of a domain goes that has no account or alias of that name
    /// (RFC 5321 §4.5.1 demands that it be taken). Empty: the domain's first account.
    pub postmaster: String,
    /// The cost of checking a password.
    pub argon2: Argon2,
    /// Iterations of SCRAM-SHA-256 for passwords set from now on (RFC 7677 §4: at least 4096). They
    /// cost the client, not the server.
    pub scram_iterations: u32,
    /// Passwords checked at once; each takes `argon2.memory`. 0: the number of processors.
    pub max_password_checks: usize,
    /// Checks that may wait for their turn; beyond them logins get a temporary failure.
    pub max_waiting_checks: usize,
    /// Accounts whose last right password is remembered, as a keyed hash in memory, so that a login
    /// costs argon2 once. 0 turns it off.
    pub password_cache: usize,
    /// How long a remembered password counts.
    pub password_cache_ttl: Duration,
    /// Failed logins from one IPv4 address or IPv6 /64 before further ones are refused until the
    /// count has decayed: one failure is forgotten each `failure_decay`. Loopback is not counted.
    pub max_failures_per_ip: u32,
    /// How long it takes to forget one failed login.
    pub failure_decay: Duration,
    /// The answer to a failed login waits so long, and longer with each failure in a row.
    pub failure_delay: Duration,
    /// The longest wait. An account is never locked: whoever has the right password gets in.
    pub max_failure_delay: Duration,
    /// Addresses and accounts whose failures are remembered; the oldest is forgotten first.
    pub max_tracked_failures: usize,
}

impl Default for Directoryd {
    fn default() -> Self {
        Self {
            data_dir: "directory".into(),
            metrics: Vec::new(),
            postmaster: String::new(),
            argon2: Argon2::default(),
            scram_iterations: 4096,
            max_password_checks: 0,
            max_waiting_checks: 1000,
            password_cache: 10_000,
            password_cache_ttl: Duration::from_secs(3600),
            max_failures_per_ip: 100,
            failure_decay: Duration::from_secs(6),
            failure_delay: Duration::from_secs(1),
            max_failure_delay: Duration::from_secs(8),
            max_tracked_failures: 100_000,
        }
    }
}

impl Directoryd {
    pub(crate) fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [&mut self.data_dir].into_iter()
    }
}

/// `[directoryd.argon2]`: cost of argon2id (RFC 9106) for passwords set from now on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Argon2 {
    /// Memory of one check.
    pub memory: Size,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Default for Argon2 {
    fn default() -> Self {
        // The second choice of the OWASP password storage cheat sheet; some 20 ms a check.
        Self {
            memory: Size::from_kib(19 * 1024),
            passes: 2,
            lanes: 1,
        }
    }
}
