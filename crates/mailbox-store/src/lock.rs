use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::StoreError;
use crate::disk::{Disk, DiskFile};

/// The file that the one process which uses the store holds a lock on; no account has that name.
const LOCK: &str = ".lock";
/// How often a lock that somebody has is tried.
const TICK: Duration = Duration::from_millis(20);

/// Takes the store's folder for this process: two with one journal would remove each other's mail.
/// The lock ends with the file, or with the process.
pub(crate) fn lock_root(
    disk: &dyn Disk,
    root: &Path,
    wait: Duration,
) -> Result<Box<dyn DiskFile>, StoreError> {
    let path = root.join(LOCK);
    let failed = |error| StoreError::io(&path, error);
    let file = disk.open(&path).map_err(failed)?;
    let start = Instant::now();
    while !file.try_lock().map_err(failed)? {
        if start.elapsed() >= wait {
            return Err(StoreError::InUse(root.to_owned()));
        }
        thread::sleep(TICK);
    }
    Ok(file)
}
