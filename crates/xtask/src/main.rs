//! The project's own commands; `cargo xtask --help` lists them.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

mod bench;
mod deps;
mod files;
mod fuzz;
mod packages;
mod proto;
mod rfc;
mod run;
mod suite;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own commands")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build in release and run the whole suite; the arguments are those of `correo up`
    Up {
        /// Passed on to `correo up`, such as --home DIR, --once and --port-base N
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Install what the tests need and run all of them
    Test {
        /// Passed on to `cargo test`, such as a test's name
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run the whole suite under load while daemons are killed, disks fill up and clocks jump
    Torture {
        /// Take all programs, correo-torture too, from here, such as target/debug, instead of
        /// building them in release
        #[arg(long)]
        programs: Option<PathBuf>,
        /// Passed on: --rounds N, --seed N, --quick, --accounts N, --out DIR
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Build in release and measure the whole suite, beside others with --vs postfix-dovecot
    Bench {
        /// Passed on to `correo-bench`; --help lists what it takes
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Check which crate depends on which, by crates/xtask/deps.toml
    Deps,
    /// Check that no file is in the repository that does not belong there
    Files,
    /// Run the fuzz targets, each for a while, and fail on a finding
    Fuzz {
        /// How long each target runs
        #[arg(long, default_value_t = 60)]
        seconds: u32,
        /// One of fuzz/fuzz_targets; all of them if none is named
        target: Option<String>,
    },
    /// Check the RFCs and sections that the code cites by rfc/, and print the coverage
    Rfc {
        /// Make rfc/sections.tsv anew from the RFCs' texts in this folder
        #[arg(long)]
        texts: Option<PathBuf>,
    },
    /// Generate the gRPC code in mail-rpc from proto/
    Proto {
        /// Change nothing; fail if the generated code is not up to date
        #[arg(long)]
        check: bool,
    },
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().verb {
        Verb::Bench { arguments } => bench::run(&arguments),
        Verb::Deps => deps::run(),
        Verb::Files => files::run(),
        Verb::Fuzz { seconds, target } => fuzz::run(seconds, target.as_deref()),
        Verb::Proto { check } => proto::run(check),
        Verb::Rfc { texts } => rfc::run(texts.as_deref()),
        Verb::Test { arguments } => suite::test(&arguments),
        Verb::Torture {
            programs,
            arguments,
        } => suite::torture(programs.as_deref(), &arguments),
        Verb::Up { arguments } => suite::up(&arguments),
    }
}
