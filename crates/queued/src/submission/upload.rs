//! A message that comes in pieces.

use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use queue_store::{CHUNK_SIZE, Committer, Message, StoreError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Chunks of a message that wait to be written while the next comes in.
const WINDOW: u32 = 1;
/// Chunks of a message in memory: those, and the one that is coming in.
pub(super) const IN_MEMORY: u32 = WINDOW + 1;

pub(super) struct Upload {
    committer: Committer,
    message: Message,
    /// Chunks that are written or wait for it.
    put: u32,
    rest: Rest,
    writing: Arc<Writing>,
}

/// At most a chunk.
enum Rest {
    /// As it came.
    Piece(Bytes),
    /// Put together.
    Buffer(BytesMut),
}

/// What the committer does for a message that comes in.
#[derive(Debug)]
pub(crate) struct Writing {
    window: Arc<Semaphore>,
    failure: OnceLock<StoreError>,
    /// The message's share of memory, as long as anything of it waits.
    _permit: OwnedSemaphorePermit,
}

/// A message that is all here.
pub(super) struct Complete {
    pub(super) message: Message,
    /// Chunks that are in the store, or soon will be.
    pub(super) put_chunks: u32,
    /// The others.
    pub(super) tail: Vec<Bytes>,
    /// Its share of memory.
    pub(super) share: Share,
}

/// What of the memory for mail that comes in a message has.
#[derive(Debug)]
pub(crate) enum Share {
    /// It came in one piece.
    Whole { _permit: OwnedSemaphorePermit },
    /// It came in pieces, some of which may still wait to be written.
    Pieces(Arc<Writing>),
}

impl Upload {
    pub(super) fn new(
        committer: Committer,
        message: Message,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let writing = Writing {
            window: Arc::new(Semaphore::new(WINDOW as usize)),
            failure: OnceLock::new(),
            _permit: permit,
        };
        Self {
            committer,
            message,
            put: 0,
            rest: Rest::Buffer(BytesMut::new()),
            writing: Arc::new(writing),
        }
    }

    /// Takes a piece of at most a chunk.
    pub(super) async fn push(&mut self, data: Bytes) -> Result<(), StoreError> {
        let mut data = data;
        while !data.is_empty() {
            // A whole chunk is only put when more follows: a message of one chunk stays in memory.
            if self.rest.len() >= CHUNK_SIZE {
                let chunk = std::mem::replace(&mut self.rest, Rest::Buffer(BytesMut::new()));
                self.put(chunk.into_bytes()).await?;
            }
            self.rest.take(&mut data);
        }
        Ok(())
    }

    async fn put(&mut self, chunk: Bytes) -> Result<(), StoreError> {
        let writing = self.writing.clone();
        let place = writing.window.clone().acquire_owned().await;
        let done = move |result: Result<(), StoreError>| {
            if let Err(failure) = result {
                let _ = writing.failure.set(failure);
            }
            drop(place);
        };
        self.committer
            .put_chunk(self.message.id, self.put, chunk, Box::new(done));
        self.put += 1;
        self.writing.look()
    }

    pub(super) fn end(self) -> Complete {
        let rest = Some(self.rest.into_bytes()).filter(|rest| !rest.is_empty());
        Complete {
            message: self.message,
            put_chunks: self.put,
            tail: rest.into_iter().collect(),
            share: Share::Pieces(self.writing),
        }
    }

    pub(super) fn discard(self) {
        if self.put > 0 {
            self.committer.discard(self.message.id);
        }
    }
}

impl Rest {
    fn len(&self) -> usize {
        match self {
            Self::Piece(piece) => piece.len(),
            Self::Buffer(buffer) => buffer.len(),
        }
    }

    /// Takes what fits.
    fn take(&mut self, data: &mut Bytes) {
        if self.len() == 0 && data.len() >= CHUNK_SIZE / 2 {
            // Most of a chunk is worth the buffer that it came in.
            *self = Self::Piece(std::mem::take(data));
            return;
        }
        if let Self::Piece(piece) = self {
            let mut buffer = BytesMut::with_capacity(CHUNK_SIZE);
            buffer.extend_from_slice(piece);
            *self = Self::Buffer(buffer);
        }
        if let Self::Buffer(buffer) = self {
            let room = CHUNK_SIZE.saturating_sub(buffer.len());
            buffer.extend_from_slice(&data.split_to(data.len().min(room)));
        }
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::Piece(piece) => piece,
            Self::Buffer(buffer) => buffer.freeze(),
        }
    }
}

impl Writing {
    fn look(&self) -> Result<(), StoreError> {
        self.failure.get().cloned().map_or(Ok(()), Err)
    }

    /// Waits until all is written that was put.
    pub(super) async fn written(&self) -> Result<(), StoreError> {
        // It is never closed.
        let all = self.window.acquire_many(WINDOW).await;
        drop(all);
        self.look()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_size_make_whole_chunks() {
        for size in [
            1000,
            CHUNK_SIZE / 2 - 1,
            CHUNK_SIZE / 2,
            CHUNK_SIZE - 1,
            CHUNK_SIZE,
        ] {
            let content: Vec<u8> = (0..=250).cycle().take(5 * CHUNK_SIZE + 7).collect();
            let mut chunks = Vec::new();
            let mut rest = Rest::Buffer(BytesMut::new());
            for piece in content.chunks(size) {
                let mut data = Bytes::copy_from_slice(piece);
                while !data.is_empty() {
                    if rest.len() >= CHUNK_SIZE {
                        let chunk = std::mem::replace(&mut rest, Rest::Buffer(BytesMut::new()));
                        chunks.push(chunk.into_bytes());
                    }
                    rest.take(&mut data);
                }
            }
            assert!(chunks.iter().all(|chunk| chunk.len() == CHUNK_SIZE));
            chunks.push(rest.into_bytes());
            assert_eq!(chunks.concat(), content, "{size}");
        }
    }
}
