use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Duration, Size};

/// `[queued]`: the queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Queued {
    /// The folder of the queue.
    pub data_dir: PathBuf,
    /// Addresses of the Prometheus metrics page; none by default, since it has no access control.
    pub metrics: Vec<SocketAddr>,
    /// New mail is refused with 452 4.3.1 when less room is left on the queue's file system:
    /// deliveries and reports of what is in the queue need some, too.
    pub min_free: Size,
    /// Memory for the storage engine's cache.
    pub cache: Size,
    /// Memory for messages that wait for their first attempt. Beyond it they are read again.
    pub memory: Size,
    /// Memory for messages that are coming in: half for those up to 64 KiB, which wait for room, and
    /// half for larger ones, 128 KiB each, which are refused for now where there is none.
    pub incoming_memory: Size,
    /// Messages of one front end that wait to be durable. They share flushes, so some hundred make
    /// full use of the disk.
    pub stream_window: usize,
    /// Recipients of one message; the front ends have their own, smaller limit.
    pub max_recipients: usize,
    /// The first wait after a failed attempt; it doubles with each further one.
    pub retry_min: Duration,
    /// The longest wait between two attempts.
    pub retry_max: Duration,
    /// When an undelivered message goes back to its sender (RFC 5321 §4.5.4.1: at least 4–5 days).
    pub lifetime: Duration,
    /// Attempts before that, however old a message seems to be: a clock that jumps ahead must not
    /// return all mail at once.
    pub min_attempts: u32,
    /// When the sender is told that his mail is late; `"0s"` is never.
    pub delay_warning: Duration,
    /// Tasks at once for one remote domain or host; many refuse more connections than this.
    pub destination_limit: usize,
    /// Tasks at once for the mailboxes here.
    pub local_limit: usize,
    /// Recipients in one task (RFC 5321 §4.5.3.1.8: every server takes 100).
    pub task_recipients: usize,
    /// Messages whose addresses are being resolved at once.
    pub routing_limit: usize,
    /// Addresses whose resolution is remembered, some 200 octets each.
    pub directory_cache: usize,
    /// How deep an alias may lead to aliases.
    pub alias_depth: usize,
    /// How many recipients the aliases of one message may add.
    pub alias_width: usize,
    /// The largest message that a report repeats whole; of others it repeats the header.
    pub report_content: Size,
    /// Who gets failures that cannot be told to a sender, since there is none. Empty: they are
    /// only logged.
    pub postmaster: String,
    /// `[[queued.route]]`: where mail for other systems goes. Domains without an entry go to
    /// their own mail exchangers.
    pub route: Vec<QueuedRoute>,
}

/// `[[queued.route]]`: the way of one domain's mail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueuedRoute {
    /// A domain, `.domain` for all domains below it, or `*` for all that have no other entry.
    pub domain: String,
    /// The host that takes the mail: a name or an address. Empty: the domain's own mail exchangers.
    #[serde(default)]
    pub host: String,
    /// TCP port.
    #[serde(default = "smtp_port")]
    pub port: u16,
    /// Whom to log in as; empty for nobody.
    #[serde(default)]
    pub username: String,
    /// Under which key remotedeliver finds the password.
    #[serde(default)]
    pub credentials: String,
    /// Connect with TLS at once instead of STARTTLS.
    #[serde(default)]
    pub implicit_tls: bool,
}

fn smtp_port() -> u16 {
    25
}

impl Default for Queued {
    fn default() -> Self {
        Self {
            data_dir: "queue".into(),
            metrics: Vec::new(),
            min_free: Size::from_mib(256),
            cache: Size::from_mib(64),
            memory: Size::from_mib(64),
            incoming_memory: Size::from_mib(128),
            stream_window: 1024,
            max_recipients: 20_000,
            retry_min: Duration::from_secs(60),
            retry_max: Duration::from_secs(4 * 3600),
            lifetime: Duration::from_secs(5 * 86_400),
            min_attempts: 5,
            delay_warning: Duration::from_secs(4 * 3600),
            destination_limit: 20,
            local_limit: 1000,
            task_recipients: 100,
            routing_limit: 256,
            directory_cache: 100_000,
            alias_depth: 20,
            alias_width: 10_000,
            report_content: Size::from_kib(256),
            postmaster: String::new(),
            route: Vec::new(),
        }
    }
}

impl Queued {
    pub(crate) fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [&mut self.data_dir].into_iter()
    }
}
