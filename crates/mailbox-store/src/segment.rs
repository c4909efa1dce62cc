//! The segment files of an account.

use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use tracing::warn;

use crate::StoreError;
use crate::disk::{Disk, DiskFile, SharedDisk, make_folder, sync_folder};
use crate::record::{FIXED, Fixed, RecordHeader};

/// Segment files of one account that are kept open for reading.
const OPEN_FILES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(3);

/// Octets that are read at a time where a large message is compared with its checksum.
const VERIFIED_AT_A_TIME: usize = 256 * 1024;

/// Octets that are appended with one write.
const RUN: usize = 512 * 1024;

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) segment: u32,
    /// Of the record's first octet.
    pub(crate) offset: u64,
    /// Octets before the content.
    pub(crate) header_len: u32,
    /// Octets of content.
    pub(crate) content_len: u64,
}

impl Location {
    /// Octets of the record.
    pub(crate) fn len(self) -> u64 {
        u64::from(self.header_len) + self.content_len
    }

    pub(crate) fn content_offset(self) -> u64 {
        self.offset + u64::from(self.header_len)
    }

    /// The first octet behind the record.
    pub(crate) fn end(self) -> u64 {
        self.content_offset() + self.content_len
    }
}

/// Reads records of all segments.
#[derive(Debug)]
pub(crate) struct Segments {
    folder: PathBuf,
    open: Mutex<LruCache<u32, Arc<File>>>,
}

impl Segments {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            open: Mutex::new(LruCache::new(OPEN_FILES)),
        }
    }

    pub(crate) fn path(&self, segment: u32) -> PathBuf {
        segment_path(&self.folder, segment)
    }

    /// Octets of a message's content from `offset` on, at most `len`.
    pub(crate) fn read(
        &self,
        at: Location,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, StoreError> {
        let left = at.content_len.saturating_sub(offset);
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(len);
        let mut out = vec![0; len];
        self.read_exact(at.segment, at.content_offset() + offset, &mut out)?;
        Ok(out)
    }

    /// The whole content, compared with its checksum.
    pub(crate) fn read_checked(&self, at: Location) -> Result<Vec<u8>, StoreError> {
        let mut record = Vec::new();
        let content = {
            let octets = self.read_run(at.segment, at.offset, at.end() - at.offset, &mut record)?;
            self.checked(at, at.offset, octets)?.len()
        };
        record.drain(..record.len() - content);
        Ok(record)
    }

    /// Octets of a segment, for [`Self::checked`]; they lie in `buffer`, which only grows.
    pub(crate) fn read_run<'a>(
        &self,
        segment: u32,
        offset: u64,
        len: u64,
        buffer: &'a mut Vec<u8>,
    ) -> Result<&'a [u8], StoreError> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if buffer.len() < len {
            buffer.resize(len, 0);
        }
        let octets = buffer.get_mut(..len).unwrap_or_default();
        self.read_exact(segment, offset, octets)?;
        Ok(octets)
    }

    /// A message's content in octets of its segment that begin at `start`, compared with its
    /// checksum.
    pub(crate) fn checked<'a>(
        &self,
        at: Location,
        start: u64,
        octets: &'a [u8],
    ) -> Result<&'a [u8], StoreError> {
        let place = |offset: u64| usize::try_from(offset.saturating_sub(start));
        let range = place(at.offset).ok().zip(place(at.end()).ok());
        let record = range.and_then(|(from, to)| octets.get(from..to));
        let lost = || self.damaged(at, "there is no record");
        let (fixed, rest) = record
            .and_then(<[u8]>::split_first_chunk::<FIXED>)
            .ok_or_else(lost)?;
        let fixed = Fixed::parse(fixed).ok_or_else(lost)?;
        let content = rest.get(fixed.header_len..).ok_or_else(lost)?;
        // A wrong length in the fixed part leaves another content, which has another checksum.
        if crc32c::crc32c(content) != fixed.content_crc || fixed.content_len != at.content_len {
            return Err(self.damaged(at, "the content's checksum is wrong"));
        }
        Ok(content)
    }

    /// The whole record, compared with its checksums.
    pub(crate) fn read_record(&self, at: Location) -> Result<Vec<u8>, StoreError> {
        let len = usize::try_from(at.len()).unwrap_or(usize::MAX);
        let mut record = vec![0; len];
        self.read_exact(at.segment, at.offset, &mut record)?;
        if is_whole(&record, at) {
            Ok(record)
        } else {
            Err(self.damaged(at, "a checksum is wrong"))
        }
    }

    /// Closes all files.
    pub(crate) fn rest(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.clear();
    }

    /// Lets go of a segment that is removed.
    pub(crate) fn forget(&self, segment: u32) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.pop(&segment);
    }

    /// Compares a content with its checksum without holding it in memory.
    pub(crate) fn verify(&self, at: Location) -> Result<(), StoreError> {
        let (fixed, _) = self.read_header(at.segment, at.offset)?;
        let (mut crc, mut offset) = (0, 0);
        while offset < at.content_len {
            let piece = self.read(at, offset, VERIFIED_AT_A_TIME)?;
            crc = crc32c::crc32c_append(crc, &piece);
            offset += piece.len() as u64;
        }
        if crc != fixed.content_crc || fixed.content_len != at.content_len {
            return Err(self.damaged(at, "the content's checksum is wrong"));
        }
        Ok(())
    }

    /// The header of the record at `offset`.
    pub(crate) fn read_header(
        &self,
        segment: u32,
        offset: u64,
    ) -> Result<(Fixed, RecordHeader), StoreError> {
        let at = Location {
            segment,
            offset,
            header_len: 0,
            content_len: 0,
        };
        let mut fixed = [0; FIXED];
        self.read_exact(segment, offset, &mut fixed)?;
        let fixed = Fixed::parse(&fixed).ok_or_else(|| self.damaged(at, "there is no record"))?;
        let mut header = vec![0; fixed.header_len];
        self.read_exact(segment, offset + FIXED as u64, &mut header)?;
        let header = fixed
            .header(&header)
            .ok_or_else(|| self.damaged(at, "the header's checksum is wrong"))?;
        Ok((fixed, header))
    }

    fn damaged(&self, at: Location, what: &'static str) -> StoreError {
        StoreError::Damaged {
            file: self.path(at.segment),
            offset: at.offset,
            what,
        }
    }

    fn read_exact(&self, segment: u32, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        let file = self.file(segment)?;
        file.read_exact_at(out, offset).map_err(|error| {
            if error.kind() == std::io::ErrorKind::UnexpectedEof {
                let what = "the segment ends before the record does";
                return StoreError::Damaged {
                    file: self.path(segment),
                    offset,
                    what,
                };
            }
            StoreError::io(self.path(segment), error)
        })
    }

    fn file(&self, segment: u32) -> Result<Arc<File>, StoreError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&segment) {
            return Ok(file.clone());
        }
        let path = self.path(segment);
        let file = File::open(&path).map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                let what = "the segment is not there";
                return StoreError::Damaged {
                    file: path,
                    offset: 0,
                    what,
                };
            }
            StoreError::io(path, error)
        })?;
        let file = Arc::new(file);
        open.put(segment, file.clone());
        Ok(file)
    }
}

fn is_whole(record: &[u8], at: Location) -> bool {
    let Some((header, content)) = record.split_at_checked(at.header_len as usize) else {
        return false;
    };
    let Some((fixed, header)) = header.split_first_chunk::<FIXED>() else {
        return false;
    };
    let Some(fixed) = Fixed::parse(fixed) else {
        return false;
    };
    fixed.header(header).is_some()
        && fixed.content_len == at.content_len
        && crc32c::crc32c(content) == fixed.content_crc
}

/// Appends to the last segment. What is appended counts only once it is synced and the index knows
/// of it; [`Appender::rewind`] forgets what came after.
#[derive(Debug)]
pub(crate) struct Appender {
    disk: SharedDisk,
    folder: PathBuf,
    segment: u32,
    /// None while nothing is written for long.
    file: Option<Arc<dyn DiskFile>>,
    end: u64,
    max: u64,
    dirty: bool,
}

impl Appender {
    /// Opens the segment that the index names and cuts off what the index does not know of.
    pub(crate) fn open(
        disk: &SharedDisk,
        folder: &Path,
        segment: u32,
        end: u64,
        max: u64,
    ) -> Result<Self, StoreError> {
        make_folder(&**disk, folder)?;
        let file = open_file(&**disk, folder, segment, end == 0)?;
        let path = || segment_path(folder, segment);
        let len = file
            .length()
            .map_err(|error| StoreError::io(path(), error))?;
        if len < end {
            // What is missing are damaged messages, which cost no others: new ones go behind them.
            warn!(file = %path().display(), len, end, "the segment is shorter than the index says");
        }
        file.set_length(end)
            .map_err(|error| StoreError::io(path(), error))?;
        Ok(Self {
            disk: disk.clone(),
            folder: folder.to_owned(),
            segment,
            file: Some(file),
            end,
            max,
            // Who wrote what is there may not have lived to sync it.
            dirty: end > 0,
        })
    }

    /// Where the next record goes.
    pub(crate) fn position(&self) -> (u32, u64) {
        (self.segment, self.end)
    }

    /// Appends a record and says where it is.
    pub(crate) fn append(
        &mut self,
        record: &[u8],
        content_len: u64,
    ) -> Result<Location, StoreError> {
        if self.end >= self.max {
            self.roll()?;
        }
        let offset = self.end;
        let file = self.file()?;
        file.write_at(record, offset)
            .map_err(|error| StoreError::io(self.path(), error))?;
        self.end += record.len() as u64;
        self.dirty = true;
        let header_len = (record.len() as u64).saturating_sub(content_len);
        let header_len = u32::try_from(header_len).unwrap_or(u32::MAX);
        Ok(Location {
            segment: self.segment,
            offset,
            header_len,
            content_len,
        })
    }

    /// Appends records, each with the length of its content, and says where they are: with one write
    /// for as many as go into one segment and are not much together.
    pub(crate) fn append_all<'a>(
        &mut self,
        records: impl Iterator<Item = (&'a [u8], u64)>,
    ) -> Result<Vec<Location>, StoreError> {
        let mut locations = Vec::new();
        let mut run: Vec<u8> = Vec::new();
        for (record, content_len) in records {
            let is_full = self.end + run.len() as u64 >= self.max;
            if is_full || run.len() + record.len() > RUN {
                self.write_run(&mut run)?;
            }
            if self.end >= self.max {
                self.roll()?;
            }
            let header_len = (record.len() as u64).saturating_sub(content_len);
            locations.push(Location {
                segment: self.segment,
                offset: self.end + run.len() as u64,
                header_len: u32::try_from(header_len).unwrap_or(u32::MAX),
                content_len,
            });
            run.extend_from_slice(record);
        }
        self.write_run(&mut run)?;
        Ok(locations)
    }

    fn write_run(&mut self, run: &mut Vec<u8>) -> Result<(), StoreError> {
        if run.is_empty() {
            return Ok(());
        }
        let file = self.file()?;
        // Also what an error leaves there is to be synced or cut off.
        self.dirty = true;
        file.write_at(run, self.end)
            .map_err(|error| StoreError::io(self.path(), error))?;
        self.end += run.len() as u64;
        run.clear();
        Ok(())
    }

    /// Makes durable what was appended.
    pub(crate) fn sync(&mut self) -> Result<(), StoreError> {
        if self.dirty {
            self.file()?.sync().map_err(StoreError::Fatal)?;
            self.dirty = false;
        }
        Ok(())
    }

    /// The file, if it has something that is not synced, so that this can be done while others
    /// append. Then see [`Self::is_synced`].
    pub(crate) fn unsynced(&self) -> Option<Arc<dyn DiskFile>> {
        self.file.clone().filter(|_| self.dirty)
    }

    /// All was synced that was there when [`Self::position`] gave `position`.
    pub(crate) fn is_synced(&mut self, position: (u32, u64)) {
        self.dirty &= self.position() != position;
    }

    /// Forgets what was appended behind a position that [`Self::position`] gave.
    pub(crate) fn rewind(&mut self, (segment, end): (u32, u64)) -> Result<(), StoreError> {
        *self = Self::open(&self.disk, &self.folder, segment, end, self.max)?;
        Ok(())
    }

    /// Octets at which a segment is full.
    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// Closes the segment and begins the next one.
    pub(crate) fn roll(&mut self) -> Result<(), StoreError> {
        self.sync()?;
        let next = self.segment + 1;
        let file = open_file(&*self.disk, &self.folder, next, true)?;
        file.set_length(0)
            .map_err(|error| StoreError::io(self.path(), error))?;
        self.file = Some(file);
        self.segment = next;
        self.end = 0;
        Ok(())
    }

    /// Closes the file if all in it is synced; it is opened again with the next record.
    pub(crate) fn rest(&mut self) {
        if !self.dirty {
            self.file = None;
        }
    }

    fn file(&mut self) -> Result<Arc<dyn DiskFile>, StoreError> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let file = open_file(&*self.disk, &self.folder, self.segment, self.end == 0)?;
        Ok(self.file.insert(file).clone())
    }

    fn path(&self) -> PathBuf {
        segment_path(&self.folder, self.segment)
    }
}

/// The numbers of all segments, in order.
pub(crate) fn numbers(folder: &Path) -> Result<Vec<u32>, StoreError> {
    let failed = |error| StoreError::io(folder, error);
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(".seg"));
        numbers.extend(stem.and_then(|stem| stem.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Is there a segment with something in it?
pub(crate) fn has_mail(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else {
        return false;
    };
    let has_octets = |entry: fs::DirEntry| entry.metadata().is_ok_and(|found| found.len() > 0);
    entries.flatten().any(has_octets)
}

pub(crate) fn segment_path(folder: &Path, segment: u32) -> PathBuf {
    folder.join(format!("{segment:08}.seg"))
}

/// With `is_first` nothing in it counts yet: its name has to be as durable as what will be in it.
fn open_file(
    disk: &dyn Disk,
    folder: &Path,
    segment: u32,
    is_first: bool,
) -> Result<Arc<dyn DiskFile>, StoreError> {
    let path = segment_path(folder, segment);
    let is_new = !path.exists();
    let file = disk
        .open(&path)
        .map_err(|error| StoreError::io(&path, error))?;
    if is_new || is_first {
        sync_folder(disk, folder)?;
    }
    Ok(file.into())
}
