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

/// The daemons; whoever is asked first is first.
pub(super) const DAEMONS: [&str; 7] = [
    "directoryd",
    "queued",
    "localdeliver",
    "remotedeliver",
    "smtpd",
    "pop3d",
    "imapd",
];
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
    tracker: TaskTracker,
    supervised: Vec<Arc<Supervised>>,
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
    /// Starts all daemons that lie beside this program, and keeps them running until `stop`.
    pub(super) fn start(
        home: &Path,
        environment: &[(String, String)],
        log: &Log,
        stop: &CancellationToken,
    ) -> Result<Self, Failure> {
        let this = Path::new("/proc/self/exe");
        let folder = std::env::current_exe().map_err(file(this))?;
        let folder = folder.parent().unwrap_or(Path::new(".")).to_owned();
        let tracker = TaskTracker::new();
        let mut supervised = Vec::new();
        for (number, name) in DAEMONS.into_iter().enumerate() {
            let program = folder.join(name);
            if !program.is_file() {
                return Err(Failure::Refused(format!(
                    "{} is not there; build all daemons: `cargo build --release --workspace`",
                    program.display()
                )));
            }
            let daemon = Arc::new(Supervised {
                name,
                crashes: AtomicU32::new(0),
                last_lines: Mutex::default(),
            });
            supervised.push(daemon.clone());
            let supervisor = Supervisor {
                daemon,
                program,
                home: home.to_owned(),
                environment: environment.to_vec(),
                log: log.clone(),
                colour: number + 2,
                stop: stop.clone(),
            };
            tracker.spawn(supervisor.run());
        }
        tracker.close();
        Ok(Self {
            tracker,
            supervised,
        })
    }

    /// A daemon that keeps ending, with its last words.
    pub(super) fn broken(&self) -> Option<String> {
        let daemon = self
            .supervised
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
        if timeout(patience, self.tracker.wait()).await.is_err() {
            Log::new().say("some daemons did not end in time and are killed");
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
            self.log.line(self.daemon.name, self.colour, &line);
            let kept = &self.daemon.last_lines;
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push_back(line);
            if kept.len() > LAST_LINES {
                kept.pop_front();
            }
        }
    }
}
