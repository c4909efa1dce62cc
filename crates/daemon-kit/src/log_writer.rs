//! Log lines on their way to standard error: many share one write.
//!
//! A line costs its formatting and a copy. A thread writes what has gathered, some milliseconds
//! later at most. Warnings and errors are written at once, with all that came before them, so that
//! what a dying process had to say is there.

use std::io::{self, Write};
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How long a line may wait for others.
const LINGER: Duration = Duration::from_millis(5);
/// Octets that may wait. A reader of the log that is slower than this stops us, as it would
/// without a buffer.
const MAX_WAITING: usize = 1024 * 1024;

static LOG: LazyLock<Log> = LazyLock::new(Log::default);

#[derive(Debug, Default)]
struct Log {
    lines: Mutex<Lines>,
    some: Condvar,
    /// Held while lines are written, so that they come out in order.
    output: Mutex<()>,
}

#[derive(Debug, Default)]
struct Lines {
    waiting: Vec<u8>,
    /// The thread waits to be told.
    asleep: bool,
}

/// Makes writers for the log's lines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogWriter;

/// One line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    urgent: bool,
}

impl LogWriter {
    /// Starts the thread that writes.
    pub(crate) fn start() -> io::Result<Self> {
        thread::Builder::new().name("log".into()).spawn(run)?;
        Ok(Self)
    }
}

/// Writes what waits.
pub(crate) fn flush() {
    LOG.write();
}

fn run() {
    loop {
        let mut lines = LOG.lock();
        while lines.waiting.is_empty() {
            lines.asleep = true;
            lines = LOG.some.wait(lines).unwrap_or_else(PoisonError::into_inner);
        }
        lines.asleep = false;
        drop(lines);
        thread::sleep(LINGER);
        LOG.write();
    }
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        // Lines are whole at each step.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) {
        let _in_order = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = std::mem::take(&mut self.lock().waiting);
        if !waiting.is_empty() {
            // There is nowhere to complain.
            let _ = io::stderr().write_all(&waiting);
        }
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { urgent: true }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line {
        let urgent = *meta.level() <= Level::WARN;
        Line { urgent }
    }
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut lines = LOG.lock();
        lines.waiting.extend_from_slice(line);
        let now = self.urgent || lines.waiting.len() > MAX_WAITING;
        let wake = !now && std::mem::take(&mut lines.asleep);
        drop(lines);
        if now {
            LOG.write();
        } else if wake {
            LOG.some.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        LOG.write();
        Ok(())
    }
}
