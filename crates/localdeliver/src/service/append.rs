//! Append: messages come in pieces and are answered when they are durable.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::BytesMut;
use mail_rpc::pb::mailbox::v1 as pb;
use mail_types::AccountId;
use mailbox_store::{Applied, Deliver, Operation, Target};
use pb::append_response::Result as Answer;
use pb::failure::Kind;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Answers, Service};
use crate::convert::{failure, flag_names, name, refused, store_failed};
use crate::stores::now;

/// Answers that may wait for one stream.
const WAITING: usize = 64;
/// Messages of one stream that may be under way; a front end's sessions share its stream.
const UNDER_WAY: usize = 10_000;

type Sender = mpsc::Sender<Result<pb::AppendResponse, Status>>;

/// A message whose end has not come.
struct Incoming {
    begin: pb::AppendBegin,
    content: BytesMut,
    room: Vec<OwnedSemaphorePermit>,
    too_large: bool,
}

impl Service {
    pub(super) fn append_messages(
        &self,
        requests: Streaming<pb::AppendRequest>,
    ) -> Answers<pb::AppendResponse> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let service = self.clone();
        let shutdown = self.0.context.shutdown().clone();
        self.0.context.spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = sender.closed() => {}
                () = service.take_messages(requests, &sender) => {}
            }
        });
        self.until_shutdown(ReceiverStream::new(receiver))
    }

    async fn take_messages(&self, mut requests: Streaming<pb::AppendRequest>, sender: &Sender) {
        let max = self
            .0
            .context
            .config()
            .localdeliver
            .max_message_size
            .bytes();
        let mut under_way: HashMap<u64, Incoming> = HashMap::new();
        while let Ok(Some(request)) = requests.message().await {
            let token = request.token;
            if let Some(begin) = request.begin {
                if under_way.len() >= UNDER_WAY {
                    return;
                }
                let content = BytesMut::new();
                let incoming = Incoming {
                    begin,
                    content,
                    room: Vec::new(),
                    too_large: false,
                };
                under_way.insert(token, incoming);
            }
            if request.abort {
                under_way.remove(&token);
                continue;
            }
            let Some(incoming) = under_way.get_mut(&token) else {
                continue;
            };
            let len = incoming.content.len() as u64 + request.data.len() as u64;
            if len > max {
                incoming.too_large = true;
                incoming.content = BytesMut::new();
                incoming.room.clear();
            }
            if !incoming.too_large && !request.data.is_empty() {
                incoming
                    .room
                    .extend(self.0.budget.take(request.data.len() as u64).await);
                incoming.content.extend_from_slice(&request.data);
            }
            if request.end
                && let Some(incoming) = under_way.remove(&token)
            {
                let (service, sender) = (self.clone(), sender.clone());
                self.0.context.spawn(async move {
                    let result = Some(service.append_one(incoming).await);
                    // Without its stream the front end has lost the client too.
                    let _ = sender.send(Ok(pb::AppendResponse { token, result })).await;
                });
            }
        }
    }

    async fn append_one(&self, incoming: Incoming) -> Answer {
        if incoming.too_large {
            return Answer::Failure(failure(Kind::TooLarge, "the message is too large"));
        }
        let begin = incoming.begin;
        let mailbox = match name(&begin.mailbox) {
            Ok(name) => Target::Name(name),
            Err(failure) => return Answer::Failure(failure),
        };
        let _room = incoming.room;
        let content = incoming.content.freeze();
        let flags = flag_names(begin.flags);
        let stored = self
            .0
            .stores
            .with(AccountId::from(begin.account_id), move |account| {
                let deliver = Deliver {
                    key: None,
                    mailbox,
                    uid: None,
                    flags,
                    internal_date: begin.internal_date.unwrap_or_else(now),
                    internal_offset: begin.internal_date_offset,
                    summary: Arc::new(mail_message::summarize(&content)),
                    content: vec![content],
                    quota: begin.quota_bytes,
                };
                account.apply(Operation::Deliver(Box::new(deliver)), now())
            });
        match stored.await {
            Ok(Ok(Applied::Delivered {
                mailbox,
                uid_validity,
                uid,
                modseq,
            })) => Answer::Appended(pb::Appended {
                mailbox_id: mailbox.get(),
                uid_validity,
                uid: uid.get(),
                modseq,
            }),
            // An operation without a key is answered so alone.
            Ok(Ok(_)) => Answer::Failure(failure(Kind::Temporary, "the store gave no place")),
            Ok(Err(error)) => Answer::Failure(refused(error)),
            Err(error) => Answer::Failure(store_failed(&error)),
        }
    }
}
