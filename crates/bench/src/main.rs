//! `correo-bench`: measures the whole suite under load, beside Postfix and Dovecot if wanted.
//!
//! `cargo xtask bench` builds what it needs and runs it. Results go to `target/bench`: a table, a
//! plot and all figures as JSON. `correo-bench smtp`, `pop3` and `imap` are its load clients alone.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

mod load;
mod measure;
mod report;
mod result;
mod rows;
mod run;
mod side;
mod usage;

/// What `correo-bench` takes.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask bench",
    about = "Measures the whole suite under load",
    after_help = "Examples:\n  cargo xtask bench                              Correo alone\n  \
                  cargo xtask bench --vs postfix-dovecot         beside Postfix and Dovecot, as root\n  \
                  cargo xtask bench --rows smtp,imap --runs 1    some groups of rows, once"
)]
pub(crate) struct Arguments {
    /// A load alone, in place of the benchmark
    #[command(subcommand)]
    load: Option<load::cli::Load>,
    /// Measure other servers in turn with Correo
    #[arg(long)]
    vs: Option<Peer>,
    /// Counted runs of each row, behind one that is not counted
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Few operations and one run: to see that all works, not for figures
    #[arg(long)]
    quick: bool,
    /// Groups of rows, separated by commas; all by default
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Messages of the rows about a long queue; 100,000 by default
    #[arg(long)]
    waiting: Option<usize>,
    /// Record where the time goes while mail flows from SMTP to mailboxes
    #[arg(long)]
    flame: bool,
    /// Write docs/performance.md and its pictures, too
    #[arg(long, conflicts_with = "quick")]
    write_docs: bool,
    /// The folder of the checkout
    #[arg(long, default_value = ".", hide = true)]
    root: PathBuf,
}

/// Servers to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// Debian's Postfix and Dovecot, with configurations of their own
    PostfixDovecot,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = Arguments::parse();
    testkit::unwind_on_signals()?;
    match arguments.load.take() {
        Some(load) => load.run(),
        None => run::run(&arguments),
    }
}
