//! The load clients on their own: `correo-bench smtp`, against whatever listens.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};

use super::Sample;
use super::mixed::MixedLoad;
use super::pop3::RetrLoad;
use super::smtp::SmtpLoad;

/// One load; its sample is printed as a line of JSON.
#[derive(Debug, Subcommand)]
pub(crate) enum Load {
    /// Fetch, list, set flags and append over IMAP, one session for each user
    #[command(after_help = "Example: correo-bench imap --to localhost:2143 \
        --users 'user{0..19}@example.org' --password secret --seconds 10")]
    Imap {
        #[command(flatten)]
        mailboxes: Mailboxes,
        /// How long
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    /// Fetch messages over POP3, one session for each user
    #[command(after_help = "Example: correo-bench pop3 --to localhost:2110 \
        --users 'pop{0..7}@example.org' --password secret --messages 1000 --depth 20")]
    Pop3 {
        #[command(flatten)]
        mailboxes: Mailboxes,
        /// Messages of each mailbox, which have to be there
        #[arg(long)]
        messages: usize,
        /// Commands under way at once
        #[arg(long, default_value_t = 20)]
        depth: usize,
    },
    /// Send messages over SMTP, to the users in turn; each counts at its 250
    #[command(
        after_help = "Example: correo-bench smtp --to localhost:2025 --sessions 20 \
        --messages 5000 --size 4096 --users 'user{0..99}@example.org'"
    )]
    Smtp {
        /// HOST:PORT
        #[arg(long, value_parser = resolve)]
        to: SocketAddr,
        /// Connections at once
        #[arg(long, default_value_t = 20)]
        sessions: usize,
        /// Messages in all
        #[arg(long, default_value_t = 5000)]
        messages: usize,
        /// Octets of a message
        #[arg(long, default_value_t = 4096)]
        size: usize,
        /// Recipients, such as user{0..99}@example.org
        #[arg(long)]
        users: String,
        /// A connection for each message
        #[arg(long)]
        reconnect: bool,
        /// LMTP in place of SMTP
        #[arg(long)]
        lmtp: bool,
    },
}

/// Where mail is read.
#[derive(Debug, Args)]
pub(crate) struct Mailboxes {
    /// HOST:PORT
    #[arg(long, value_parser = resolve)]
    to: SocketAddr,
    /// Logins, such as user{0..99}@example.org
    #[arg(long)]
    users: String,
    /// The password of all
    #[arg(long)]
    password: String,
}

impl Load {
    /// Runs it and prints what came of it.
    pub(crate) fn run(self) -> Result<()> {
        let sample = match self {
            Self::Imap { mailboxes, seconds } => MixedLoad {
                server: mailboxes.to,
                logins: expand(&mailboxes.users)?,
                password: mailboxes.password,
                lasts: Duration::from_secs(seconds),
            }
            .run(),
            Self::Pop3 {
                mailboxes,
                messages,
                depth,
            } => RetrLoad {
                server: mailboxes.to,
                logins: expand(&mailboxes.users)?,
                password: mailboxes.password,
                depth: depth.max(1),
                messages,
            }
            .run(),
            Self::Smtp {
                to,
                sessions,
                messages,
                size,
                users,
                reconnect,
                lmtp,
            } => SmtpLoad {
                to,
                sessions,
                messages,
                size,
                recipients: expand(&users)?,
                reconnect,
                lmtp,
            }
            .run(),
        };
        print(&sample?);
        Ok(())
    }
}

#[expect(clippy::print_stdout, reason = "the sample is what the command is for")]
fn print(sample: &Sample) {
    let line = serde_json::json!({
        "operations": sample.operations,
        "seconds": sample.took.as_secs_f64(),
        "rate": sample.rate(),
        "p50_ms": sample.percentile(0.5),
        "p99_ms": sample.percentile(0.99),
    });
    println!("{line}");
}

fn resolve(text: &str) -> Result<SocketAddr, String> {
    let mut found = text.to_socket_addrs().map_err(|error| error.to_string())?;
    found.next().ok_or_else(|| "it has no address".to_owned())
}

/// `a{1..3}b` is a1b, a2b and a3b; commas separate.
fn expand(users: &str) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for pattern in users.split(',').filter(|pattern| !pattern.is_empty()) {
        let Some((before, rest)) = pattern.split_once('{') else {
            all.push(pattern.to_owned());
            continue;
        };
        let wrong = || format!("{pattern}: a range is written {{0..99}}");
        let (range, after) = rest.split_once('}').with_context(wrong)?;
        let (first, last) = range.split_once("..").with_context(wrong)?;
        let first: usize = first.parse().with_context(wrong)?;
        let last: usize = last.parse().with_context(wrong)?;
        all.extend((first..=last).map(|number| format!("{before}{number}{after}")));
    }
    ensure!(!all.is_empty(), "there is no user in {users:?}");
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_by_range() {
        let all = expand("ana@x.test,u{8..10}@x.test").unwrap();
        assert_eq!(all, ["ana@x.test", "u8@x.test", "u9@x.test", "u10@x.test"]);
        for wrong in ["", ",", "u{1..", "u{1}", "u{a..b}", "u{3..1}"] {
            assert!(expand(wrong).is_err(), "{wrong}");
        }
    }
}
