//! Snapshots of the engine's that were not finished.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use tracing::info;

/// Removes what a process that was killed, or a full disk, has left of a snapshot that was being
/// written. The engine (sled 0.34) takes such a file for the newest snapshot, finds it damaged, and
/// does not open again. Its log has all that a snapshot tells.
pub(super) fn remove_unfinished(folder: &Path) -> io::Result<()> {
    let log = match File::open(folder.join("db")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        log => log?,
    };
    // Another process that has the folder may be writing one: it holds this lock.
    if log.try_lock().is_err() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            info!(file = %entry.path().display(), "removed an unfinished snapshot");
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{QueueStore, SledOptions, SledStore};
    use std::time::Duration;

    #[test]
    fn a_store_opens_beside_an_unfinished_snapshot() {
        let folder = tempfile::tempdir().unwrap();
        let options = SledOptions {
            folder: folder.path().to_owned(),
            cache: 1 << 20,
            min_free: 0,
            now: 1,
            lock_wait: Duration::from_secs(10),
        };
        drop(SledStore::open(&options).unwrap());
        let unfinished = folder.path().join("snap.FFFFFFFFFFFFFFFF.generating");
        for octets in [&b""[..], b"half of a snapshot"] {
            fs::write(&unfinished, octets).unwrap();
            let store = SledStore::open(&options).unwrap();
            assert!(store.fsck(false).unwrap().problems.is_empty());
            assert!(!unfinished.exists());
        }
    }
}
