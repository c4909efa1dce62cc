use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// A foreign program's run may take so long before it is killed and counts as failed.
const MAX_RUN: Duration = Duration::from_mins(2);

/// True if all programs are there. A missing one fails the test if `CARGO_XTASK_TEST` is 1, since
/// `cargo xtask test` has installed them; else it says so and the test is to return.
///
/// # Panics
/// If one is missing in that mode.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
pub fn have(programs: &[&str]) -> bool {
    let missing: Vec<_> = programs.iter().filter(|p| find(p).is_none()).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(
        std::env::var_os("CARGO_XTASK_TEST").is_none_or(|value| value != "1"),
        "not installed: {missing:?}; the packages are in tests/packages.txt"
    );
    eprintln!("SKIPPED: not installed: {missing:?}; see tests/packages.txt");
    false
}

/// True if this is root, which network namespaces need; otherwise says that the test is skipped.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
pub fn has_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: network namespaces need root");
    }
    root
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let system = [PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")];
    std::env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// A run of a foreign program: a client, mostly.
#[derive(Debug)]
pub struct Tool {
    command: Command,
    input: Vec<u8>,
}

/// What a program said.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its exit status is 0.
    pub success: bool,
    /// The exit status, if it was not a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Both outputs as text, for messages.
    pub fn all(&self) -> String {
        format!("{}{}", self.text(), String::from_utf8_lossy(&self.stderr))
    }
}

impl Tool {
    /// A program on PATH, or by its file.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let name = program.as_ref().to_string_lossy().into_owned();
        let file = find(&name).unwrap_or_else(|| PathBuf::from(name));
        Self {
            command: Command::new(file),
            input: Vec::new(),
        }
    }

    /// Python with a script and its arguments.
    pub fn python(script: &str) -> Self {
        Self::new("python3").args(["-c", script])
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable of the environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets the working directory.
    pub fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Sets standard input; without, it is empty.
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Runs it to its end.
    pub fn output(mut self) -> Result<Output> {
        let name = self.command.get_program().display().to_string();
        let mut child = self
            .command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let stdin = child.stdin.take();
        let input = self.input;
        thread::spawn(move || {
            if let Some(mut stdin) = stdin {
                // A program that does not read all of its input may do so.
                let _ = stdin.write_all(&input);
            }
        });
        let stdout = drain(child.stdout.take());
        let stderr = drain(child.stderr.take());
        let end = Instant::now() + MAX_RUN;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() > end {
                child.kill()?;
                child.wait()?;
                let said = stdout.join().unwrap_or_default();
                let errors = stderr.join().unwrap_or_default();
                bail!(
                    "{name} did not end; it said: {}{}",
                    String::from_utf8_lossy(&said),
                    String::from_utf8_lossy(&errors)
                );
            }
            thread::sleep(Duration::from_millis(10));
        };
        Ok(Output {
            success: status.success(),
            code: status.code(),
            stdout: stdout.join().unwrap_or_default(),
            stderr: stderr.join().unwrap_or_default(),
        })
    }

    /// Runs it and fails unless its exit status is 0.
    pub fn run(self) -> Result<Output> {
        let shown = format!("{:?}", self.command);
        let output = self.output()?;
        let shown: String = shown.chars().take(600).collect();
        ensure!(
            output.success,
            "{shown} failed with {:?}:\n{}",
            output.code,
            output.all()
        );
        Ok(output)
    }
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        if let Some(mut pipe) = pipe {
            // What came before an error is worth showing.
            let _ = pipe.read_to_end(&mut all);
        }
        all
    })
}
