//! Reading from the store.

use bytes::Bytes;
use mail_types::QueueId;
use queue_store::{QueueStore, StoreError, chunk_count};
use tokio::sync::mpsc;
use tonic::Status;

use crate::queue::Queue;
use crate::scheduler::Loaded;

/// Chunks that are read ahead of a slow reader.
const AHEAD: usize = 4;

/// The record, and the content if it is one chunk. Blocks.
pub(crate) fn load(store: &dyn QueueStore, id: QueueId) -> Loaded {
    match try_load(store, id) {
        Ok(Some(loaded)) => loaded,
        Ok(None) => Loaded::Missing,
        Err(error) => Loaded::Damaged(error.to_string()),
    }
}

fn try_load(store: &dyn QueueStore, id: QueueId) -> Result<Option<Loaded>, StoreError> {
    let Some(message) = store.load(id)? else {
        return Ok(None);
    };
    let content = match chunk_count(message.size) {
        0 => Some(Bytes::new()),
        1 => match store.read_chunk(id, 0)? {
            Some(content) => Some(content),
            None => return Ok(Some(Loaded::Damaged("its content is missing".into()))),
        },
        _ => None,
    };
    Ok(Some(Loaded::Message(Box::new(message), content)))
}

/// Streams a message's content, chunk by chunk as the reader takes them.
pub(crate) async fn stream<T: Send + 'static>(
    queue: &Queue,
    id: QueueId,
    wrap: impl Fn(Bytes) -> T + Send + 'static,
) -> Result<mpsc::Receiver<Result<T, Status>>, Status> {
    let store = queue.store.clone();
    let message = blocking(move || store.load(id)).await?;
    let message = message.ok_or_else(|| Status::not_found("no such message"))?;
    let (chunks, receiver) = mpsc::channel(AHEAD);
    let store = queue.store.clone();
    queue.tracker.spawn(async move {
        for chunk in 0..chunk_count(message.size) {
            let store = store.clone();
            let data = blocking(move || match store.read_chunk(id, chunk)? {
                None if store.load(id)?.is_some() => Err(StoreError::Damaged {
                    id,
                    what: "content",
                }),
                data => Ok(data),
            });
            let data = data.await.and_then(|data| {
                // It was delivered or dropped meanwhile.
                data.ok_or_else(|| Status::not_found("the message is gone"))
            });
            let failed = data.is_err();
            if chunks.send(data.map(&wrap)).await.is_err() || failed {
                return;
            }
        }
    });
    Ok(receiver)
}

/// Runs what may wait for the disk where it holds up nobody.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Status> {
    let result = tokio::task::spawn_blocking(work).await;
    let result = result.map_err(|error| Status::internal(error.to_string()))?;
    result.map_err(|error| Status::internal(error.to_string()))
}
