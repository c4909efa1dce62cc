//! What the store does to the file system, as a seam: tests put a disk in its place that fails,
//! tears writes, is full, or loses what was not synced.
//!
//! Reading goes past it: such a disk keeps the present state of all files in the real file system.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::StoreError;

/// Files and folders, as far as the store changes them.
pub trait Disk: Debug + Send + Sync {
    /// Opens a file for reading and writing, and makes it if it is not there.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Makes a folder whose parent is there.
    fn create_folder(&self, path: &Path) -> io::Result<()>;

    /// Puts a file or folder in another one's place.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a folder with all that is in it.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;

    /// Makes durable which names a folder has.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
}

/// A file that is open.
pub trait DiskFile: Debug + Send + Sync {
    /// Octets in it.
    fn length(&self) -> io::Result<u64>;

    /// Fills `octets` from an offset; an error if the file does not have so many.
    fn read_at(&self, octets: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all octets at an offset. An error may leave a part of them in the file.
    fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file, or fills it with zeros.
    fn set_length(&self, length: u64) -> io::Result<()>;

    /// Makes durable what was written and the file's length, not its name. After an error nobody
    /// knows what is on the disk.
    fn sync(&self) -> io::Result<()>;

    /// Locks it for this process alone until it is closed; false if another has it.
    fn try_lock(&self) -> io::Result<bool>;

    /// All of it is to be read soon. Nothing depends on it.
    fn will_be_read(&self) {}
}

/// The file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileSystem;

impl Disk for FileSystem {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        let options = options.create(true).truncate(false).read(true).write(true);
        Ok(Box::new(options.open(path)?))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

impl DiskFile for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, octets: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(octets, offset)
    }

    fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(octets, offset)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn try_lock(&self) -> io::Result<bool> {
        match File::try_lock(self) {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn will_be_read(&self) {
        let advice = PosixFadviseAdvice::POSIX_FADV_WILLNEED;
        if let Err(error) = posix_fadvise(self, 0, 0, advice) {
            tracing::debug!(%error, "the system takes no advice");
        }
    }
}

pub(crate) type SharedDisk = Arc<dyn Disk>;

/// Once a sync has failed nothing is done any more: the pages that it was for count as written, so
/// that the next sync would succeed without them.
pub(crate) fn guard(disk: SharedDisk) -> SharedDisk {
    let has_failed = Arc::new(AtomicBool::new(false));
    Arc::new(Guarded {
        inner: disk,
        has_failed,
    })
}

#[derive(Debug)]
struct Guarded<T> {
    inner: T,
    has_failed: Arc<AtomicBool>,
}

/// A sync has failed, now or before.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct SyncFailed(String);

pub(crate) fn is_failed_sync(error: &io::Error) -> bool {
    let inner = error.get_ref();
    inner.is_some_and(<dyn std::error::Error + Send + Sync>::is::<SyncFailed>)
}

impl<T> Guarded<T> {
    fn look(&self) -> io::Result<&T> {
        if self.has_failed.load(Ordering::Acquire) {
            let before = SyncFailed("a sync has failed before".to_owned());
            return Err(io::Error::other(before));
        }
        Ok(&self.inner)
    }

    fn sync(&self, sync: impl FnOnce(&T) -> io::Result<()>) -> io::Result<()> {
        sync(self.look()?).map_err(|error| {
            self.has_failed.store(true, Ordering::Release);
            io::Error::new(error.kind(), SyncFailed(error.to_string()))
        })
    }
}

impl Disk for Guarded<SharedDisk> {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(Guarded {
            inner: self.look()?.open(path)?,
            has_failed: self.has_failed.clone(),
        }))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.look()?.create_folder(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.look()?.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.look()?.remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.look()?.remove_folder(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.sync(|disk| disk.sync_folder(path))
    }
}

impl DiskFile for Guarded<Box<dyn DiskFile>> {
    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }

    fn read_at(&self, octets: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.read_at(octets, offset)
    }

    fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<()> {
        self.look()?.write_at(octets, offset)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.look()?.set_length(length)
    }

    fn sync(&self) -> io::Result<()> {
        Guarded::sync(self, |file| file.sync())
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.inner.try_lock()
    }

    fn will_be_read(&self) {
        self.inner.will_be_read();
    }
}

/// Makes a folder and those above it, durably, where they are not there.
pub(crate) fn make_folder(disk: &dyn Disk, folder: &Path) -> Result<(), StoreError> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().filter(|path| !path.as_os_str().is_empty());
    if let Some(parent) = parent {
        make_folder(disk, parent)?;
    }
    match disk.create_folder(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(StoreError::io(folder, error));
        }
        _ => {}
    }
    sync_folder(disk, parent.unwrap_or(Path::new(".")))
}

pub(crate) fn sync_folder(disk: &dyn Disk, folder: &Path) -> Result<(), StoreError> {
    disk.sync_folder(folder).map_err(StoreError::Fatal)
}
