use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::{Host, Output, Ports, Process, Tool, wait_until};

/// The programs of a suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Daemon {
    /// Domains, accounts, credentials.
    Directoryd,
    /// IMAP.
    Imapd,
    /// Mailboxes.
    Localdeliver,
    /// POP3.
    Pop3d,
    /// The queue.
    Queued,
    /// SMTP out.
    Remotedeliver,
    /// SMTP in.
    Smtpd,
}

impl Daemon {
    /// All, in the order in which they are started.
    pub const ALL: [Self; 7] = [
        Self::Directoryd,
        Self::Queued,
        Self::Localdeliver,
        Self::Remotedeliver,
        Self::Smtpd,
        Self::Pop3d,
        Self::Imapd,
    ];

    /// The program's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Directoryd => "directoryd",
            Self::Imapd => "imapd",
            Self::Localdeliver => "localdeliver",
            Self::Pop3d => "pop3d",
            Self::Queued => "queued",
            Self::Remotedeliver => "remotedeliver",
            Self::Smtpd => "smtpd",
        }
    }
}

/// Lines of each daemon's log that a failure shows.
const RECENT: usize = 40;

/// What a suite is to be.
#[derive(Debug)]
pub struct SuiteBuilder {
    hostname: String,
    domain: String,
    accounts: Vec<(String, String)>,
    extra: Vec<(String, String)>,
    host: Option<Host>,
    folder: Option<PathBuf>,
    logs: Option<PathBuf>,
    environment: Vec<(String, OsString)>,
}

/// All daemons under a folder of their own. They are killed and the folder is removed when this is
/// dropped.
#[derive(Debug)]
pub struct Suite {
    // Before the folder, so that the daemons are gone when it is removed.
    daemons: Mutex<Vec<(Daemon, Process)>>,
    home: TempDir,
    ports: Ports,
    domain: String,
    host: Option<Host>,
    logs: PathBuf,
    environment: Vec<(String, OsString)>,
}

impl SuiteBuilder {
    /// Adds an account, by its local part.
    pub fn account(mut self, local: &str, password: &str) -> Self {
        self.accounts.push((local.to_owned(), password.to_owned()));
        self
    }

    /// Adds a line to a table of the configuration.
    pub fn option(mut self, table: &str, line: &str) -> Self {
        self.extra.push((table.to_owned(), line.to_owned()));
        self
    }

    /// Sets the server's name; `mx.` and the domain is the default.
    pub fn hostname(mut self, hostname: &str) -> Self {
        hostname.clone_into(&mut self.hostname);
        self
    }

    /// Puts the home into this folder instead of the one for temporary files.
    pub fn within(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    /// Puts the logs into this folder, which has to be there, instead of `log` in the home.
    pub fn logs(mut self, folder: &Path) -> Self {
        self.logs = Some(folder.to_owned());
        self
    }

    /// Sets a variable of the environment of all daemons.
    pub fn environment(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Runs on a host of a test network, with the standard ports.
    pub fn on(mut self, host: &Host) -> Self {
        self.host = Some(host.clone());
        self
    }

    /// Writes the configuration, starts all daemons and creates the domain and the accounts.
    pub fn start(self) -> Result<Suite> {
        let suite = self.write()?;
        for daemon in Daemon::ALL {
            suite.start(daemon)?;
        }
        suite.wait_ready()?;
        suite.correo(&["domain", "add", &suite.domain])?;
        for (local, password) in &self.accounts {
            suite.add_account(&suite.address(local), password)?;
        }
        Ok(suite)
    }

    /// Writes the configuration alone.
    pub fn write(&self) -> Result<Suite> {
        let mut builder = tempfile::Builder::new();
        let home = match &self.folder {
            Some(folder) => builder.prefix("correo-test-").tempdir_in(folder)?,
            None => builder.prefix("correo-test-").tempdir()?,
        };
        let ports = match &self.host {
            Some(host) => Ports::with_base(host.ip().into(), 0),
            None => Ports::free()?,
        };
        let logs = self.logs.clone();
        let logs = logs.unwrap_or_else(|| home.path().join("log"));
        fs::create_dir_all(&logs)?;
        certificate(home.path(), &self.hostname, ports)?;
        fs::write(home.path().join("correo.toml"), self.configuration(ports))?;
        Ok(Suite {
            home,
            ports,
            domain: self.domain.clone(),
            host: self.host.clone(),
            logs,
            environment: self.environment.clone(),
            daemons: Mutex::new(Vec::new()),
        })
    }

    fn configuration(&self, ports: Ports) -> String {
        let listen = |port| match self.host {
            // Loopback too, so that tests can come from there.
            Some(_) => format!("listen = [\"0.0.0.0:{port}\"]\n"),
            None => format!("listen = [\"{}:{port}\"]\n", ports.ip),
        };
        let tables = [
            (
                "server",
                format!(
                    "hostname = \"{}\"\ndomain = \"{}\"\n",
                    self.hostname, self.domain
                ),
            ),
            (
                "tls",
                "certificate = \"cert.pem\"\nkey = \"key.pem\"\n".to_owned(),
            ),
            ("smtpd", String::new()),
            ("smtpd.mx", listen(ports.smtp)),
            ("smtpd.submission", listen(ports.submission)),
            ("smtpd.submissions", listen(ports.submissions)),
            (
                "pop3d",
                format!(
                    "{}listen_tls{}",
                    listen(ports.pop3),
                    tail(&listen(ports.pop3s))
                ),
            ),
            (
                "imapd",
                format!(
                    "{}listen_tls{}",
                    listen(ports.imap),
                    tail(&listen(ports.imaps))
                ),
            ),
        ];
        let mut text = String::new();
        for (table, lines) in &tables {
            text.push('[');
            text.push_str(table);
            text.push_str("]\n");
            text.push_str(lines);
            self.push_extra(&mut text, table);
        }
        let known = |table: &String| tables.iter().any(|(name, _)| name == table);
        let mut done: Vec<&String> = Vec::new();
        for (table, _) in &self.extra {
            if !known(table) && !done.contains(&table) {
                done.push(table);
                text.push('[');
                text.push_str(table);
                text.push_str("]\n");
                self.push_extra(&mut text, table);
            }
        }
        text
    }

    fn push_extra(&self, text: &mut String, table: &str) {
        for (_, line) in self.extra.iter().filter(|(name, _)| name == table) {
            text.push_str(line);
            text.push('\n');
        }
    }
}

fn tail(listen: &str) -> &str {
    listen.strip_prefix("listen").unwrap_or(listen)
}

impl Suite {
    /// A suite for a domain.
    pub fn of(domain: &str) -> SuiteBuilder {
        SuiteBuilder {
            hostname: format!("mx.{domain}"),
            domain: domain.to_owned(),
            accounts: Vec::new(),
            extra: Vec::new(),
            host: None,
            folder: None,
            logs: None,
            environment: Vec::new(),
        }
    }

    /// The ports.
    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// A port as a socket address.
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ports.ip, port)
    }

    /// The home folder.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The certificate's file, which is its own authority.
    pub fn certificate(&self) -> PathBuf {
        self.home().join("cert.pem")
    }

    /// A local part with the suite's domain.
    pub fn address(&self, local: &str) -> String {
        format!("{local}@{}", self.domain)
    }

    /// Creates an account.
    pub fn add_account(&self, address: &str, password: &str) -> Result<()> {
        self.cli(&["account", "add", address, "--password-stdin"])
            .input(format!("{password}\n"))
            .run()
            .map(|_| ())
    }

    /// `correo` with the suite's home, as a tool to be run.
    pub fn cli(&self, args: &[&str]) -> Tool {
        let program = program("correo");
        let tool = match &self.host {
            Some(host) => host.tool(&program.display().to_string()),
            None => Tool::new(program),
        };
        tool.args(args).arg("--home").arg(self.home())
    }

    /// Runs `correo`, which has to succeed.
    pub fn correo(&self, args: &[&str]) -> Result<Output> {
        self.cli(args).run()
    }

    /// Starts one daemon that is not running.
    pub fn start(&self, daemon: Daemon) -> Result<()> {
        let program = program(daemon.name());
        ensure!(
            program.is_file(),
            "{} is not there; build it first: cargo build --workspace --bins",
            program.display()
        );
        let mut command = match &self.host {
            Some(host) => host.command(&program),
            None => Command::new(&program),
        };
        command.arg("--home").arg(self.home());
        let variables = self.environment.iter().map(|(name, value)| (name, value));
        command.envs(variables);
        let process = Process::start(&mut command, &self.log_file(daemon))?;
        self.lock().push((daemon, process));
        Ok(())
    }

    /// SIGKILL to one daemon.
    pub fn kill(&self, daemon: Daemon) -> Result<()> {
        self.take(daemon)?.kill()
    }

    /// SIGTERM to one daemon; gives what it said at its end.
    pub fn terminate(&self, daemon: Daemon) -> Result<std::process::ExitStatus> {
        self.take(daemon)?.terminate()
    }

    /// A signal to one daemon.
    pub fn signal(&self, daemon: Daemon, signal: Signal) -> Result<()> {
        let mut daemons = self.lock();
        let entry = daemons.iter_mut().find(|(name, _)| *name == daemon);
        entry.context("the daemon does not run")?.1.signal(signal)
    }

    /// The exit status of one daemon, if it has ended.
    pub fn ended(&self, daemon: Daemon) -> Result<Option<std::process::ExitStatus>> {
        let mut daemons = self.lock();
        let entry = daemons.iter_mut().find(|(name, _)| *name == daemon);
        entry.context("the daemon was not started")?.1.ended()
    }

    /// The process id of one daemon.
    pub fn pid(&self, daemon: Daemon) -> Result<u32> {
        let daemons = self.lock();
        let entry = daemons.iter().find(|(name, _)| *name == daemon);
        Ok(entry.context("the daemon does not run")?.1.id())
    }

    /// Resident memory of one daemon, in KiB.
    pub fn memory(&self, daemon: Daemon) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid(daemon)?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        Ok(number.context("no VmRSS")?.parse()?)
    }

    /// What a daemon has logged since the suite's first start.
    pub fn log(&self, daemon: Daemon) -> String {
        let octets = fs::read(self.log_file(daemon)).unwrap_or_default();
        String::from_utf8_lossy(&octets).into_owned()
    }

    /// The last lines of the logs of all daemons, to go with a failure.
    pub fn recent_logs(&self) -> String {
        let mut all = String::new();
        for daemon in Daemon::ALL {
            let log = self.log(daemon);
            let lines: Vec<&str> = log.lines().collect();
            let recent = lines.len().saturating_sub(RECENT);
            all.push_str("== ");
            all.push_str(daemon.name());
            for line in lines.get(recent..).unwrap_or_default() {
                all.push('\n');
                all.push_str(line);
            }
            all.push('\n');
        }
        all
    }

    /// The logs of all daemons.
    pub fn logs(&self) -> String {
        let logs = Daemon::ALL.map(|daemon| format!("== {}\n{}", daemon.name(), self.log(daemon)));
        logs.concat()
    }

    /// Waits until all ports answer; fails at once if a daemon ends.
    pub fn wait_ready(&self) -> Result<()> {
        let open = |port: u16| match &self.host {
            Some(host) => host
                .tool("nc")
                .args([
                    "-z",
                    "-w",
                    "1",
                    &self.ports.ip.to_string(),
                    &port.to_string(),
                ])
                .output()
                .is_ok_and(|output| output.success),
            None => std::net::TcpStream::connect(self.at(port)).is_ok(),
        };
        wait_until("the daemons are ready", || {
            for (daemon, process) in self.lock().iter_mut() {
                if let Some(status) = process.ended()? {
                    bail!("{} ended with {status}:\n{}", daemon.name(), process.log());
                }
            }
            let sockets = ["directory-admin", "queue-admin", "mailbox"];
            let there = |name| {
                self.home()
                    .join("run")
                    .join(format!("{name}.sock"))
                    .exists()
            };
            let ready = sockets.into_iter().all(there) && self.ports.all().into_iter().all(open);
            Ok(ready.then_some(()))
        })
        .with_context(|| self.recent_logs())
    }

    fn take(&self, daemon: Daemon) -> Result<Process> {
        let mut daemons = self.lock();
        let at = daemons.iter().position(|(name, _)| *name == daemon);
        Ok(daemons.remove(at.context("the daemon does not run")?).1)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Daemon, Process)>> {
        self.daemons.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log_file(&self, daemon: Daemon) -> PathBuf {
        self.logs.join(format!("{}.log", daemon.name()))
    }
}

/// `correo` without a home.
pub fn correo() -> Tool {
    Tool::new(program("correo"))
}

/// A program of ours: in `CORREO_BIN_DIR`, or beside the running test's folder `deps`.
fn program(name: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os("CORREO_BIN_DIR") {
        return Path::new(&folder).join(name);
    }
    let test = std::env::current_exe().unwrap_or_default();
    let folder = test
        .parent()
        .and_then(Path::parent)
        .unwrap_or(Path::new(""));
    folder.join(name)
}

fn certificate(home: &Path, hostname: &str, ports: Ports) -> Result<()> {
    let names = vec![
        hostname.to_owned(),
        "localhost".to_owned(),
        ports.ip.to_string(),
    ];
    let made = rcgen::generate_simple_self_signed(names)?;
    fs::write(home.join("cert.pem"), made.cert.pem())?;
    fs::write(home.join("key.pem"), made.signing_key.serialize_pem())?;
    Ok(())
}
