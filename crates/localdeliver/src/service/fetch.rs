//! Fetch: requests of many sessions on one stream, answered side by side, each in bounded pieces.

mod packed;

use std::collections::HashMap;

use bytes::Bytes;
use mail_rpc::CHUNK_SIZE;
use mail_rpc::convert::uid_set;
use mail_rpc::pb::mailbox::v1 as pb;
use mail_types::{AccountId, MailboxId, Uid, UidSet};
use mailbox_store::{Account, Message, StoreError};
use pb::fetch_response::Item;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::{Answers, Service};
use crate::convert::{failure, store_failed};
use crate::stores::{StoreResult, Stores};

/// Items that may wait for one stream: with their size the memory of a slow reader.
const WAITING: usize = 32;
/// Octets read at a time for one request.
const PIECE: usize = 256 * 1024;
/// Messages read at a time for one request.
const MESSAGES: usize = 256;
/// Requests of one stream that are answered side by side.
const SIDE_BY_SIDE: usize = 32;
/// So many messages asked for at most have their absence told.
const MISSING_TOLD: u64 = 100_000;

type Sender = mpsc::Sender<Result<pb::FetchResponse, Status>>;

impl Service {
    pub(super) fn fetch_messages(
        &self,
        mut requests: Streaming<pb::FetchRequest>,
    ) -> Answers<pb::FetchResponse> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let stores = self.0.stores.clone();
        let shutdown = self.0.context.shutdown().clone();
        let places = std::sync::Arc::new(tokio::sync::Semaphore::new(SIDE_BY_SIDE));
        self.0.context.spawn(async move {
            let mut under_way: HashMap<u64, CancellationToken> = HashMap::new();
            loop {
                let request = tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = sender.closed() => return,
                    request = requests.message() => request,
                };
                let Ok(Some(request)) = request else { return };
                under_way.retain(|_, token| !token.is_cancelled());
                if request.cancel {
                    if let Some(token) = under_way.remove(&request.id) {
                        token.cancel();
                    }
                    continue;
                }
                // Not reading on is what holds back a client that asks faster than it reads.
                let Ok(place) = places.clone().acquire_owned().await else {
                    return;
                };
                let token = CancellationToken::new();
                under_way.insert(request.id, token.clone());
                let job = Job {
                    stores: stores.clone(),
                    sender: sender.clone(),
                    id: request.id,
                };
                tokio::spawn(async move {
                    let _place = place;
                    tokio::select! {
                        () = token.cancelled() => {}
                        () = job.run(request) => token.cancel(),
                    }
                });
            }
        });
        self.until_shutdown(ReceiverStream::new(receiver))
    }
}

/// One request.
struct Job {
    stores: Stores,
    sender: Sender,
    id: u64,
}

impl Job {
    async fn run(&self, request: pb::FetchRequest) {
        let account = AccountId::from(request.account_id);
        let is_packed = !request.pieces.is_empty();
        let plan = packed::Plan::compile(request.pieces);
        let (uids, plan) = match uid_set(request.uids.as_ref()).and_then(|uids| Ok((uids, plan?))) {
            Ok(compiled) => compiled,
            Err(error) => {
                let wrong = failure(pb::failure::Kind::Temporary, &error);
                return self
                    .end(pb::FetchDone {
                        failure: Some(wrong),
                        ..pb::FetchDone::default()
                    })
                    .await;
            }
        };
        if is_packed {
            let packing = packed::Packing::new(request.mailbox_id.into(), plan, uids.clone());
            return self.run_packed(account, packing, &uids).await;
        }
        let mut cursor = Cursor {
            mailbox: request.mailbox_id.into(),
            asked: uids.clone(),
            left: uids,
            found: UidSet::new(),
            damaged: UidSet::new(),
            summary: request.summary,
            content: request.content,
            open: None,
        };
        loop {
            let read = self
                .stores
                .with(account, move |account| cursor.read(account))
                .await;
            let (items, next) = match read {
                Ok(read) => read,
                Err(error) => return self.fail(&error).await,
            };
            for item in items {
                if self.send(item).await.is_err() {
                    return;
                }
            }
            match next {
                Some(next) => cursor = next,
                None => return,
            }
        }
    }

    async fn run_packed(&self, account: AccountId, mut packing: packed::Packing, asked: &UidSet) {
        loop {
            let read = self
                .stores
                .with(account, move |account| {
                    let read = packing.read(account)?;
                    Ok((packing, read))
                })
                .await;
            let (next, (items, more)) = match read {
                Ok(read) => read,
                Err(error) => return self.fail(&error).await,
            };
            for item in items {
                if self.send(item).await.is_err() {
                    return;
                }
            }
            if !more {
                let (found, damaged) = next.outcome();
                return self.end(done(asked, found, damaged)).await;
            }
            packing = next;
        }
    }

    async fn fail(&self, error: &StoreError) {
        let failure = Some(store_failed(error));
        self.end(pb::FetchDone {
            failure,
            ..pb::FetchDone::default()
        })
        .await;
    }

    async fn end(&self, done: pb::FetchDone) {
        let _ = self.send(Item::Done(done)).await;
    }

    async fn send(&self, item: Item) -> Result<(), ()> {
        let response = pb::FetchResponse {
            id: self.id,
            item: Some(item),
        };
        self.sender.send(Ok(response)).await.map_err(|_| ())
    }
}

/// How far a request is.
struct Cursor {
    mailbox: MailboxId,
    asked: UidSet,
    left: UidSet,
    found: UidSet,
    damaged: UidSet,
    summary: bool,
    content: Option<pb::ByteRange>,
    /// A message whose content is not sent to its end, and the next octet.
    open: Option<(Message, u64)>,
}

impl Cursor {
    /// Reads the next piece. No cursor means that the items end with `done`.
    fn read(mut self, account: &Account) -> StoreResult<(Vec<Item>, Option<Self>)> {
        let mut items = Vec::new();
        if let Some((message, at)) = self.open.take() {
            self.read_content(account, message, at, &mut items)?;
            return Ok((items, Some(self)));
        }
        let mut batch: Vec<Message> = Vec::new();
        let limit = if self.content.is_some() {
            self.messages_at_a_time()
        } else {
            MESSAGES
        };
        account.read_messages(self.mailbox, &self.left, self.summary, |message| {
            batch.push(message);
            batch.len() < limit
        })?;
        let more = batch.len() >= limit;
        for message in batch {
            self.left = behind(&self.left, message.uid);
            self.found.insert(message.uid);
            if self.summary {
                items.push(Item::Summary(summary(&message)));
            }
            if self.content.is_some() {
                let start = self.content.map_or(0, |range| range.offset);
                self.read_content(account, message, start, &mut items)?;
                if self.open.is_some() {
                    return Ok((items, Some(self)));
                }
            }
        }
        if more && !self.left.is_empty() {
            return Ok((items, Some(self)));
        }
        items.push(Item::Done(done(&self.asked, &self.found, &self.damaged)));
        Ok((items, None))
    }

    /// Content makes pieces large; then fewer messages make one.
    fn messages_at_a_time(&self) -> usize {
        let ranged = self
            .content
            .is_some_and(|range| range.length > 0 && range.length < 8192);
        if ranged { MESSAGES / 8 } else { 8 }
    }

    /// Sends up to [`PIECE`] octets of a message from `at` on.
    fn read_content(
        &mut self,
        account: &Account,
        message: Message,
        at: u64,
        items: &mut Vec<Item>,
    ) -> StoreResult<()> {
        let range = self.content.unwrap_or_default();
        let end = match range.length {
            0 => message.size,
            length => range.offset.saturating_add(length).min(message.size),
        };
        let wanted = usize::try_from(end.saturating_sub(at))
            .unwrap_or(usize::MAX)
            .min(PIECE);
        // A message that is read whole in one piece is verified there.
        let in_pieces = at == 0 && end == message.size && message.size > PIECE as u64;
        let verified = if in_pieces {
            account.verify_content(&message)
        } else {
            Ok(())
        };
        let content = match verified.and_then(|()| account.read_content(&message, at, wanted)) {
            Ok(content) => Bytes::from(content),
            Err(StoreError::Damaged { .. }) => {
                self.damaged.insert(message.uid);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let next = at + content.len() as u64;
        let finished = next >= end || content.is_empty();
        let uid = message.uid.get();
        let mut start = 0;
        loop {
            let stop = (start + CHUNK_SIZE).min(content.len());
            let last = finished && stop == content.len();
            items.push(Item::Content(pb::Content {
                uid,
                data: content.slice(start..stop),
                last,
            }));
            start = stop;
            if start >= content.len() {
                break;
            }
        }
        if !finished {
            self.open = Some((message, next));
        }
        Ok(())
    }
}

/// Ends an answer: which messages were asked for and not there, and which are damaged.
fn done(asked: &UidSet, found: &UidSet, damaged: &UidSet) -> pb::FetchDone {
    let missing: UidSet = if asked.len() <= MISSING_TOLD {
        asked.iter().filter(|uid| !found.contains(*uid)).collect()
    } else {
        UidSet::new()
    };
    pb::FetchDone {
        missing: Some((&missing).into()),
        damaged: Some((damaged).into()),
        failure: None,
    }
}

/// What of the set is behind a UID.
fn behind(set: &UidSet, uid: Uid) -> UidSet {
    let mut rest = UidSet::new();
    let Some(next) = uid.next() else { return rest };
    for (low, high) in set.ranges() {
        if *high >= next {
            rest.insert_range((*low).max(next), *high);
        }
    }
    rest
}

fn summary(message: &Message) -> pb::Summary {
    pb::Summary {
        uid: message.uid.get(),
        size: message.size,
        internal_date: message.internal_date,
        internal_date_offset: message.internal_offset,
        email_id: Bytes::copy_from_slice(&message.email_id.to_bytes()),
        thread_id: message.thread,
        save_date: message.save_date,
        envelope: Bytes::copy_from_slice(&message.envelope),
        body_structure: Bytes::copy_from_slice(&message.body_structure),
        body: Bytes::copy_from_slice(&message.body),
        parts: Bytes::copy_from_slice(&message.parts),
        common_fields: Bytes::copy_from_slice(&message.common_fields),
    }
}
