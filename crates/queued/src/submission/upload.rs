//! A message that comes in pieces.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use queue_store::{CHUNK_SIZE, Message, QueueStore, StoreError};
use tokio::sync::OwnedSemaphorePermit;

pub(super) struct Upload {
    store: Arc<dyn QueueStore>,
    message: Message,
    permit: OwnedSemaphorePermit,
    /// Chunks that are in the store.
    put: u32,
    /// Less than a chunk.
    rest: BytesMut,
}

impl Upload {
    pub(super) fn new(
        store: Arc<dyn QueueStore>,
        message: Message,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            store,
            message,
            permit,
            put: 0,
            rest: BytesMut::new(),
        }
    }

    /// Takes a piece of at most a chunk.
    pub(super) async fn push(&mut self, data: &[u8]) -> Result<(), StoreError> {
        self.rest.extend_from_slice(data);
        // A whole chunk is only put when more follows: a message of one chunk stays in memory.
        while self.rest.len() > CHUNK_SIZE {
            let chunk = self.rest.split_to(CHUNK_SIZE);
            let (store, id, number) = (self.store.clone(), self.message.id, self.put);
            self.put += 1;
            let put = move || store.put_chunk(id, number, &chunk);
            let result = tokio::task::spawn_blocking(put).await;
            result.unwrap_or_else(|_| Err(StoreError::Failed("writing panicked".into())))?;
        }
        Ok(())
    }

    /// The message, the chunks that are in the store, the others, and the share of memory.
    pub(super) fn end(self) -> (Message, u32, Vec<Bytes>, OwnedSemaphorePermit) {
        let tail = if self.rest.is_empty() {
            Vec::new()
        } else {
            vec![self.rest.freeze()]
        };
        (self.message, self.put, tail, self.permit)
    }

    pub(super) fn discard(self) {
        self.store.discard(self.message.id);
    }
}
