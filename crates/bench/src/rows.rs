//! What is measured: groups of rows that are measured together.

mod connections;
mod imap;
mod pop3;
mod scale;
mod smtp;
mod waiting;

use std::time::Duration;

use anyhow::Result;

use crate::load::Sample;
use crate::load::sink::Sink;
use crate::result::{Reading, Row};
use crate::side::{SCALE_USERS, Side};
use crate::usage;

/// How many of each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    /// Messages of 4 KiB that are sent.
    pub(crate) messages: usize,
    /// Messages of 64 KiB.
    pub(crate) middle: usize,
    /// Messages of 1 MiB.
    pub(crate) large: usize,
    /// Messages of the large mailbox.
    pub(crate) mailbox: usize,
    /// Messages that are copied, moved, expunged, appended, fetched by POP3.
    pub(crate) some: usize,
    /// How long mixed loads last.
    pub(crate) lasts: Duration,
    /// Messages whose way to an idle session is timed.
    pub(crate) watched: usize,
    /// Idle connections: some, and many.
    pub(crate) idle: (usize, usize),
    /// Messages that wait in the queue.
    pub(crate) waiting: usize,
    /// Accounts that have ten times as many messages as the large mailbox.
    pub(crate) accounts: usize,
}

impl Scale {
    pub(crate) const FULL: Self = Self {
        messages: 5000,
        middle: 1000,
        large: 200,
        mailbox: 10_000,
        some: 1000,
        lasts: Duration::from_secs(5),
        watched: 25,
        idle: (1000, 10_000),
        waiting: 100_000,
        accounts: SCALE_USERS,
    };
    pub(crate) const QUICK: Self = Self {
        messages: 500,
        middle: 50,
        large: 10,
        mailbox: 1000,
        some: 100,
        lasts: Duration::from_secs(1),
        watched: 5,
        idle: (100, 300),
        waiting: 1000,
        accounts: 2,
    };
}

impl Scale {
    /// What a run sends that only warms up: enough that each mailbox gets some.
    pub(crate) fn warm_up(self) -> Self {
        Self {
            messages: self.messages / 5,
            middle: self.middle / 5,
            large: self.large / 5,
            lasts: self.lasts / 5,
            ..self
        }
    }
}

/// What a group's functions get.
pub(crate) struct World<'a> {
    pub(crate) side: &'a mut dyn Side,
    pub(crate) scale: Scale,
    pub(crate) sink: &'a Sink,
}

impl World<'_> {
    /// Does something, and gives the CPU time that the server used for each of `operations`.
    fn with_cpu<T>(
        &mut self,
        operations: usize,
        work: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<(T, f64)> {
        let before = usage::cpu(&self.side.roots()?)?;
        let done = work(self)?;
        let used = usage::cpu(&self.side.roots()?)?.saturating_sub(before);
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let each = used.as_secs_f64() * 1000.0 / operations.max(1) as f64;
        Ok((done, each))
    }
}

/// Rows that are measured together, in one go.
pub(crate) struct Group {
    /// What `--rows` calls it.
    pub(crate) name: &'static str,
    pub(crate) rows: &'static [Row],
    /// Is called once before the first run.
    pub(crate) prepare: fn(&mut World<'_>) -> Result<()>,
    pub(crate) run: fn(&mut World<'_>) -> Result<Vec<Reading>>,
    /// Too long to be repeated, or the same each time.
    pub(crate) once: bool,
    /// It compares Correo with itself; no peer is asked.
    pub(crate) alone: bool,
}

/// All, in the order in which they are measured.
pub(crate) const ALL: [Group; 13] = [
    smtp::FLOW,
    smtp::ACCEPT,
    smtp::RELAY,
    pop3::GROUP,
    imap::READ,
    imap::change::CHANGE,
    imap::change::APPEND,
    imap::change::MULTIAPPEND,
    imap::cold::GROUP,
    imap::mixed::GROUP,
    connections::GROUP,
    scale::GROUP,
    waiting::GROUP,
];

#[expect(
    clippy::unnecessary_wraps,
    reason = "the type of what prepares a group"
)]
fn nothing(_: &mut World<'_>) -> Result<()> {
    Ok(())
}

fn rate(row: &'static str, sample: &Sample, cpu: f64) -> Reading {
    Reading {
        row,
        value: sample.rate(),
        cpu: Some(cpu),
        note: None,
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
