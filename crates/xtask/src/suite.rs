//! `up` and `test`.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::packages;
use crate::run::{cargo, check, root};

/// Builds the programs and becomes `correo up`.
pub(crate) fn up(arguments: &[String]) -> anyhow::Result<()> {
    let program = release()?.join("correo");
    let error = Command::new(program).arg("up").args(arguments).exec();
    Err(error.into())
}

/// Installs what is missing, builds the programs, and runs all tests.
pub(crate) fn test(arguments: &[String]) -> anyhow::Result<()> {
    packages::install()?;
    // The end-to-end tests start the programs, which no test depends on by cargo's rules. With the
    // tests, as below, lest everything be compiled with two sets of features.
    check(cargo()?.args(["build", "--workspace", "--bins", "--tests", "--examples"]))?;
    let mut test = cargo()?;
    test.args(["test", "--workspace"]).args(arguments);
    // A missing tool is then a failure, not a reason to skip.
    test.env("CARGO_XTASK_TEST", "1");
    check(&mut test)
}

/// Builds the programs, unless they are to be taken from somewhere, and tortures them.
#[expect(clippy::print_stderr, reason = "a command says what it does")]
pub(crate) fn torture(programs: Option<&Path>, arguments: &[String]) -> anyhow::Result<()> {
    let folder = match programs {
        Some(folder) => folder.canonicalize()?,
        None => release()?,
    };
    if let Err(error) = packages::install() {
        // It says itself what it has to leave out.
        eprintln!("{error}");
    }
    let mut torture = Command::new(folder.join("correo-torture"));
    torture.args(arguments).env("CORREO_BIN_DIR", &folder);
    // In its place, so that a signal meets the one that has something to tear down.
    let error = torture.exec();
    Err(error).with_context(|| format!("{}", folder.join("correo-torture").display()))
}

/// Builds all programs in release, and says where they are. Everything is selected, as by
/// `cargo build --workspace`: a shorter list would make cargo compile all dependencies anew for
/// each list, since it unifies features among what is selected.
pub(crate) fn release() -> anyhow::Result<PathBuf> {
    check(cargo()?.args(["build", "--release", "--workspace", "--bins"]))?;
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root()?.join(folder),
        None => root()?.join("target"),
    };
    Ok(target.join("release"))
}
