use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use testkit::{Daemon, Suite};

use super::{
    BIG, DOMAIN, Mailboxes, PASSWORD, POP_USERS, RELAY_DOMAIN, SCALE_USERS, Side, USERS, load,
};
use crate::load::Sample;
use crate::load::sink::Sink;

/// How long the queue may take to get empty.
const PATIENCE: Duration = Duration::from_mins(10);

/// Correo with its defaults, but for the domain, the ports and the smart host.
#[derive(Debug)]
pub(crate) struct Correo {
    suite: Suite,
    programs: PathBuf,
}

impl Correo {
    /// Starts all daemons and makes the accounts.
    pub(crate) fn start(programs: PathBuf, sink: &Sink) -> Result<Self> {
        let route = format!(
            "route = [{{ domain = \"{RELAY_DOMAIN}\", host = \"[{}]\", port = {} }}]",
            sink.address().ip(),
            sink.address().port()
        );
        let mut builder = Suite::of(DOMAIN)
            .option("queued", &route)
            .option("smtpd", "relay_networks = [\"127.0.0.0/8\"]")
            .option("smtpd", "max_connections = 20000")
            .option("imapd", "max_connections = 20000");
        for number in 0..USERS {
            builder = builder.account(&format!("user{number}"), PASSWORD);
        }
        for number in 0..POP_USERS {
            builder = builder.account(&format!("pop{number}"), PASSWORD);
        }
        for number in 0..SCALE_USERS {
            builder = builder.account(&format!("scale{number}"), PASSWORD);
        }
        let suite = builder.account(BIG, PASSWORD).start()?;
        Ok(Self { suite, programs })
    }

    fn is_running(&self, daemon: Daemon) -> bool {
        self.suite.pid(daemon).is_ok()
    }

    fn waiting(&self) -> Result<usize> {
        let output = self.list().output()?;
        if !output.status.success() {
            bail!(
                "correo queue list: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(memchr::memchr_iter(b'\n', &output.stdout).count())
    }
}

impl Side for Correo {
    fn name(&self) -> &'static str {
        "Correo"
    }

    fn smtp(&self) -> SocketAddr {
        self.suite.at(self.suite.ports().smtp)
    }

    fn pop3(&self) -> SocketAddr {
        self.suite.at(self.suite.ports().pop3)
    }

    fn imap(&self) -> SocketAddr {
        self.suite.at(self.suite.ports().imap)
    }

    fn roots(&self) -> Result<Vec<u32>> {
        let running = Daemon::ALL
            .into_iter()
            .filter(|daemon| self.is_running(*daemon));
        running.map(|daemon| self.suite.pid(daemon)).collect()
    }

    /// Without an agent for mailboxes mail waits, as it does while that one is stopped for work.
    fn hold(&mut self) -> Result<()> {
        if self.is_running(Daemon::Localdeliver) {
            self.suite.terminate(Daemon::Localdeliver)?;
        }
        Ok(())
    }

    fn clear(&mut self) -> Result<()> {
        if !self.is_running(Daemon::Queued) {
            self.suite.start(Daemon::Queued)?;
        }
        self.suite.correo(&["queue", "drop", "ALL", "--yes"])?;
        if !self.is_running(Daemon::Localdeliver) {
            self.suite.start(Daemon::Localdeliver)?;
        }
        self.suite.wait_ready()?;
        let begun = Instant::now();
        while self.waiting()? > 0 {
            if begun.elapsed() > PATIENCE {
                bail!(
                    "the queue does not get empty:\n{}",
                    self.suite.recent_logs()
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Fills the queue while localdeliver is stopped; the clock runs from localdeliver's start
    /// until all is in mailboxes, so queued's part is in it.
    fn deliver(&mut self, messages: usize) -> Result<Sample> {
        let mailboxes = Mailboxes::open(self)?;
        self.hold()?;
        load(self.smtp(), 20, messages, 4096).run()?;
        let begun = Instant::now();
        self.suite.start(Daemon::Localdeliver)?;
        mailboxes.wait(messages, PATIENCE)?;
        Ok(Sample {
            operations: u64::try_from(messages)?,
            took: begun.elapsed(),
            latencies: Vec::new(),
        })
    }

    fn list(&self) -> Command {
        let mut list = Command::new(self.programs.join("correo"));
        list.args(["queue", "list", "--json", "--home"])
            .arg(self.suite.home());
        list
    }

    fn stop_queue(&mut self) -> Result<()> {
        for daemon in [Daemon::Localdeliver, Daemon::Queued] {
            if self.is_running(daemon) {
                self.suite.terminate(daemon)?;
            }
        }
        Ok(())
    }

    fn start_queue(&mut self) -> Result<()> {
        self.suite.start(Daemon::Queued)?;
        self.suite.start(Daemon::Localdeliver)
    }

    fn restart(&mut self) -> Result<()> {
        for daemon in Daemon::ALL.into_iter().rev() {
            self.suite.terminate(daemon)?;
        }
        for daemon in Daemon::ALL {
            self.suite.start(daemon)?;
        }
        self.suite.wait_ready()
    }

    fn restart_store(&mut self) -> Result<()> {
        for daemon in [Daemon::Localdeliver, Daemon::Imapd, Daemon::Pop3d] {
            self.suite
                .terminate(daemon)
                .context("stopping for a cold start")?;
            self.suite.start(daemon)?;
        }
        self.suite.wait_ready()
    }

    fn logs(&self) -> String {
        self.suite.recent_logs()
    }
}
