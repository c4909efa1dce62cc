//! A message's content: with its task, or read from queued piece by piece.

use bytes::Bytes;
use mail_rpc::pb::queue::v1 as pb;
use mail_rpc::pb::queue::v1::delivery_agent_service_client::DeliveryAgentServiceClient;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

#[derive(Debug, Clone)]
pub(crate) enum Content {
    Inline(Bytes),
    Queued {
        queue_id: u64,
        queue: DeliveryAgentServiceClient<Channel>,
    },
}

/// A reading from the beginning.
#[derive(Debug)]
pub(crate) enum Reader {
    Inline(Option<Bytes>),
    Queued(Box<Streaming<pb::ContentChunk>>),
}

impl Content {
    pub(crate) async fn open(&self) -> Result<Reader, Status> {
        match self {
            Self::Inline(data) => Ok(Reader::Inline(Some(data.clone()))),
            Self::Queued { queue_id, queue } => {
                let request = pb::ReadContentRequest {
                    queue_id: *queue_id,
                };
                let chunks = queue.clone().read_content(request).await?.into_inner();
                Ok(Reader::Queued(Box::new(chunks)))
            }
        }
    }

    /// True unless the header is known to be ASCII. Of content that is not at hand the first piece
    /// is read.
    pub(crate) async fn may_have_utf8_header(&self) -> bool {
        let first = match self {
            Self::Inline(data) => Ok((data.clone(), true)),
            Self::Queued { .. } => match self.open().await {
                Ok(mut reader) => reader.next().await,
                Err(status) => Err(status),
            },
        };
        // If it cannot be read, the attempt will find that out in its turn.
        let Ok((data, last)) = first else {
            return true;
        };
        let end = data.windows(4).position(|window| window == b"\r\n\r\n");
        if end.is_none() && !last {
            return true;
        }
        !data
            .get(..end.unwrap_or(data.len()))
            .unwrap_or_default()
            .is_ascii()
    }
}

impl Reader {
    /// The next piece and whether it is the last one; the last one of a reading may be empty.
    pub(crate) async fn next(&mut self) -> Result<(Bytes, bool), Status> {
        match self {
            Self::Inline(data) => Ok((data.take().unwrap_or_default(), true)),
            Self::Queued(chunks) => Ok(match chunks.message().await? {
                Some(chunk) => (chunk.data, false),
                None => (Bytes::new(), true),
            }),
        }
    }
}
