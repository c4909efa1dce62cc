//! Transcripts: conversations of `tests/transcripts/PROTOCOL/`, and how they are cut.
//!
//! ```text
//! # a comment
//! set size 1000            a setting, which the protocol's driver knows
//! S: 220 *                 a line of the server's; '*' at the end is any rest
//! C: EHLO c.example        a line of the client's; CRLF is added
//! C~ a\nb                  octets of the client's, with escapes, nothing added
//! C* 100 x                 a text many times
//! ? rcpt bob@x.test -> accept    a question of the machine's, and the answer
//! = a\r\n                  the content that was handed on, with escapes
//! @ +5m                    the clock moves
//! ! shutdown               the server is told to stop
//! ! refuse queue-full      the content that comes in is refused
//! E: quit                  the session ended, and why
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// One line of a transcript.
#[derive(Debug, Clone)]
pub enum Step {
    /// `C:`, `C~` and `C*`: what the client sends.
    Client(Vec<u8>),
    /// `@`: so much time passes.
    Clock(Duration),
    /// `=`: the content that was handed on.
    Content(Vec<u8>),
    /// `E:`: the session ended for this reason.
    Ended(String),
    /// `?`: the machine asks, and is answered so.
    Question {
        /// What.
        asked: String,
        /// The driver knows what it means.
        answer: String,
    },
    /// `! refuse`: the content that comes in is refused.
    Refuse(String),
    /// `S:`: what the server says.
    Server(String),
    /// `! shutdown`: the server is told to stop.
    Shutdown,
}

/// A whole conversation.
#[derive(Debug, Clone)]
pub struct Script {
    /// The lines that begin with `set`.
    pub settings: Vec<String>,
    /// All others.
    pub steps: Vec<Step>,
}

impl Script {
    /// All scripts of a protocol, by name.
    pub fn of(protocol: &str) -> Result<Vec<(PathBuf, Self)>> {
        let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/transcripts");
        let folder = all.join(protocol);
        let mut scripts = Vec::new();
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "txt") {
                let script = Self::parse(&fs::read_to_string(&path)?);
                let script = script.with_context(|| path.display().to_string())?;
                scripts.push((path, script));
            }
        }
        ensure!(
            scripts.len() >= 10,
            "the transcripts of {protocol} are missing"
        );
        scripts.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(scripts)
    }

    /// Reads a script.
    pub fn parse(text: &str) -> Result<Self> {
        let mut script = Self {
            settings: Vec::new(),
            steps: Vec::new(),
        };
        for line in text.lines() {
            script.line(line).with_context(|| line.to_owned())?;
        }
        Ok(script)
    }

    fn line(&mut self, line: &str) -> Result<()> {
        if line.trim().is_empty() || line.starts_with('#') {
            return Ok(());
        }
        if let Some(setting) = line.strip_prefix("set ") {
            self.settings.push(setting.to_owned());
            return Ok(());
        }
        let (kind, rest) = line.split_at_checked(2).unwrap_or((line, ""));
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        let step = match kind {
            "C:" => Step::Client(format!("{rest}\r\n").into_bytes()),
            "C~" => Step::Client(unescape(rest)?),
            "C*" => {
                let (count, text) = rest.split_once(' ').context("no text")?;
                Step::Client(unescape(text)?.repeat(count.parse()?))
            }
            "S:" => Step::Server(rest.to_owned()),
            "E:" => Step::Ended(rest.to_owned()),
            "=" | "= " => Step::Content(unescape(rest)?),
            "@ " => Step::Clock(duration(rest)?),
            "! " if rest == "shutdown" => Step::Shutdown,
            "! " => Step::Refuse(rest.strip_prefix("refuse ").context("what?")?.to_owned()),
            "? " => {
                let (asked, answer) = rest.split_once("->").context("no answer")?;
                Step::Question {
                    asked: asked.trim().to_owned(),
                    answer: answer.trim().to_owned(),
                }
            }
            _ => bail!("not a line of a transcript"),
        };
        self.steps.push(step);
        Ok(())
    }

    /// False where it matters when the client speaks.
    pub fn can_be_sent_ahead(&self) -> bool {
        !self.steps.iter().any(|step| match step {
            Step::Clock(_) | Step::Refuse(_) | Step::Shutdown => true,
            Step::Question { asked, .. } => asked == "tls",
            _ => false,
        })
    }

    /// The same with all of the client's part in front.
    pub fn sent_ahead(&self) -> Self {
        let is_client = |step: &Step| matches!(step, Step::Client(_));
        let (client, other): (Vec<_>, Vec<_>) = self.steps.iter().cloned().partition(is_client);
        Self {
            settings: self.settings.clone(),
            steps: client.into_iter().chain(other).collect(),
        }
    }
}

/// A piece's size by its place.
pub type Cut<'a> = &'a dyn Fn(usize) -> usize;

/// Calls `run` with the client's input in one piece, byte by byte, and cut in other ways.
pub fn with_cuts(mut run: impl FnMut(Cut<'_>)) {
    run(&|_| usize::MAX);
    run(&|_| 1);
    for seed in 1..40 {
        run(&|at| 1 + (at * 31 + seed * 17) % (2 + seed));
    }
}

fn duration(text: &str) -> Result<Duration> {
    let number = text.trim_start_matches('+');
    let (number, unit) = number
        .split_at_checked(number.len().saturating_sub(1))
        .context("no time")?;
    let number: u64 = number.parse()?;
    Ok(match unit {
        "s" => Duration::from_secs(number),
        "m" => Duration::from_mins(number),
        "h" => Duration::from_hours(number),
        _ => bail!("no unit of time: {text}"),
    })
}

/// `\r`, `\n`, `\0`, `\\` and `\xFF` stand for an octet.
pub fn unescape(text: &str) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        out.push(match bytes.next() {
            Some(b'r') => b'\r',
            Some(b'n') => b'\n',
            Some(b'0') => 0,
            Some(b'\\') => b'\\',
            Some(b'x') => {
                let hex: Vec<u8> = bytes.by_ref().take(2).collect();
                u8::from_str_radix(std::str::from_utf8(&hex)?, 16)?
            }
            other => bail!("unknown escape: {other:?}"),
        });
    }
    Ok(out)
}
