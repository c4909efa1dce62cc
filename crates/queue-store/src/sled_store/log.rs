//! The log: segments that are only appended to, with every change and every content.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use nix::fcntl::posix_fallocate;
use nix::sys::uio::pwritev;

use super::change::put_durable;
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

/// Syncs that may be under way at once. Each has files of its own: the kernel tells a failed write
/// once to each open file, and not to all who share one.
const LANES: usize = 4;

#[derive(Debug)]
pub(super) struct Log {
    folder: PathBuf,
    tail: Mutex<Tail>,
    failed: AtomicBool,
    /// Those that nobody syncs on.
    lanes: Mutex<Vec<usize>>,
    has_lane: Condvar,
    /// All batches with lower numbers are on disk.
    durable: AtomicU64,
}

/// Where it is appended to.
#[derive(Debug)]
pub(super) struct Tail {
    current: Segment,
    end: u64,
    /// The segment that follows, made ahead.
    next: Option<Segment>,
    /// Full ones that may have octets which are not on disk.
    unsynced: Vec<Segment>,
    /// Number of the next batch.
    batch: u64,
    /// The highest number of a segment that was made, or is being made.
    highest: u64,
}

#[derive(Clone, Debug)]
struct Segment {
    number: u64,
    tag: u64,
    size: u64,
    /// One for each lane.
    files: Arc<[File; LANES]>,
}

impl Log {
    /// A log that goes on with a new segment of this number. Without room to take for it, it is
    /// made nevertheless: what is in the queue must get away.
    pub(super) fn start(folder: &Path, number: u64, batch: u64) -> Result<Self, StoreError> {
        let current = match create(folder, number, SEGMENT, true) {
            Err(StoreError::Full { .. }) => create(folder, number, SEGMENT, false)?,
            made => made?,
        };
        Ok(Self {
            folder: folder.to_owned(),
            tail: Mutex::new(Tail {
                current,
                end: next_frame(0, 0),
                next: None,
                unsynced: Vec::new(),
                batch,
                highest: number,
            }),
            failed: AtomicBool::new(false),
            lanes: Mutex::new((0..LANES).collect()),
            has_lane: Condvar::new(),
            durable: AtomicU64::new(batch),
        })
    }

    /// Whoever has it is the only one who appends.
    pub(super) fn tail(&self) -> Result<MutexGuard<'_, Tail>, StoreError> {
        if self.failed.load(SeqCst) {
            return Err(failed_before());
        }
        // It changes behind a whole frame alone.
        Ok(lock(&self.tail))
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
        let [file, ..] = &*tail.current.files;
        write_frame(file, &header.to_bytes(), octets, tail.end).map_err(write_error)?;
        tail.end = next_frame(tail.end, octets.len());
        Ok(Position {
            segment: tail.current.number,
            at,
        })
    }

    /// Appends a batch, and in it which others are on disk.
    pub(super) fn append_batch(
        &self,
        tail: &mut Tail,
        octets: &mut [u8],
    ) -> Result<Position, StoreError> {
        put_durable(octets, self.durable.load(SeqCst));
        let sum = crc32c::crc32c(octets);
        let at = self.append(tail, Kind::Batch, tail.batch, octets, sum)?;
        tail.batch += 1;
        Ok(at)
    }

    fn rotate(&self, tail: &mut Tail, size: u64) -> Result<(), StoreError> {
        let next = match tail.next.take() {
            Some(next) if next.size >= size => next,
            // One that is too small stays empty; a later start removes it.
            _ => {
                let number = tail.reserve();
                create(&self.folder, number, size.max(SEGMENT), true)?
            }
        };
        let full = std::mem::replace(&mut tail.current, next);
        tail.unsynced.push(full);
        tail.end = next_frame(0, 0);
        Ok(())
    }

    /// Makes the segment that follows, if there is none, so that nobody has to wait for it.
    pub(super) fn prepare(&self) -> Result<(), StoreError> {
        let number = {
            let mut tail = self.tail()?;
            if tail.next.is_some() || tail.end < tail.current.size / 2 {
                return Ok(());
            }
            tail.reserve()
        };
        let made = create(&self.folder, number, SEGMENT, true)?;
        let mut tail = self.tail()?;
        if tail.next.is_none() && tail.current.number < number {
            tail.next = Some(made);
        }
        Ok(())
    }

    /// Makes durable what was appended before. After an error nobody knows what is on the disk:
    /// nothing is appended any more.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let lane = self.take_lane();
        let synced = self.sync_on(lane);
        lock(&self.lanes).push(lane);
        self.has_lane.notify_one();
        synced
    }

    fn take_lane(&self) -> usize {
        let mut lanes = lock(&self.lanes);
        loop {
            if let Some(lane) = lanes.pop() {
                return lane;
            }
            lanes = self
                .has_lane
                .wait(lanes)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn sync_on(&self, lane: usize) -> Result<(), StoreError> {
        let (full, current, batch) = {
            let tail = self.tail()?;
            (tail.unsynced.clone(), tail.current.clone(), tail.batch)
        };
        for segment in full.iter().chain([&current]) {
            let Some(file) = segment.files.get(lane) else {
                continue;
            };
            if let Err(error) = file.sync_data() {
                self.failed.store(true, SeqCst);
                return Err(StoreError::failed(error));
            }
        }
        if !full.is_empty() {
            let mut tail = self.tail()?;
            let is_synced = |segment: &Segment| full.iter().any(|s| s.number == segment.number);
            tail.unsynced.retain(|segment| !is_synced(segment));
        }
        if self.failed.load(SeqCst) {
            return Err(failed_before());
        }
        self.durable.fetch_max(batch, SeqCst);
        Ok(())
    }

    /// Reads content; `None` if it is not what was written, or not there.
    pub(super) fn read(&self, place: Place) -> Result<Option<Bytes>, StoreError> {
        read(&self.folder, place)
    }

    /// Removes a segment.
    pub(super) fn remove(&self, segment: u64) -> Result<(), StoreError> {
        remove(&self.folder, segment)
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

    /// The number of the next batch.
    pub(super) fn batch(&self) -> u64 {
        self.batch
    }

    /// A number for a segment that nobody else makes.
    fn reserve(&mut self) -> u64 {
        self.highest += 1;
        self.highest
    }
}

/// Writes a frame, with one call if the system takes it all.
fn write_frame(file: &File, header: &[u8; HEADER], octets: &[u8], at: u64) -> io::Result<()> {
    let parts = [IoSlice::new(header), IoSlice::new(octets)];
    let place = i64::try_from(at).map_err(io::Error::other)?;
    let written = loop {
        match pwritev(file, &parts, place) {
            Err(nix::Error::EINTR) => {}
            written => break written?,
        }
    };
    let left = header.get(written..).unwrap_or_default();
    file.write_all_at(left, at + written as u64)?;
    let done = written.saturating_sub(HEADER);
    let left = octets.get(done..).unwrap_or_default();
    file.write_all_at(left, at + (HEADER + done) as u64)
}

/// See [`Log::read`].
pub(super) fn read(folder: &Path, place: Place) -> Result<Option<Bytes>, StoreError> {
    let mut octets = vec![0; place.len as usize];
    let read = File::open(path(folder, place.segment))
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

/// See [`Log::remove`].
pub(super) fn remove(folder: &Path, segment: u64) -> Result<(), StoreError> {
    match fs::remove_file(path(folder, segment)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::failed(error)),
        _ => Ok(()),
    }
}

/// Makes of a batch that does not count a frame that says nothing.
pub(super) fn silence(
    folder: &Path,
    segment: u64,
    at: u64,
    header: Header,
) -> Result<(), StoreError> {
    let silent = Header {
        kind: Kind::Content,
        number: 0,
        ..header
    };
    let write = || {
        let file = OpenOptions::new().write(true).open(path(folder, segment))?;
        file.write_all_at(&silent.to_bytes(), at - HEADER as u64)?;
        file.sync_data()
    };
    write().map_err(StoreError::failed)
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

/// `takes_room` for all of it at once.
fn create(folder: &Path, number: u64, size: u64, takes_room: bool) -> Result<Segment, StoreError> {
    let path = path(folder, number);
    let open = || OpenOptions::new().write(true).open(&path);
    let made = OpenOptions::new().create_new(true).write(true).open(&path);
    let made = made.and_then(|file| {
        let others = || Ok::<_, io::Error>([file, open()?, open()?, open()?]);
        let segment = others().and_then(|files| fill(folder, files, number, size, takes_room));
        if segment.is_err() {
            // Half of a segment is worth nothing; a start removes it too.
            let _ = fs::remove_file(&path);
        }
        segment
    });
    made.map_err(write_error)
}

fn fill(
    folder: &Path,
    files: [File; LANES],
    number: u64,
    size: u64,
    takes_room: bool,
) -> io::Result<Segment> {
    let [file, ..] = &files;
    let length = i64::try_from(size).map_err(io::Error::other)?;
    if takes_room {
        match posix_fallocate(file, 0, length) {
            // Not every file system can.
            Ok(()) | Err(nix::Error::EOPNOTSUPP | nix::Error::EINVAL) => {}
            Err(error) => return Err(error.into()),
        }
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
        files: Arc::new(files),
    })
}

/// Without room nothing was changed; whatever else happens is the end.
fn write_error(error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { free: 0 },
        _ => StoreError::failed(error),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed_before() -> StoreError {
    StoreError::failed("a sync failed before")
}
