//! The report: a table, a plot, all figures as JSON, and the page of the documentation.

pub(crate) mod flame;
pub(crate) mod kept;
pub(crate) mod machine;
mod page;
pub(crate) mod plot;
mod table;
mod xml;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::result::Row;
use crate::run::Results;

/// All that was measured.
pub(crate) struct Report<'a> {
    /// The sides, Correo first.
    pub(crate) names: Vec<&'static str>,
    /// In the order of the table.
    pub(crate) rows: Vec<Row>,
    pub(crate) results: &'a Results,
    pub(crate) runs: usize,
    pub(crate) extras: Extras,
}

/// What is found out behind the last row.
#[derive(Default)]
pub(crate) struct Extras {
    /// False while rows are still to be measured.
    pub(crate) is_complete: bool,
    /// Calls that make data durable, by side.
    pub(crate) syncs: Vec<BTreeMap<String, u64>>,
    pub(crate) flames: Option<flame::Stacks>,
}

impl Report<'_> {
    /// Some rows, as lines of a table.
    pub(crate) fn lines(&self, rows: &[Row]) -> String {
        table::lines(self, rows)
    }

    fn plot(&self) -> String {
        plot::svg(
            "Correo beside Postfix and Dovecot",
            "How many times better (rate, time or memory), on a logarithmic scale; the mark is the goal.",
            &table::bars(self),
        )
    }

    fn flame(&self) -> Option<String> {
        let stacks = self.extras.flames.as_ref()?;
        Some(flame::svg(stacks, "From SMTP to mailboxes"))
    }
}

/// Writes everything to a folder.
pub(crate) fn write(report: &Report<'_>, out: &Path) -> Result<()> {
    fs::write(
        out.join("results.json"),
        serde_json::to_vec_pretty(report.results)?,
    )?;
    let text = format!("{}\n{}", findings(report), page::details(report)?);
    fs::write(out.join("report.md"), text)?;
    fs::write(out.join("plot.svg"), report.plot())?;
    if let Some(flame) = report.flame() {
        fs::write(out.join("flame.svg"), flame)?;
    }
    Ok(())
}

/// Writes the page of the documentation and its pictures.
pub(crate) fn write_docs(report: &Report<'_>, docs: &Path) -> Result<()> {
    let file = docs.join("performance.md");
    let old = fs::read_to_string(&file).ok();
    fs::write(&file, page::page(old.as_deref(), report)?)?;
    fs::write(docs.join("performance.svg"), report.plot())?;
    if let Some(flame) = report.flame() {
        fs::write(docs.join("flame-end-to-end.svg"), flame)?;
    }
    Ok(())
}

fn findings(report: &Report<'_>) -> String {
    let mut text = page::summary(report);
    if let Some(stacks) = &report.extras.flames {
        text.push_str("\n## CPU time from SMTP to mailboxes, in percent\n\n");
        text.push_str(&flame::table(stacks));
    }
    text
}

/// Prints what was found.
#[expect(clippy::print_stdout, reason = "the report is what the command is for")]
pub(crate) fn print(report: &Report<'_>) {
    println!("{}", findings(report));
}
