//! The index engine's file, by way of the [`Disk`].

use std::io;
use std::ops::Bound;
use std::path::Path;

use redb::{BackendError, Database, StorageBackend};

use crate::StoreError;
use crate::disk::{Disk, DiskFile};

/// Opens an index, which is made if it is not there. `cache` is in octets.
pub(crate) fn open_index(
    disk: &dyn Disk,
    path: &Path,
    cache: usize,
) -> Result<Database, StoreError> {
    let file = disk
        .open(path)
        .map_err(|error| StoreError::io(path, error))?;
    let database = Database::builder()
        .set_cache_size(cache)
        .create_with_backend(IndexFile(file))?;
    Ok(database)
}

#[derive(Debug)]
struct IndexFile(Box<dyn DiskFile>);

impl StorageBackend for IndexFile {
    fn len(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_length(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(data, offset)
    }

    /// The engine falls back to locking all when it cannot lock parts.
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        if start == Bound::Unbounded && end == Bound::Unbounded {
            return Ok(self.0.try_lock()?);
        }
        Err(BackendError::Unsupported)
    }

    /// The lock ends when the file is closed, which is when the engine lets go of this.
    fn unlock_range(&self, _start: Bound<u64>, _end: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }
}
