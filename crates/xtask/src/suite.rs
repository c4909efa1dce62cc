//! `up` and `test`.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::packages;
use crate::run::{cargo, check, root};

/// The programs that make the suite.
pub(crate) const PROGRAMS: [&str; 8] = [
    "correo",
    "directoryd",
    "imapd",
    "localdeliver",
    "pop3d",
    "queued",
    "remotedeliver",
    "smtpd",
];

/// Builds the programs and becomes `correo up`.
pub(crate) fn up(arguments: &[String]) -> anyhow::Result<()> {
    build(true)?;
    let program = target_folder()?.join("release/correo");
    let error = Command::new(program).arg("up").args(arguments).exec();
    Err(error.into())
}

/// Installs what is missing, builds the programs, and runs all tests.
pub(crate) fn test(arguments: &[String]) -> anyhow::Result<()> {
    packages::install()?;
    // The end-to-end tests start the programs, which no test depends on by cargo's rules.
    build(false)?;
    let mut test = cargo()?;
    test.args(["test", "--workspace"]).args(arguments);
    // A missing tool is then a failure, not a reason to skip.
    test.env("CARGO_XTASK_TEST", "1");
    check(&mut test)
}

/// Builds the programs, unless they are to be taken from somewhere, and tortures them.
#[expect(clippy::print_stderr, reason = "a command says what it does")]
pub(crate) fn torture(programs: Option<&Path>, arguments: &[String]) -> anyhow::Result<()> {
    let folder = if let Some(folder) = programs {
        folder.canonicalize()?
    } else {
        build(true)?;
        target_folder()?.join("release")
    };
    if let Err(error) = packages::install() {
        // It says itself what it has to leave out.
        eprintln!("{error}");
    }
    let mut run = cargo()?;
    run.args(["run", "--quiet", "--package", "torture", "--"]);
    run.args(arguments).env("CORREO_BIN_DIR", folder);
    // In its place, so that a signal meets the one that has something to tear down.
    Err(run.exec().into())
}

fn build(release: bool) -> anyhow::Result<()> {
    let mut build = cargo()?;
    build.arg("build");
    if release {
        build.arg("--release");
    }
    for program in PROGRAMS {
        build.args(["--package", program]);
    }
    check(&mut build)
}

/// Where cargo puts what it builds.
pub(crate) fn target_folder() -> anyhow::Result<std::path::PathBuf> {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => Ok(root()?.join(folder)),
        None => Ok(root()?.join("target")),
    }
}
