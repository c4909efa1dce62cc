//! What the figures were measured on, without names of hosts and folders.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

/// Flushes that are timed, to tell what the disk is like.
const FLUSHES: usize = 200;

/// The machine, line by line: what, and its value. `folder` is where the data is.
pub(crate) fn describe(folder: &Path) -> Result<Vec<(&'static str, String)>> {
    let mut lines = Vec::new();
    let cores = std::thread::available_parallelism()?;
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned());
    lines.push(("processor", format!("{cpu}, {cores} cores")));
    if let Some(memory) = field("/proc/meminfo", "MemTotal")
        .as_deref()
        .and_then(gibibytes)
    {
        lines.push(("memory", format!("{memory} GiB")));
    }
    lines.push(("file system", file_system(folder)?));
    lines.push(("fdatasync behind 4 KiB, median", flush_time(folder)?));
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    lines.push(("kernel", format!("Linux {}", numeric(&release))));
    if let Some(system) = system() {
        lines.push(("system", system));
    }
    Ok(lines)
}

/// The peers' versions, of those that are installed.
pub(crate) fn peers() -> Vec<(&'static str, String)> {
    let first = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        Some(text.lines().next()?.trim().to_owned())
    };
    let postfix = first("postconf", &["-dh", "mail_version"]);
    let dovecot = first("dovecot", &["--version"]);
    let dovecot = dovecot.and_then(|v| Some(v.split_whitespace().next()?.to_owned()));
    [("Postfix", postfix), ("Dovecot", dovecot)]
        .into_iter()
        .filter_map(|(name, version)| Some((name, version?)))
        .collect()
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let value = text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    });
    value.filter(|value| !value.is_empty())
}

fn gibibytes(kibibytes: &str) -> Option<u64> {
    let number: u64 = kibibytes.split_whitespace().next()?.parse().ok()?;
    // A little is always taken by the kernel.
    Some(number.div_ceil(1024 * 1024))
}

/// The number of a kernel's version; what is behind it may name whose machine it is.
fn numeric(release: &str) -> &str {
    let end = release.find(|c: char| !c.is_ascii_digit() && c != '.');
    release
        .get(..end.unwrap_or(release.len()))
        .unwrap_or(release)
}

fn system() -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(name.trim_matches('"').to_owned())
}

fn file_system(folder: &Path) -> Result<String> {
    let folder = folder.canonicalize()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    mount_of(&mounts, &folder).context("no mount has the folder")
}

/// The type of the file system that a folder is on, from /proc/self/mountinfo.
fn mount_of(mounts: &str, folder: &Path) -> Option<String> {
    let mut best: Option<(usize, &str)> = None;
    for line in mounts.lines() {
        let (left, right) = line.split_once(" - ")?;
        let (Some(point), Some(kind)) = (left.split(' ').nth(4), right.split(' ').next()) else {
            continue;
        };
        let closer = best.is_none_or(|(length, _)| point.len() >= length);
        if folder.starts_with(point) && closer {
            best = Some((point.len(), kind));
        }
    }
    best.map(|(_, kind)| kind.to_owned())
}

fn flush_time(folder: &Path) -> Result<String> {
    let path = folder.join("flushes");
    let mut file = File::create(&path)?;
    let mut times = Vec::with_capacity(FLUSHES);
    for _ in 0..FLUSHES {
        let begun = Instant::now();
        file.write_all(&[0x55; 4096])?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    fs::remove_file(&path)?;
    times.sort_unstable();
    let median = times.get(FLUSHES / 2).context("nothing was timed")?;
    Ok(format!("{:.2} ms", median.as_secs_f64() * 1000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_mount_counts() {
        let mounts = "22 1 254:0 / / rw - ext4 /dev/a rw\n23 22 0:5 / /tmp rw shared:1 - tmpfs t rw\n\
                      24 22 0:6 / /tm rw - xfs /dev/b rw\n";
        assert_eq!(
            mount_of(mounts, Path::new("/tmp/a")).as_deref(),
            Some("tmpfs")
        );
        assert_eq!(mount_of(mounts, Path::new("/var")).as_deref(), Some("ext4"));
    }

    #[test]
    fn a_kernel_is_told_by_its_number_alone() {
        assert_eq!(numeric("6.1.0-18-amd64\n"), "6.1.0");
        assert_eq!(numeric("6.12.3\n"), "6.12.3");
    }

    #[test]
    fn this_machine_can_be_described() {
        let folder = tempfile::tempdir().unwrap();
        let lines = describe(folder.path()).unwrap();
        assert!(
            lines
                .iter()
                .any(|(what, value)| *what == "kernel" && value.len() > 6)
        );
    }
}
