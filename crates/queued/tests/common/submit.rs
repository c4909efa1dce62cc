use std::time::Duration;

use bytes::Bytes;
use mail_rpc::pb::queue::v1 as pb;
use pb::submission_service_client::SubmissionServiceClient;
use pb::submit_response::Result as Answer;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

/// A front end.
pub struct Submitter {
    pub requests: mpsc::Sender<pb::SubmitRequest>,
    pub responses: Streaming<pb::SubmitResponse>,
    token: u64,
}

impl Submitter {
    pub async fn open(channel: Channel) -> Self {
        let (requests, outgoing) = mpsc::channel(64);
        let mut client = SubmissionServiceClient::new(channel);
        let responses = client.submit(ReceiverStream::new(outgoing)).await;
        Self {
            requests,
            responses: responses.unwrap().into_inner(),
            token: 0,
        }
    }

    pub async fn send(&self, request: pb::SubmitRequest) {
        self.requests.send(request).await.unwrap();
    }

    pub fn token(&mut self) -> u64 {
        self.token += 1;
        self.token
    }

    /// Submits in frames of at most 64 KiB and says what came of it.
    pub async fn submit(&mut self, envelope: pb::Envelope, content: &[u8]) -> Answer {
        let token = self.token();
        for request in frames(token, envelope, content) {
            self.send(request).await;
        }
        let response = self.response().await;
        assert_eq!(response.token, token);
        response.result.unwrap()
    }

    pub async fn response(&mut self) -> pb::SubmitResponse {
        let response = tokio::time::timeout(Duration::from_secs(10), self.responses.message());
        response.await.expect("an answer in time").unwrap().unwrap()
    }

    /// Submits and answers the queue id.
    pub async fn accepted(&mut self, envelope: pb::Envelope, content: &[u8]) -> u64 {
        match self.submit(envelope, content).await {
            Answer::Accepted(accepted) => accepted.queue_id,
            Answer::Refused(refused) => panic!("{refused:?}"),
        }
    }
}

pub fn frames(token: u64, envelope: pb::Envelope, content: &[u8]) -> Vec<pb::SubmitRequest> {
    let mut frames: Vec<_> = content
        .chunks(64 * 1024)
        .map(|data| pb::SubmitRequest {
            token,
            data: Bytes::copy_from_slice(data),
            ..pb::SubmitRequest::default()
        })
        .collect();
    if frames.is_empty() {
        frames.push(pb::SubmitRequest {
            token,
            ..pb::SubmitRequest::default()
        });
    }
    frames.first_mut().unwrap().envelope = Some(envelope);
    frames.last_mut().unwrap().end = true;
    frames
}

/// An envelope; an empty `from` is the null reverse-path.
pub fn envelope(from: &str, to: &[&str]) -> pb::Envelope {
    let address = (!from.is_empty()).then(|| from.to_owned());
    let recipients = to.iter().map(|&address| pb::Recipient {
        address: address.to_owned(),
        ..pb::Recipient::default()
    });
    pb::Envelope {
        reverse_path: Some(mail_rpc::pb::common::v1::ReversePath { address }),
        recipients: recipients.collect(),
        ..pb::Envelope::default()
    }
}

pub const MESSAGE: &[u8] = b"From: ana@aula.test\r\nTo: lois@aula.test\r\nSubject: hello\r\n\
    Message-ID: <1@aula.test>\r\n\r\nHello Lois\r\n";
