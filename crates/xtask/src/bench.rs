//! `bench`: the whole suite under load, beside Postfix and Dovecot if that is wanted.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::packages;
use crate::run::root;
use crate::suite::release;

/// What counting flushes takes.
const TOOLS: [&str; 1] = ["strace"];

/// What `--flame` takes.
const FLAME: [&str; 1] = ["linux-perf"];

/// The servers of `--vs postfix-dovecot`.
const PEERS: [&str; 5] = [
    "dovecot-core",
    "dovecot-imapd",
    "dovecot-lmtpd",
    "dovecot-pop3d",
    "postfix",
];

/// Builds all in release, installs what the arguments need, and runs `correo-bench` with them.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let asks_for = |name: &str| {
        let with_value = format!("{name}=");
        arguments
            .iter()
            .any(|a| a == name || a.starts_with(&with_value))
    };
    let mut wanted = TOOLS.to_vec();
    if asks_for("--vs") {
        wanted.extend(PEERS);
    }
    if asks_for("--flame") {
        wanted.extend(FLAME);
    }
    packages::install_all(&wanted)?;
    let programs = release()?;
    let mut bench = Command::new(programs.join("correo-bench"));
    // It starts the suite as the end-to-end tests do.
    bench.env("CORREO_BIN_DIR", &programs);
    bench.arg("--root").arg(root()?);
    // In its place, so that a signal meets the one that has something to tear down.
    Err(bench.args(arguments).exec().into())
}
