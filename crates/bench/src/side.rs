//! The servers that are measured.

pub(crate) mod correo;
pub(crate) mod dovecot;
mod kernel;
pub(crate) mod peers;
pub(crate) mod postfix;

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::load::Sample;
use crate::load::imap::Imap;
use crate::load::smtp::SmtpLoad;

/// The domain whose mail is delivered here.
pub(crate) const DOMAIN: &str = "example.org";
/// The domain whose mail goes to the sink.
pub(crate) const RELAY_DOMAIN: &str = "relay.example";
/// The password of all accounts.
pub(crate) const PASSWORD: &str = "benchmark-password";
/// Accounts that get mail, `user0` to `user99`.
pub(crate) const USERS: usize = 100;
/// Accounts for POP3, `pop0` to `pop7`.
pub(crate) const POP_USERS: usize = 8;
/// Accounts that have many times as many messages, `scale0` to `scale9`.
pub(crate) const SCALE_USERS: usize = 10;
/// The account with the large mailbox.
pub(crate) const BIG: &str = "big";

/// A mail server with all its parts.
pub(crate) trait Side {
    /// As tables show it.
    fn name(&self) -> &'static str;
    /// Where it takes mail.
    fn smtp(&self) -> SocketAddr;
    /// POP3.
    fn pop3(&self) -> SocketAddr;
    /// IMAP.
    fn imap(&self) -> SocketAddr;
    /// The processes that all others come from.
    fn roots(&self) -> Result<Vec<u32>>;
    /// From now on what is accepted stays in the queue.
    fn hold(&mut self) -> Result<()>;
    /// Ends that, and removes what is in the queue: mailboxes are not to differ between sides.
    fn clear(&mut self) -> Result<()>;
    /// Delivers messages into the store as directly as the server can, over 20 sessions.
    fn deliver(&mut self, messages: usize) -> Result<Sample>;
    /// The command that lists the queue.
    fn list(&self) -> Command;
    /// Stops the queue's part; nothing will be held when it starts again.
    fn stop_queue(&mut self) -> Result<()>;
    /// Starts the queue's part.
    fn start_queue(&mut self) -> Result<()>;
    /// Starts everything again, ready for many sessions that sleep.
    fn restart(&mut self) -> Result<()>;
    /// Starts what serves mailboxes again.
    fn restart_store(&mut self) -> Result<()>;
    /// The logs' ends, to go with a failure.
    fn logs(&self) -> String;
}

/// The address of a local part.
pub(crate) fn address(local: &str) -> String {
    format!("{local}@{DOMAIN}")
}

/// The addresses of numbered accounts.
pub(crate) fn addresses(prefix: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| address(&format!("{prefix}{number}")))
        .collect()
}

/// Messages for all users in turn, over sessions that stay open.
pub(crate) fn load(to: SocketAddr, sessions: usize, messages: usize, size: usize) -> SmtpLoad {
    SmtpLoad {
        to,
        sessions,
        messages,
        size,
        recipients: addresses("user", USERS),
        reconnect: false,
        lmtp: false,
    }
}

/// One session for each user, to see how much mail has arrived.
#[derive(Debug)]
pub(crate) struct Mailboxes {
    sessions: Vec<Imap>,
    counts: Vec<usize>,
}

impl Mailboxes {
    /// Logs in for all users.
    pub(crate) fn open(side: &dyn Side) -> Result<Self> {
        let mut sessions = Vec::with_capacity(USERS);
        for user in addresses("user", USERS) {
            sessions.push(Imap::login(side.imap(), &user, PASSWORD)?);
        }
        let mut mailboxes = Self {
            counts: vec![0; sessions.len()],
            sessions,
        };
        mailboxes.read()?;
        Ok(mailboxes)
    }

    fn read(&mut self) -> Result<()> {
        for (session, count) in self.sessions.iter_mut().zip(&mut self.counts) {
            *count = session.count("INBOX")?;
        }
        Ok(())
    }

    /// Waits until so many messages have come in turn to all users, and checks that each came
    /// once. What comes later than some patience is lost.
    pub(crate) fn wait(mut self, messages: usize, patience: Duration) -> Result<()> {
        let begun = Instant::now();
        let users = self.sessions.len();
        let before = self.counts.clone();
        for (number, session) in self.sessions.iter_mut().enumerate() {
            let more = messages / users + usize::from(number < messages % users);
            let expected = before.get(number).copied().unwrap_or(0) + more;
            loop {
                testkit::check_interrupt()?;
                let count = session.count("INBOX");
                match count {
                    Ok(count) if count == expected => break,
                    Ok(count) if count > expected => {
                        bail!("user{number} has {count} messages, not {expected}")
                    }
                    other if begun.elapsed() > patience => {
                        bail!("user{number} has {other:?} messages, not {expected}")
                    }
                    _ => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        }
        Ok(())
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| name.clone())?;
    if !output.status.success() {
        bail!("{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// The last lines of a file.
pub(crate) fn tail(file: &std::path::Path) -> String {
    let octets = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&octets);
    let lines: Vec<&str> = text.lines().collect();
    let last = lines
        .get(lines.len().saturating_sub(15)..)
        .unwrap_or_default();
    format!("== {}\n{}\n", file.display(), last.join("\n"))
}
