//! The project's own commands; `cargo xtask --help` lists them.

use clap::{Parser, Subcommand};

mod proto;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own commands")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Generate the gRPC code in mail-rpc from proto/
    Proto {
        /// Change nothing; fail if the generated code is not up to date
        #[arg(long)]
        check: bool,
    },
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().verb {
        Verb::Proto { check } => proto::run(check),
    }
}
