use std::sync::Arc;

use bytes::Bytes;
use mail_types::QueueId;

use crate::fsck::FsckReport;
use crate::message::Message;

/// The most octets of content that are written, summed and read as one.
pub const CHUNK_SIZE: usize = 64 * 1024;

/// How many chunks a content of that size has.
pub fn chunk_count(size: u64) -> u32 {
    u32::try_from(size.div_ceil(CHUNK_SIZE as u64)).unwrap_or(u32::MAX)
}

/// Where messages are kept. Calls block: they belong on a thread that may wait for a disk.
pub trait QueueStore: Send + Sync + 'static {
    /// An id that was never given out before.
    fn new_id(&self) -> Result<QueueId, StoreError>;

    /// Keeps a chunk of content of a message that is still coming in. Each has [`CHUNK_SIZE`]
    /// octets. It is durable, and counts, only with the message's `Op::Insert`.
    fn put_chunk(&self, id: QueueId, chunk: u32, data: &[u8]) -> Result<(), StoreError>;

    /// Forgets the chunks of a message that does not come in after all. It waits for no disk.
    fn discard(&self, id: QueueId);

    /// Does all of it or nothing, in order. It is durable, and may be told of, with the next
    /// [`Self::sync`]. With [`StoreError::Full`] nothing was done.
    fn append(&self, ops: &[Op]) -> Result<(), StoreError>;

    /// Returns when all that was appended before is on disk. Several may wait for it at once.
    fn sync(&self) -> Result<(), StoreError>;

    /// Does all of it or nothing, and returns when it is on disk.
    fn apply(&self, ops: &[Op]) -> Result<(), StoreError> {
        self.append(ops)?;
        self.sync()
    }

    /// A message's record.
    fn load(&self, id: QueueId) -> Result<Option<Message>, StoreError>;

    /// A chunk of content.
    fn read_chunk(&self, id: QueueId, chunk: u32) -> Result<Option<Bytes>, StoreError>;

    /// At most `limit` records in the order of their ids, from behind `after`.
    fn scan(&self, after: Option<QueueId>, limit: usize) -> Result<Vec<Scanned>, StoreError>;

    /// Reads all that is there, in no order, some at a time, until `each` answers false. Others may
    /// write meanwhile: they may change, and find, what is new and what `each` was given. What is
    /// new may or may not be met. Call it before anything else is asked for.
    fn recover(&self, each: &mut dyn FnMut(Vec<Scanned>) -> bool) -> Result<(), StoreError>;

    /// Fails with [`StoreError::Full`] if so many octets more would leave too little room.
    fn check_room(&self, octets: u64) -> Result<(), StoreError>;

    /// Octets on disk.
    fn disk_size(&self) -> Result<u64, StoreError>;

    /// Reads everything and says what is wrong. With `repair`, leftovers that belong to no
    /// message are removed; a damaged message is left as it is.
    fn fsck(&self, repair: bool) -> Result<FsckReport, StoreError>;
}

/// A change.
#[derive(Clone, Debug)]
pub enum Op {
    /// A new message. `tail` is the content behind `put_chunks` chunks that were put before; all
    /// but the last of its pieces have [`CHUNK_SIZE`] octets.
    Insert {
        /// The record.
        message: Arc<Message>,
        /// How many chunks are in the store.
        put_chunks: u32,
        /// The others.
        tail: Vec<Bytes>,
    },
    /// The message is gone, content and all. The record says how much there is to remove.
    Remove(Arc<Message>),
    /// The record as it is now.
    Update {
        /// The record.
        message: Arc<Message>,
        /// The recipients that changed or were added; the rest of the record may change freely
        /// but for the envelope and the size.
        changed: Vec<u32>,
    },
}

impl Op {
    /// About how many octets it writes.
    pub fn weight(&self) -> usize {
        match self {
            Self::Insert { message, tail, .. } => {
                let content: usize = tail.iter().map(Bytes::len).sum();
                content + 256 * (message.recipients.len() + 1)
            }
            Self::Remove(_) => 64,
            Self::Update { changed, .. } => 256 * (changed.len() + 1),
        }
    }
}

/// One place of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scanned {
    /// There is something that cannot be read; [`QueueStore::fsck`] says more.
    Damaged(QueueId),
    /// A record.
    Message(Box<Message>),
}

impl Scanned {
    /// The id.
    pub fn id(&self) -> QueueId {
        match self {
            Self::Damaged(id) => *id,
            Self::Message(message) => message.id,
        }
    }
}

/// Why the store does not do it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A record or chunk is not what was written.
    #[error("message {id}: {what} is damaged")]
    Damaged {
        /// Whose.
        id: QueueId,
        /// Which part.
        what: &'static str,
    },
    /// The engine failed, maybe in the middle of writing. Nothing that was not confirmed before
    /// can be relied on: the process must end and open the store again.
    #[error("the queue's storage failed: {0}")]
    Failed(Arc<str>),
    /// Too little room is left; nothing was written.
    #[error("{free} octets are free, which is less than the reserve")]
    Full {
        /// Octets.
        free: u64,
    },
    /// Another process has the folder.
    #[error("the queue's folder is in use: {0}")]
    InUse(Arc<str>),
    /// What a store of this version cannot read.
    #[error("message {id} has record version {version}, which this program does not know")]
    Version {
        /// Whose.
        id: QueueId,
        /// The version.
        version: u8,
    },
}

impl StoreError {
    /// True if the process must end.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Failed(_))
    }

    pub(crate) fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string().into())
    }
}
