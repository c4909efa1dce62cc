use std::time::Duration;

/// What one client may use, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Octets of one command with its literals, without the message of APPEND. Clients send UID
    /// sets of tens of kilobytes; RFC 2683 §3.2.1.5 asks for at least 8,000.
    pub command: usize,
    /// The same before login: a name and a password, or SASL messages.
    pub command_before_login: usize,
    /// Octets of a message in APPEND.
    pub message: u64,
    /// Octets that are read and thrown away where a client sent too much without asking (RFC 7888
    /// §4). Past this reading on costs more than a new connection.
    pub discard: u64,
    /// Wrong commands in a row before the connection ends: a client that understands nothing, or
    /// no IMAP client.
    pub bad_commands: u32,
    /// How long login may take from the beginning: a person does not type it.
    pub login_timeout: Duration,
    /// How long a logged-in client may be silent (RFC 3501 §5.4: at least 30 minutes).
    pub idle_timeout: Duration,
    /// How long a command may remain unfinished without a further octet: a slow line, not a
    /// person.
    pub command_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            command: 256 * 1024,
            command_before_login: 16 * 1024,
            message: 50 * 1024 * 1024,
            discard: 64 * 1024 * 1024,
            bad_commands: 20,
            login_timeout: Duration::from_mins(1),
            idle_timeout: Duration::from_mins(30),
            command_timeout: Duration::from_mins(2),
        }
    }
}
