use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::failure::{Failure, file};

/// The daemons that keep something.
pub(super) const BACK_ENDS: [&str; 3] = ["directoryd", "queued", "localdeliver"];
/// Those that need them.
pub(super) const FRONT_ENDS: [&str; 4] = ["remotedeliver", "smtpd", "pop3d", "imapd"];
/// The first wait before a daemon that ended is started again; doubled each time.
const BACK_OFF: Duration = Duration::from_millis(500);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);
/// A daemon that ran so long has recovered.
const HEALTHY: Duration = Duration::from_mins(1);
/// `EX_CONFIG`: starting again does not help.
const EXIT_CONFIG: i32 = 78;
/// How many of a daemon's last lines are kept for an error message.
const LAST_LINES: usize = 5;

/// One log of all daemons on standard output.
#[derive(Debug, Clone)]
pub(super) struct Log {
    colour: bool,
}

/// The daemons as children.
#[derive(Debug)]
pub(super) struct Children {
    folder: PathBuf,
    home: PathBuf,
    environment: Vec<(String, String)>,
    log: Log,
    stop: CancellationToken,
    tracker: TaskTracker,
    supervised: Mutex<Vec<Arc<Supervised>>>,
}

#[derive(Debug)]
struct Supervised {
    name: &'static str,
    /// How often it ended without being asked to.
    crashes: AtomicU32,
    last_lines: Mutex<VecDeque<String>>,
}

impl Log {
    pub(super) fn new() -> Self {
        Self {
            colour: io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        }
    }

    /// A line of `up` itself.
    pub(super) fn say(&self, text: &str) {
        self.line("up", 1, text);
    }

    /// A line of the test.
    pub(super) fn step(&self, text: &str) {
        self.line("test", 1, text);
    }

    /// A line without a prefix.
    pub(super) fn plain(text: &str) {
        // A closed standard output is no reason to end.
        let _ = writeln!(io::stdout(), "{text}");
    }

    fn line(&self, who: &str, colour: usize, text: &str) {
        let mut stdout = io::stdout().lock();
        let _ = if self.colour {
            writeln!(stdout, "\x1b[{}m{who:>13}\x1b[0m │ {text}", 30 + colour % 8)
        } else {
            writeln!(stdout, "{who:>13} | {text}")
        };
    }
}

impl Children {
    /// Finds the programs beside this one; none is started yet.
    pub(super) fn find(
        home: &Path,
        environment: &[(String, String)],
        log: &Log,
        stop: &CancellationToken,
    ) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(file(Path::new("/proc/self/exe")))?;
        let folder = program.parent().unwrap_or(Path::new(".")).to_owned();
        for name in BACK_ENDS.iter().chain(&FRONT_ENDS) {
            if !folder.join(name).is_file() {
                return Err(Failure::Refused(format!(
                    "{} is not there; build all daemons: `cargo build --release --workspace`",
                    folder.join(name).display()
                )));
            }
        }
        Ok(Self {
            folder,
            home: home.to_owned(),
            environment: environment.to_vec(),
            log: log.clone(),
            stop: stop.clone(),
            tracker: TaskTracker::new(),
            supervised: Mutex::default(),
        })
    }

    /// Starts daemons and keeps them running until the end.
    pub(super) fn start(&self, names: &[&'static str]) {
        for name in names {
            let daemon = Arc::new(Supervised {
                name,
                crashes: AtomicU32::new(0),
                last_lines: Mutex::default(),
            });
            let mut supervised = self
                .supervised
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            supervised.push(daemon.clone());
            let supervisor = Supervisor {
                daemon,
                program: self.folder.join(name),
                home: self.home.clone(),
                environment: self.environment.clone(),
                log: self.log.clone(),
                colour: supervised.len() + 1,
                stop: self.stop.clone(),
            };
            self.tracker.spawn(supervisor.run());
        }
    }

    /// A daemon that keeps ending, with its last words.
    pub(super) fn broken(&self) -> Option<String> {
        let supervised = self
            .supervised
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let daemon = supervised
            .iter()
            .find(|daemon| daemon.crashes.load(Ordering::Relaxed) >= 3)?;
        let lines = daemon
            .last_lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let last = lines.back().cloned().unwrap_or_default();
        Some(format!("{} does not stay up: {last}", daemon.name))
    }

    /// Waits until all have ended; those that take longer are killed when this is dropped.
    pub(super) async fn ended(&self, patience: Duration) {
        self.tracker.close();
        if timeout(patience, self.tracker.wait()).await.is_err() {
            self.log
                .say("some daemons did not end in time and are killed");
        }
    }
}

struct Supervisor {
    daemon: Arc<Supervised>,
    program: PathBuf,
    home: PathBuf,
    environment: Vec<(String, String)>,
    log: Log,
    colour: usize,
    stop: CancellationToken,
}

impl Supervisor {
    async fn run(self) {
        let mut wait = BACK_OFF;
        while !self.stop.is_cancelled() {
            let begun = Instant::now();
            let ending = match self.spawn() {
                Ok(child) => self.watch(child).await,
                Err(error) => format!("cannot be started: {error}"),
            };
            if self.stop.is_cancelled() {
                break;
            }
            if begun.elapsed() > HEALTHY {
                wait = BACK_OFF;
                self.daemon.crashes.store(0, Ordering::Relaxed);
            }
            self.daemon.crashes.fetch_add(1, Ordering::Relaxed);
            let name = self.daemon.name;
            let millis = wait.as_millis();
            self.log.say(&format!(
                "{name} {ending}; starting it again in {millis} ms"
            ));
            tokio::select! {
                () = sleep(wait) => {}
                () = self.stop.cancelled() => break,
            }
            wait = (wait * 2).min(LONGEST_BACK_OFF);
        }
    }

    fn spawn(&self) -> io::Result<Child> {
        Command::new(&self.program)
            .arg("--home")
            .arg(&self.home)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
    }

    /// Copies what the daemon says, until it has ended; says how it did.
    async fn watch(&self, mut child: Child) -> String {
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let pid = child.id();
        let stop = async {
            self.stop.cancelled().await;
            // Ctrl-C reaches the children by itself, SIGTERM does not; twice does no harm.
            if let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
            std::future::pending::<()>().await;
        };
        let work = async {
            let (status, ..) = tokio::join!(child.wait(), self.copy(out), self.copy(err));
            status
        };
        tokio::select! {
            status = work => self.ending(status),
            () = stop => String::new(),
        }
    }

    fn ending(&self, status: io::Result<ExitStatus>) -> String {
        match status {
            Ok(status) if status.code() == Some(EXIT_CONFIG) => {
                self.daemon.crashes.fetch_add(3, Ordering::Relaxed);
                "does not accept its configuration".to_owned()
            }
            Ok(status) => format!("ended ({status})"),
            Err(error) => format!("is lost ({error})"),
        }
    }

    async fn copy(&self, stream: Option<impl AsyncRead + Unpin>) {
        let Some(stream) = stream else { return };
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            self.log
                .line(self.daemon.name, self.colour, without_date(&line));
            let kept = &self.daemon.last_lines;
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push_back(line);
            if kept.len() > LAST_LINES {
                kept.pop_front();
            }
        }
    }
}

/// A log line with the time of day alone: who watches knows the day.
fn without_date(line: &str) -> &str {
    // 2026-11-24T11:21:34.564323Z
    match line.split_once('T') {
        Some((date, rest))
            if date.len() == 10 && date.bytes().all(|b| b.is_ascii_digit() || b == b'-') =>
        {
            rest
        }
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_left_out() {
        assert_eq!(
            without_date("2026-11-24T11:21:34.5Z  INFO x"),
            "11:21:34.5Z  INFO x"
        );
        assert_eq!(without_date("The end"), "The end");
    }
}
