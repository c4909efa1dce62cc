//! What must not get into the repository: build output, large files, and paths of one machine.

use std::fs;
use std::process::Command;

use anyhow::bail;

use crate::run::{output, root};

/// No source or test file is larger; what is can be made by a script.
const MAX_SIZE: u64 = 512 * 1024;
/// Folders that builds and runs leave behind.
const LEFT_BEHIND: [&str; 3] = ["correo-home", "node_modules", "target"];

/// Looks at all tracked files.
pub(crate) fn run() -> anyhow::Result<()> {
    let root = root()?;
    let list = output(Command::new("git").arg("ls-files").current_dir(&root))?;
    let mut wrong = Vec::new();
    for file in list.lines() {
        let size = fs::symlink_metadata(root.join(file)).map_or(0, |meta| meta.len());
        if size > MAX_SIZE {
            wrong.push(format!("{file} has {size} octets, more than {MAX_SIZE}"));
        }
        if file.split('/').any(|part| LEFT_BEHIND.contains(&part)) {
            wrong.push(format!("{file} is output of a build or run"));
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}
