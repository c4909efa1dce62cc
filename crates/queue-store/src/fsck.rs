use mail_types::QueueId;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FsckReport {
    /// Whole messages.
    pub messages: u64,
    /// Their content in octets.
    pub octets: u64,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A chunk of content is missing or not what was written.
    #[error("message {id}: chunk {chunk} of its content is missing or damaged")]
    Content {
        /// Whose.
        id: QueueId,
        /// Which, from 0.
        chunk: u32,
    },
    /// Octets of the log were skipped at the opening: what they said is lost.
    #[error("{octets} octets of the log are damaged")]
    Log {
        /// How many.
        octets: u64,
    },
    /// Something that belongs to no message.
    #[error("{id}: leftovers without a message")]
    Orphan {
        /// Whose it was.
        id: QueueId,
        /// It was removed.
        removed: bool,
    },
    /// The record cannot be read.
    #[error("message {id}: its record is damaged")]
    Record {
        /// Whose.
        id: QueueId,
    },
}
