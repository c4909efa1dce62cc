//! Append: messages come in pieces and are answered when they are durable, those of one command
//! together (RFC 3502).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use mail_rpc::pb::mailbox::v1 as pb;
use mail_types::{AccountId, UidSet};
use mailbox_store::{Account, Applied, Deliver, Expunge, Operation, Target};
use pb::append_response::Result as Answer;
use pb::failure::Kind;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tonic::{Status, Streaming};
use tracing::warn;

use super::{Answers, Service};
use crate::convert::{failure, flag_names, name, refused, store_failed};
use crate::stores::{StoreResult, now};

/// Answers that may wait for one stream.
const WAITING: usize = 64;
/// Messages of one stream that may be under way; a front end's sessions share its stream.
const UNDER_WAY: usize = 10_000;

/// Complete messages of one stream that may wait for memory, each in a task of its own and with
/// at most one piece (64 KiB) that is not counted yet: 16 MiB. Those behind them wait unread.
const WITHOUT_ROOM: usize = 256;

/// Messages of one command: as many as clients send at a time, and each of them has a row in memory.
const MESSAGES: usize = 10_000;
/// How long a command may wait for memory that others hold. It holds some itself, so waiting longer
/// could go on for ever.
const PATIENCE: Duration = Duration::from_secs(30);

type Sender = mpsc::Sender<Result<pb::AppendResponse, Status>>;

/// A command whose end has not come.
#[derive(Default)]
struct Incoming {
    messages: Vec<Message>,
    room: Vec<OwnedSemaphorePermit>,
    /// Why nothing of it will be stored.
    refusal: Option<pb::Failure>,
}

struct Message {
    begin: pb::AppendBegin,
    content: BytesMut,
}

impl Incoming {
    /// Begins a message, if `begin` is there; true if room is needed for that many more octets.
    fn takes(&mut self, begin: Option<pb::AppendBegin>, octets: usize, max: u64) -> bool {
        if self.refusal.is_some() {
            return false;
        }
        if let Some(begin) = begin {
            if self.messages.len() >= MESSAGES {
                self.refuse(Kind::TooLarge, "too many messages at once");
                return false;
            }
            let content = BytesMut::new();
            self.messages.push(Message { begin, content });
        }
        let Some(message) = self.messages.last() else {
            return false;
        };
        if message.content.len() as u64 + octets as u64 > max {
            self.refuse(Kind::TooLarge, "the message is too large");
            return false;
        }
        octets > 0
    }

    /// Takes octets for which there is room; what is refused has no message.
    fn push(&mut self, data: &[u8]) {
        if let Some(message) = self.messages.last_mut() {
            message.content.extend_from_slice(data);
        }
    }

    fn refuse(&mut self, kind: Kind, text: &str) {
        *self = Self {
            refusal: Some(failure(kind, text)),
            ..Self::default()
        };
    }
}

impl Service {
    pub(super) fn append_messages(
        &self,
        requests: Streaming<pb::AppendRequest>,
    ) -> Answers<pb::AppendResponse> {
        self.answer(WAITING, |service, sender| async move {
            service.take_messages(requests, &sender).await;
        })
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
        let without_room = Arc::new(Semaphore::new(WITHOUT_ROOM));
        while let Ok(Some(request)) = requests.message().await {
            let token = request.token;
            if request.abort {
                under_way.remove(&token);
                continue;
            }
            if request.begin.is_some() && !under_way.contains_key(&token) {
                if request.end {
                    self.take_whole(request, max, &without_room, sender).await;
                    continue;
                }
                if under_way.len() >= UNDER_WAY {
                    return;
                }
                under_way.insert(token, Incoming::default());
            }
            let Some(incoming) = under_way.get_mut(&token) else {
                continue;
            };
            self.take_piece(incoming, request.begin, &request.data, max)
                .await;
            if request.end
                && let Some(incoming) = under_way.remove(&token)
            {
                let (service, sender) = (self.clone(), sender.clone());
                self.0.context.spawn(async move {
                    service.append_and_tell(incoming, token, &sender).await;
                });
            }
        }
    }

    /// A message that is complete. It waits for memory by itself: others of the stream, which are
    /// other clients', do not wait behind it.
    async fn take_whole(
        &self,
        request: pb::AppendRequest,
        max: u64,
        without_room: &Arc<Semaphore>,
        sender: &Sender,
    ) {
        let pb::AppendRequest {
            token, begin, data, ..
        } = request;
        let mut incoming = Incoming::default();
        let mut place = None;
        let takes_room = incoming.takes(begin, data.len(), max);
        let needs = takes_room.then_some(data.len() as u64);
        let room = needs.and_then(|octets| self.0.budget.try_take(octets));
        if takes_room && room.is_none() {
            // The semaphore is never closed.
            place = without_room.clone().acquire_owned().await.ok();
        }
        incoming.room.extend(room);
        let (service, sender) = (self.clone(), sender.clone());
        self.0.context.spawn(async move {
            if takes_room {
                if incoming.room.is_empty() {
                    service.wait_for_room(&mut incoming, data.len()).await;
                }
                incoming.push(&data);
            }
            drop((place, data));
            service.append_and_tell(incoming, token, &sender).await;
        });
    }

    async fn take_piece(
        &self,
        incoming: &mut Incoming,
        begin: Option<pb::AppendBegin>,
        data: &[u8],
        max: u64,
    ) {
        if incoming.takes(begin, data.len(), max) {
            self.wait_for_room(incoming, data.len()).await;
            incoming.push(data);
        }
    }

    async fn wait_for_room(&self, incoming: &mut Incoming, octets: usize) {
        let room = self.0.budget.take(octets as u64);
        match tokio::time::timeout(PATIENCE, room).await {
            Ok(room) => incoming.room.extend(room),
            Err(_) => incoming.refuse(Kind::Temporary, "too much mail comes in just now"),
        }
    }

    async fn append_and_tell(&self, incoming: Incoming, token: u64, sender: &Sender) {
        let result = Some(self.append_all(incoming).await);
        // Without its stream the front end has lost the client too.
        let _ = sender.send(Ok(pb::AppendResponse { token, result })).await;
    }

    async fn append_all(&self, incoming: Incoming) -> Answer {
        if let Some(refusal) = incoming.refusal {
            return Answer::Failure(refusal);
        }
        let _room = incoming.room;
        let Some(account) = incoming.messages.first().map(|m| m.begin.account_id) else {
            return Answer::Failure(failure(Kind::Temporary, "no message came"));
        };
        let stores = &self.0.stores;
        let stored = stores.with(AccountId::from(account), move |account| {
            // Reading whole messages takes its time, which the runtime's threads do not have.
            let operations: Result<Vec<_>, _> =
                incoming.messages.into_iter().map(operation).collect();
            match operations {
                Ok(operations) => store(account, operations),
                Err(failure) => Ok(Answer::Failure(failure)),
            }
        });
        stored
            .await
            .unwrap_or_else(|error| Answer::Failure(store_failed(&error)))
    }
}

fn operation(message: Message) -> Result<Operation, pb::Failure> {
    let begin = message.begin;
    let mailbox = Target::Name(name(&begin.mailbox)?);
    let content = message.content.freeze();
    Ok(Operation::Deliver(Box::new(Deliver {
        key: None,
        mailbox,
        uid: None,
        flags: flag_names(begin.flags),
        internal_date: begin.internal_date.unwrap_or_else(now),
        internal_offset: begin.internal_date_offset,
        summary: Arc::new(mail_message::summarize(&content)),
        content: vec![content],
        quota: begin.quota_bytes,
    })))
}

/// Stores all, or none: what is stored already goes again when one cannot be.
fn store(account: &Account, operations: Vec<Operation>) -> StoreResult<Answer> {
    let mut appended: Option<pb::Appended> = None;
    let mut uids = UidSet::new();
    let mut refusal = None;
    let mut place = None;
    for outcome in account.apply_all(operations, now()) {
        match outcome {
            Ok(Ok(Applied::Delivered {
                mailbox,
                uid_validity,
                uid,
                modseq,
            })) => {
                uids.insert(uid);
                place = Some(mailbox);
                appended = Some(pb::Appended {
                    mailbox_id: mailbox.get(),
                    uid_validity,
                    uid: uid.get(),
                    modseq,
                    uids: None,
                });
            }
            // An operation without a key is answered so alone.
            Ok(Ok(_)) => {
                refusal = Some(failure(Kind::Temporary, "the store gave no place"));
            }
            Ok(Err(error)) => refusal = Some(refused(error)),
            Err(error) => refusal = Some(store_failed(&error)),
        }
    }
    if let Some(refusal) = refusal {
        if let Some(mailbox) = place {
            let expunge = Expunge {
                mailbox,
                uids: Some(uids),
                only_deleted: false,
            };
            if let Err(refused) = account.apply(Operation::Expunge(expunge), now())? {
                warn!(%refused, "messages of an APPEND that failed stay");
            }
        }
        return Ok(Answer::Failure(refusal));
    }
    Ok(match appended {
        Some(appended) => Answer::Appended(pb::Appended {
            uids: Some((&uids).into()),
            ..appended
        }),
        None => Answer::Failure(failure(Kind::Temporary, "the store gave no answer")),
    })
}
