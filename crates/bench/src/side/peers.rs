use std::net::{SocketAddr, TcpListener};
use std::process::Command;

use anyhow::{Result, bail};
use tempfile::TempDir;

use super::dovecot::Dovecot;
use super::kernel::KernelSetting;
use super::postfix::Postfix;
use super::{Side, load, run};
use crate::load::Sample;
use crate::load::sink::Sink;
use crate::load::smtp::SmtpLoad;

/// Ports beside those that test suites use.
const PORTS: std::ops::Range<u16> = 31_100..32_000;

/// Postfix and Dovecot, from the system's packages.
#[derive(Debug)]
pub(crate) struct Peers {
    postfix: Postfix,
    dovecot: Dovecot,
    _notices: [KernelSetting; 2],
    // The last, so that both have ended when it is removed.
    _place: TempDir,
}

impl Peers {
    /// Starts both.
    pub(crate) fn start(sink: &Sink) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::Builder::new().prefix("correo-peers-").tempdir()?;
        std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755))?;
        // Each of Dovecot's idle sessions takes one; where there are no more, it does not sleep.
        let notices = [
            KernelSetting::at_least("fs/inotify/max_user_instances", 32_768)?,
            KernelSetting::at_least("fs/inotify/max_user_watches", 131_072)?,
        ];
        let port = free_ports()?;
        let dovecot = Dovecot::start(place.path(), port)?;
        let lmtp = place.path().join("dovecot/run/lmtp");
        let postfix = Postfix::start(place.path(), port + 3, &lmtp, sink.address())?;
        Ok(Self {
            postfix,
            dovecot,
            _notices: notices,
            _place: place,
        })
    }
}

/// The first of four free ports.
fn free_ports() -> Result<u16> {
    for first in PORTS.step_by(10) {
        let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if (first..first + 4).all(is_free) {
            return Ok(first);
        }
    }
    bail!("no free ports between {} and {}", PORTS.start, PORTS.end)
}

impl Side for Peers {
    fn name(&self) -> &'static str {
        "Postfix + Dovecot"
    }

    fn smtp(&self) -> SocketAddr {
        self.postfix.smtp
    }

    fn pop3(&self) -> SocketAddr {
        self.dovecot.pop3
    }

    fn imap(&self) -> SocketAddr {
        self.dovecot.imap
    }

    fn roots(&self) -> Result<Vec<u32>> {
        Ok(vec![self.postfix.pid()?, self.dovecot.pid()?])
    }

    fn hold(&mut self) -> Result<()> {
        self.postfix.set_hold(true)
    }

    fn clear(&mut self) -> Result<()> {
        self.postfix.up()?;
        run(&mut self.postfix.tool("postsuper", &["-d", "ALL"]))?;
        self.postfix.set_hold(false)
    }

    /// LMTP to Dovecot, without Postfix.
    fn deliver(&mut self, messages: usize) -> Result<Sample> {
        let lmtp = true;
        SmtpLoad {
            lmtp,
            ..load(self.dovecot.lmtp, 20, messages, 4096)
        }
        .run()
    }

    fn list(&self) -> Command {
        self.postfix.tool("postqueue", &["-p"])
    }

    fn stop_queue(&mut self) -> Result<()> {
        // Before it stops: without it, its commands cannot write to its log. What is released is
        // looked at minutes later, or at the next start.
        self.postfix.set_restriction("")?;
        run(&mut self.postfix.tool("postsuper", &["-H", "ALL"]))?;
        self.postfix.down()
    }

    fn start_queue(&mut self) -> Result<()> {
        self.postfix.up()?;
        run(&mut self.postfix.tool("postqueue", &["-f"]))
    }

    fn restart(&mut self) -> Result<()> {
        self.postfix.down()?;
        self.dovecot.restart(true)?;
        self.postfix.up()
    }

    fn restart_store(&mut self) -> Result<()> {
        self.dovecot.restart(false)
    }

    fn logs(&self) -> String {
        self.postfix.log() + &self.dovecot.log()
    }
}
