//! The log: segments that are only appended to, with every change and every content.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use nix::fcntl::posix_fallocate;

use super::frame::{HEADER, Header, Kind, next_frame};
use crate::store::StoreError;

/// Octets of a segment, unless one frame needs more. Their room is taken at once, so that a full
/// disk refuses new mail before it keeps old mail from leaving.
pub(super) const SEGMENT: u64 = 16 * 1024 * 1024;

/// Where octets of content are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// From 1; 0 stands for the batch that says so, with `at` counted from its octets.
    pub(super) segment: u64,
    pub(super) at: u32,
    pub(super) len: u32,
    /// CRC-32C.
    pub(super) sum: u32,
}

impl Place {
    /// Content that was never there.
    pub(super) const MISSING: Self = Self {
        segment: u64::MAX,
        at: 0,
        len: 0,
        sum: 0,
    };
}

/// A place between frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) segment: u64,
    pub(super) at: u64,
}

#[derive(Debug)]
pub(super) struct Log {
    folder: PathBuf,
    tail: Mutex<Tail>,
    failed: AtomicBool,
}

/// Where it is appended to.
#[derive(Debug)]
pub(super) struct Tail {
    current: Segment,
    end: u64,
    /// The segment that follows, made ahead.
    next: Option<Segment>,
    /// Full ones that may have octets which are not on disk.
    unsynced: Vec<Arc<File>>,
    /// Number of the next batch.
    batch: u64,
}

#[derive(Clone, Debug)]
struct Segment {
    number: u64,
    tag: u64,
    size: u64,
    file: Arc<File>,
}

impl Log {
    /// A log that goes on with a new segment of this number.
    pub(super) fn start(folder: &Path, number: u64, batch: u64) -> Result<Self, StoreError> {
        let current = create(folder, number, SEGMENT)?;
        Ok(Self {
            folder: folder.to_owned(),
            tail: Mutex::new(Tail {
                current,
                end: next_frame(0, 0),
                next: None,
                unsynced: Vec::new(),
                batch,
            }),
            failed: AtomicBool::new(false),
        })
    }

    /// Whoever has it is the only one who appends.
    pub(super) fn tail(&self) -> Result<MutexGuard<'_, Tail>, StoreError> {
        if self.failed.load(SeqCst) {
            return Err(failed_before());
        }
        // It changes behind a whole frame alone.
        Ok(self.tail.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Appends a frame. Answers where its octets are. An error leaves everything as it was.
    pub(super) fn append(
        &self,
        tail: &mut Tail,
        kind: Kind,
        number: u64,
        octets: &[u8],
        sum: u32,
    ) -> Result<Position, StoreError> {
        let behind = next_frame(tail.end, octets.len());
        if behind > tail.current.size.max(SEGMENT) {
            self.rotate(tail, next_frame(next_frame(0, 0), octets.len()))?;
        }
        let header = Header {
            kind,
            tag: tail.current.tag,
            number,
            len: u32::try_from(octets.len()).map_err(StoreError::failed)?,
            sum,
        };
        let at = tail.end + HEADER as u64;
        let file = &tail.current.file;
        file.write_all_at(&header.to_bytes(), tail.end)
            .and_then(|()| file.write_all_at(octets, at))
            .map_err(write_error)?;
        tail.end = next_frame(tail.end, octets.len());
        Ok(Position {
            segment: tail.current.number,
            at,
        })
    }

    /// Appends a batch.
    pub(super) fn append_batch(
        &self,
        tail: &mut Tail,
        octets: &[u8],
    ) -> Result<Position, StoreError> {
        let sum = crc32c::crc32c(octets);
        let at = self.append(tail, Kind::Batch, tail.batch, octets, sum)?;
        tail.batch += 1;
        Ok(at)
    }

    fn rotate(&self, tail: &mut Tail, size: u64) -> Result<(), StoreError> {
        let next = tail.next.take();
        let next = match next {
            Some(next) if next.size >= size => next,
            // Empty; a later start removes it.
            Some(small) => create(&self.folder, small.number + 1, size)?,
            None => create(&self.folder, tail.current.number + 1, size.max(SEGMENT))?,
        };
        let full = std::mem::replace(&mut tail.current, next);
        tail.unsynced.push(full.file);
        tail.end = next_frame(0, 0);
        Ok(())
    }

    /// Makes the segment that follows, if there is none, so that nobody has to wait for it.
    pub(super) fn prepare(&self) -> Result<(), StoreError> {
        let number = {
            let tail = self.tail()?;
            if tail.next.is_some() || tail.end < tail.current.size / 2 {
                return Ok(());
            }
            tail.current.number + 1
        };
        let made = create(&self.folder, number, SEGMENT)?;
        let mut tail = self.tail()?;
        if tail.next.is_none() && tail.current.number + 1 == number {
            tail.next = Some(made);
        }
        Ok(())
    }

    /// Makes durable what was appended before. After an error nobody knows what is on the disk:
    /// nothing is appended any more.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let (full, current) = {
            let tail = self.tail()?;
            (tail.unsynced.clone(), tail.current.file.clone())
        };
        for file in full.iter().chain([&current]) {
            if let Err(error) = file.sync_data() {
                self.failed.store(true, SeqCst);
                return Err(StoreError::failed(error));
            }
        }
        if !full.is_empty() {
            let mut tail = self.tail()?;
            let is_synced = |file: &Arc<File>| full.iter().any(|synced| Arc::ptr_eq(synced, file));
            tail.unsynced.retain(|file| !is_synced(file));
        }
        if self.failed.load(SeqCst) {
            // Another sync failed meanwhile: this one may have found its pages clean.
            return Err(failed_before());
        }
        Ok(())
    }

    /// Reads content; `None` if it is not what was written, or not there.
    pub(super) fn read(&self, place: Place) -> Result<Option<Bytes>, StoreError> {
        let mut octets = vec![0; place.len as usize];
        let read = File::open(path(&self.folder, place.segment))
            .and_then(|file| file.read_exact_at(&mut octets, place.at.into()));
        match read {
            Ok(()) => Ok((crc32c::crc32c(&octets) == place.sum).then(|| octets.into())),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(StoreError::failed(error)),
        }
    }

    /// Removes a segment.
    pub(super) fn remove(&self, segment: u64) -> Result<(), StoreError> {
        match fs::remove_file(path(&self.folder, segment)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::failed(error)),
            _ => Ok(()),
        }
    }

    pub(super) fn size(&self, segment: u64) -> Result<u64, StoreError> {
        match fs::metadata(path(&self.folder, segment)) {
            Ok(found) => Ok(found.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(StoreError::failed(error)),
        }
    }
}

impl Tail {
    /// Behind all that was appended.
    pub(super) fn position(&self) -> Position {
        Position {
            segment: self.current.number,
            at: self.end,
        }
    }
}

/// The segments in a folder, in their order.
pub(super) fn segments(folder: &Path) -> Result<Vec<u64>, StoreError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(StoreError::failed)? {
        let name = entry.map_err(StoreError::failed)?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".log"));
        found.extend(number.and_then(|number| u64::from_str_radix(number, 16).ok()));
    }
    found.sort_unstable();
    Ok(found)
}

pub(super) fn path(folder: &Path, segment: u64) -> PathBuf {
    folder.join(format!("{segment:016x}.log"))
}

fn create(folder: &Path, number: u64, size: u64) -> Result<Segment, StoreError> {
    let path = path(folder, number);
    let made = try_create(folder, &path, number, size);
    if made.is_err() {
        // Half of a segment is worth nothing; a start removes it too.
        let _ = fs::remove_file(&path);
    }
    made.map_err(write_error)
}

fn try_create(folder: &Path, path: &Path, number: u64, size: u64) -> io::Result<Segment> {
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(true).write(true).open(path)?;
    let length = i64::try_from(size).map_err(io::Error::other)?;
    match posix_fallocate(&file, 0, length) {
        // Not every file system can.
        Ok(()) | Err(nix::Error::EOPNOTSUPP | nix::Error::EINVAL) => {}
        Err(error) => return Err(error.into()),
    }
    // The keys of each are the system's randomness.
    let tag = RandomState::new().build_hasher().finish();
    let header = Header {
        kind: Kind::Segment,
        tag,
        number,
        len: 0,
        sum: crc32c::crc32c(&[]),
    };
    file.write_all_at(&header.to_bytes(), 0)?;
    file.sync_all()?;
    File::open(folder)?.sync_all()?;
    Ok(Segment {
        number,
        tag,
        size,
        file: Arc::new(file),
    })
}

/// Without room nothing was changed; whatever else happens is the end.
fn write_error(error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { free: 0 },
        _ => StoreError::failed(error),
    }
}

fn failed_before() -> StoreError {
    StoreError::failed("a sync failed before")
}
