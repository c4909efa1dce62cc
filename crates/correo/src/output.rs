//! What is printed: tables for people, JSON for programs.

use std::io::{self, BufRead, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde_json::Value;

use crate::failure::Failure;

/// Standard output in one of its two forms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) json: bool,
}

impl Output {
    /// Prints a line for people; nothing in JSON.
    pub(crate) fn say(self, line: impl AsRef<str>) -> Result<(), Failure> {
        if !self.json {
            writeln!(io::stdout(), "{}", line.as_ref())?;
        }
        Ok(())
    }

    /// Prints an object; nothing for people.
    pub(crate) fn object(self, value: &Value) -> Result<(), Failure> {
        if self.json {
            writeln!(io::stdout(), "{value}")?;
        }
        Ok(())
    }

    /// Prints either of them.
    pub(crate) fn both(self, line: impl AsRef<str>, value: &Value) -> Result<(), Failure> {
        self.say(line)?;
        self.object(value)
    }
}

/// Prints a warning on standard error.
pub(crate) fn warn(text: &str) {
    // Whoever closed standard error does not want it.
    let _ = writeln!(io::stderr(), "warning: {text}");
}

/// Asks a question whose answer is yes or no; without a terminal to ask on it is an error that
/// names the option that answers it.
pub(crate) fn confirm(question: &str) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage(format!(
            "{question} There is no terminal to ask on; say --yes if so"
        )));
    }
    let mut terminal = io::stderr();
    write!(terminal, "{question} [y/N] ")?;
    terminal.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// A bar that shows how far something is; on a terminal alone.
pub(crate) fn progress(out: Output, all: u64) -> ProgressBar {
    if out.json || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let form = "{bar:40} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";
    let bar = ProgressBar::new(all);
    if let Ok(style) = ProgressStyle::with_template(form) {
        bar.set_style(style);
    }
    bar
}

/// A table whose columns are as wide as they need to be.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<Vec<String>>);

impl Table {
    pub(crate) fn new(heads: &[&str]) -> Self {
        Self(vec![heads.iter().map(ToString::to_string).collect()])
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.0.push(cells);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.len() <= 1
    }

    /// Lines without trailing blanks.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> + '_ {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.0.iter().filter_map(move |row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        self.0.iter().map(move |row| {
            let cells = row.iter().zip(&widths);
            let padded: Vec<String> = cells
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            padded.join("  ").trim_end().to_owned()
        })
    }

    pub(crate) fn print(&self) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        for line in self.lines() {
            writeln!(out, "{line}")?;
        }
        Ok(())
    }
}

/// A size for people: three digits and a unit.
#[expect(
    clippy::cast_precision_loss,
    reason = "it is rounded to three digits anyway"
)]
pub(crate) fn size(octets: u64) -> String {
    let mut value = octets as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1000.0 {
            let digits = usize::from(unit != "B" && value < 10.0);
            return format!("{value:.digits$} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// A span for people, in its largest unit.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

/// RFC 3339, or nothing for a time that is not set.
pub(crate) fn time(unix_millis: u64) -> Option<String> {
    let millis = i64::try_from(unix_millis)
        .ok()
        .filter(|millis| *millis > 0)?;
    Timestamp::from_millisecond(millis)
        .ok()
        .map(|time| time.to_string())
}

/// Milliseconds since 1970.
pub(crate) fn now_millis() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_for_people() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(999), "999 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(52_428_800), "50 MiB");
        assert_eq!(
            [span(5), span(600), span(7200), span(864_000)],
            ["5s", "10m", "2h", "10d"]
        );
        assert_eq!(time(0), None);
        assert_eq!(time(1_000).unwrap(), "1970-01-01T00:00:01Z");
    }

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["A", "BB"]);
        assert!(table.is_empty());
        table.row(vec!["é".into(), "x".into()]);
        table.row(vec!["long".into(), String::new()]);
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines, ["A     BB", "é     x", "long"]);
    }
}
