//! correo: the one command on PATH.
//!
//! # Description
//!
//! Changes and lists domains, accounts and aliases (through directoryd), controls the queue
//! (through queued), checks and mends the mail store and carries mail in and out of it (through
//! localdeliver), checks the configuration, and runs the whole suite in the foreground (`up`).
//! It holds no state: all it does goes over the daemons' gRPC sockets.
//!
//! # Security
//!
//! Needs no privileges of its own; whoever may open the administration sockets may use it.
//! Passwords are asked for without echo, read from standard input or made up, and never taken from
//! the command line, where others could see them.
//!
//! # Diagnostics
//!
//! Exit status, as in sysexits.h: 64 for a wrong command line, 69 when a daemon is not reachable,
//! 78 for a bad configuration, 1 for everything else that failed: also where a check finds something,
//! and where messages were left out of an export or import.
//!
//! # Files
//!
//! `/etc/correo/correo.toml`, or `correo.toml` under `--home`.

mod cli;
mod cmd;
mod failure;
mod init;
mod output;
mod secret;
mod suite;
mod transfer;
mod up;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use cli::{AccountVerb, Cli, Verb};
use failure::Failure;
use output::Output;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A closed terminal cannot be told anything.
            let _ = error.print();
            return if error.use_stderr() {
                failure::usage()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error.into()),
    };
    match runtime.block_on(run(cli)) {
        Ok(code) => code,
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => complain(&failure),
    }
}

async fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let out = Output { json: cli.json };
    let source = match cli.verb {
        Verb::Init(args) => {
            let home = init::home(cli.home, cli.config.as_ref())?;
            return init::run(&home, &args, out).map(|()| ExitCode::SUCCESS);
        }
        Verb::Up(args) => return up::run(cli.home, cli.config.as_ref(), args).await,
        _ => suite::source(cli.home, cli.config),
    };
    let config = match &cli.verb {
        Verb::Config(verb) => {
            return cmd::config::run(verb, &source, out).map(|()| ExitCode::SUCCESS);
        }
        _ => suite::load(&source)?,
    };
    match cli.verb {
        Verb::Domain(verb) => cmd::domain::run(verb, &config, out).await,
        Verb::Account(AccountVerb::Export(files)) => {
            return cmd::export::run(&files, &config, out).await;
        }
        Verb::Account(AccountVerb::Import(files)) => {
            return cmd::import::run(&files, &config, out).await;
        }
        Verb::Store(verb) => return cmd::store::run(verb, &config, out).await,
        Verb::Account(verb) => cmd::account::run(verb, &config, out).await,
        Verb::Alias(verb) => cmd::alias::run(verb, &config, out).await,
        Verb::Queue(verb) => cmd::queue::run(verb, &config, out).await,
        Verb::Route { address } => cmd::route::run(&address, &config, out).await,
        Verb::Config(_) | Verb::Init(_) | Verb::Up(_) => Ok(()),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn complain(failure: &Failure) -> ExitCode {
    // A closed terminal cannot be told anything.
    let _ = writeln!(std::io::stderr(), "correo: {failure}");
    failure.exit_code()
}
