//! The Debian packages that the end-to-end tests and the benchmark use.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::bail;

use crate::run::{check, output, root};

/// Where Debian asks whether an installed service may be started.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs what the tests need and is missing, or says how to.
pub(crate) fn install() -> anyhow::Result<()> {
    let list = fs::read_to_string(root()?.join("tests/packages.txt"))?;
    let wanted = list
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with('#'));
    install_all(&wanted.collect::<Vec<_>>())
}

/// Installs those of the packages that are missing, or says how to.
#[expect(clippy::print_stderr, reason = "a command says what it does")]
pub(crate) fn install_all(wanted: &[&str]) -> anyhow::Result<()> {
    let missing: Vec<&str> = wanted
        .iter()
        .copied()
        .filter(|package| !is_installed(package))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let line = format!(
        "apt-get install --no-install-recommends {}",
        missing.join(" ")
    );
    if output(Command::new("id").arg("-u"))?.trim() != "0" {
        bail!("Debian packages are needed that are not here; as root run: {line}");
    }
    eprintln!("installing what is needed: {line}");
    check(Command::new("apt-get").arg("update").stdout(Stdio::null()))?;
    let _quiet = NoServices::begin()?;
    let mut install = Command::new("apt-get");
    install
        .args(["install", "--yes", "--no-install-recommends"])
        .args(&missing);
    install
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(Stdio::null());
    check(&mut install)
}

fn is_installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query
        .args(["--show", "--showformat=${db:Status-Status}", package])
        .stderr(Stdio::null());
    output(&mut query).is_ok_and(|status| status == "installed")
}

/// Keeps installed servers from being started: the tests start their own.
struct NoServices(bool);

impl NoServices {
    fn begin() -> anyhow::Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self(false));
        }
        fs::write(POLICY, "#!/bin/sh\nexit 101\n")?;
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
        Ok(Self(true))
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.0 {
            // Left behind it would only keep services from starting, which apt says aloud.
            let _ = fs::remove_file(POLICY);
        }
    }
}
