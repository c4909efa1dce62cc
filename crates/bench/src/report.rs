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
    /// Calls that make data durable, by side.
    pub(crate) syncs: Vec<BTreeMap<String, u64>>,
    pub(crate) flames: Option<flame::Stacks>,
}

/// Writes everything to a folder, and to the checkout's documentation if that is given.
pub(crate) fn write(report: &Report<'_>, out: &Path, root: Option<&Path>) -> Result<()> {
    fs::write(
        out.join("results.json"),
        serde_json::to_vec_pretty(report.results)?,
    )?;
    let mut text = page::summary(report);
    if let Some(stacks) = &report.flames {
        text.push_str("\n## CPU time from SMTP to mailboxes, in percent\n\n");
        text.push_str(&flame::table(stacks));
    }
    print(&text);
    text.push('\n');
    text.push_str(&page::details(report)?);
    fs::write(out.join("report.md"), &text)?;
    let bars = table::bars(report);
    let plot = plot::svg(
        "Correo beside Postfix and Dovecot",
        "How many times better (rate, time or memory), on a logarithmic scale; the mark is the goal.",
        &bars,
    );
    fs::write(out.join("plot.svg"), &plot)?;
    let flames = report
        .flames
        .as_ref()
        .map(|stacks| flame::svg(stacks, "From SMTP to mailboxes"));
    if let Some(flames) = &flames {
        fs::write(out.join("flame.svg"), flames)?;
    }
    let Some(docs) = root.map(|root| root.join("docs")) else {
        return Ok(());
    };
    let file = docs.join("performance.md");
    let old = fs::read_to_string(&file).ok();
    fs::write(&file, page::page(old.as_deref(), report)?)?;
    fs::write(docs.join("performance.svg"), plot)?;
    if let Some(flames) = flames {
        fs::write(docs.join("flame-end-to-end.svg"), flames)?;
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the report is what the command is for")]
fn print(page: &str) {
    println!("{page}");
}
