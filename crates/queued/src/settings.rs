use std::time::Duration;

use mail_types::{Domain, EmailAddress};

use crate::routes::RouteTable;

/// How the queue behaves. `correo.toml` has the defaults and their reasons.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name in reports.
    pub hostname: Domain,
    /// The first wait after a failed attempt.
    pub retry_min: Duration,
    /// The longest wait between attempts.
    pub retry_max: Duration,
    /// When an undelivered message goes back to its sender.
    pub lifetime: Duration,
    /// Attempts before that, however old a message seems to be: a clock that jumps ahead must not
    /// return all mail.
    pub min_attempts: u32,
    /// When the sender is told of a delay; zero is never.
    pub delay_warning: Duration,
    /// Tasks at once for one remote destination.
    pub destination_limit: usize,
    /// Tasks at once for the mailboxes here.
    pub local_limit: usize,
    /// Recipients in one task.
    pub task_recipients: usize,
    /// Messages whose addresses are being resolved at once.
    pub routing_limit: usize,
    /// Octets of messages kept in memory for their first attempt.
    pub memory: usize,
    /// Octets of messages that are coming in.
    pub incoming_memory: usize,
    /// Messages of one stream that wait to be durable.
    pub stream_window: usize,
    /// Recipients of one message.
    pub max_recipients: usize,
    /// How deep an alias may lead to aliases.
    pub alias_depth: usize,
    /// How many recipients the aliases of one message may add.
    pub alias_width: usize,
    /// How much of a message a report may repeat, in octets.
    pub report_content: usize,
    /// Who gets the reports that nobody can get; nobody if `None`.
    pub postmaster: Option<EmailAddress>,
    /// Where mail for other systems goes.
    pub routes: RouteTable,
}
