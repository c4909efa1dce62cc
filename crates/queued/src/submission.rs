//! Mail comes in. A message is accepted when its record and content are on disk, not before.
//!
//! Memory is bounded by `incoming_memory` over all streams, in two halves. A message that comes in
//! one frame waits for its share of the first, during which its stream is not read; all who hold
//! such a share give it back without another word from their clients. One that comes in pieces
//! takes two chunks' worth of the second for as long as it lasts and puts each whole chunk into the
//! store. When there is no share for such a one it is refused for now: waiting would stop the very
//! stream whose other messages have to end first.

mod intake;
mod upload;

use mail_rpc::pb::queue::v1 as pb;
use mail_rpc::pb::queue::v1::submission_service_server::SubmissionService;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::queue::Queue;

pub(crate) use upload::Share;

#[derive(Debug)]
pub(crate) struct Submission(Queue);

impl Submission {
    pub(crate) fn new(queue: Queue) -> Self {
        Self(queue)
    }
}

#[tonic::async_trait]
impl SubmissionService for Submission {
    type SubmitStream = ReceiverStream<Result<pb::SubmitResponse, Status>>;

    async fn submit(
        &self,
        request: Request<Streaming<pb::SubmitRequest>>,
    ) -> Result<Response<Self::SubmitStream>, Status> {
        let (responses, receiver) = mpsc::channel(self.0.settings().stream_window.max(1));
        let queue = self.0.clone();
        let intake = intake::run(queue, request.into_inner(), responses);
        self.0.tracker.spawn(intake);
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
