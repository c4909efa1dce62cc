//! Import: mail of elsewhere, each message once, answered when it is durable.

use std::sync::Arc;

use bytes::BytesMut;
use mail_rpc::pb::mailbox::v1 as pb;
use mail_types::{AccountId, Uid, UidSet};
use mailbox_store::{
    Account, Adopt, Applied, ApplyError, Deliver, DeliveryKey, MailboxName, Operation, Target,
};
use pb::failure::Kind;
use pb::import_request::Item;
use pb::import_response::Result as Answer;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tonic::{Status, Streaming};

use super::{Answers, Service};
use crate::convert::{failure, flag_names, name, refused, special_use_in, store_failed_in_full};
use crate::stores::{StoreResult, now};

/// Answers that may wait for a slow reader.
const WAITING: usize = 64;
/// Messages that are stored together: what waits, and no more.
const TOGETHER: usize = 256;
/// The key of an import has this bit; queue ids begin with the time, and have it in no century.
const IMPORTED: u64 = 1 << 63;

/// A step of an import, in the order of the stream.
enum Step {
    Mailbox(pb::ImportMailbox),
    Message(Box<Incoming>),
}

/// A message, whose end may not have come.
struct Incoming {
    message: pb::ImportMessage,
    content: BytesMut,
    room: Vec<OwnedSemaphorePermit>,
    too_large: bool,
}

/// Where messages go.
#[derive(Clone)]
struct Place {
    account: AccountId,
    mailbox: MailboxName,
    /// The source's UIDVALIDITY is the mailbox's.
    same_uids: bool,
    quota: u64,
}

impl Service {
    pub(super) fn import_messages(
        &self,
        requests: Streaming<pb::ImportRequest>,
    ) -> Answers<pb::ImportResponse> {
        let (steps, taken) = mpsc::channel(TOGETHER);
        self.answer(WAITING, |service, sender| async move {
            tokio::join!(
                service.read_import(requests, steps),
                service.import(taken, &sender)
            );
        })
    }

    async fn read_import(
        &self,
        mut requests: Streaming<pb::ImportRequest>,
        steps: mpsc::Sender<Step>,
    ) {
        let config = self.0.context.config();
        let max = config.localdeliver.max_message_size.bytes();
        let mut incoming: Option<Box<Incoming>> = None;
        while let Ok(Some(request)) = requests.message().await {
            let step = match request.item {
                Some(Item::Mailbox(mailbox)) => Step::Mailbox(mailbox),
                Some(Item::Message(message)) => {
                    incoming = Some(Box::new(Incoming {
                        message,
                        content: BytesMut::new(),
                        room: Vec::new(),
                        too_large: false,
                    }));
                    continue;
                }
                Some(Item::Data(data)) => {
                    let Some(incoming) = incoming.as_mut() else {
                        continue;
                    };
                    if incoming.content.len() as u64 + data.len() as u64 > max {
                        incoming.too_large = true;
                        incoming.content = BytesMut::new();
                        incoming.room.clear();
                    }
                    if !incoming.too_large {
                        let room = self.0.budget.take(data.len() as u64).await;
                        incoming.room.extend(room);
                        incoming.content.extend_from_slice(&data);
                    }
                    continue;
                }
                Some(Item::End(end)) => match incoming.take() {
                    Some(incoming) if end.damaged.is_empty() => Step::Message(incoming),
                    _ => continue,
                },
                None => continue,
            };
            if steps.send(step).await.is_err() {
                return;
            }
        }
    }

    async fn import(
        &self,
        mut steps: mpsc::Receiver<Step>,
        sender: &mpsc::Sender<Result<pb::ImportResponse, Status>>,
    ) {
        let mut place = None;
        let mut waiting = Vec::new();
        while steps.recv_many(&mut waiting, TOGETHER).await > 0 {
            let mut batch = Vec::new();
            let mut answers = Vec::new();
            for step in waiting.drain(..) {
                match step {
                    Step::Message(incoming) => batch.push(*incoming),
                    Step::Mailbox(mailbox) => {
                        let before = std::mem::take(&mut batch);
                        answers.extend(self.store_batch(place.as_ref(), before).await);
                        let (answer, new) = self.begin_mailbox(mailbox).await;
                        place = new;
                        answers.push(Answer::Adopted(answer));
                    }
                }
            }
            answers.extend(self.store_batch(place.as_ref(), batch).await);
            for answer in answers {
                let result = Some(answer);
                if sender
                    .send(Ok(pb::ImportResponse { result }))
                    .await
                    .is_err()
                {
                    return;
                }
            }
        }
    }

    async fn begin_mailbox(
        &self,
        mailbox: pb::ImportMailbox,
    ) -> (pb::ImportAdopted, Option<Place>) {
        let failed = |failure| {
            let failure = Some(failure);
            let answer = pb::ImportAdopted {
                failure,
                ..pb::ImportAdopted::default()
            };
            (answer, None)
        };
        let facts = mailbox.facts.unwrap_or_default();
        let name = match name(&facts.name) {
            Ok(name) => name,
            Err(failure) => return failed(failure),
        };
        let account = AccountId::from(mailbox.account_id);
        let wanted = facts.uid_validity;
        let target = name.clone();
        let begun = self
            .0
            .stores
            .with(account, move |account| begin(account, &target, &facts));
        match begun.await {
            Ok(Ok((uid_validity, uid_next))) => {
                let place = Place {
                    account,
                    mailbox: name,
                    same_uids: uid_validity == wanted,
                    quota: mailbox.quota_bytes,
                };
                let failure = None;
                let answer = pb::ImportAdopted {
                    uid_validity,
                    uid_next,
                    failure,
                };
                (answer, Some(place))
            }
            Ok(Err(error)) => failed(refused(error)),
            Err(error) => failed(store_failed_in_full(&error)),
        }
    }

    async fn store_batch(&self, place: Option<&Place>, batch: Vec<Incoming>) -> Vec<Answer> {
        let tokens: Vec<u64> = batch.iter().map(|one| one.message.token).collect();
        let Some(place) = place.cloned() else {
            let none = || failure(Kind::NoSuchMailbox, "the mailbox could not be made");
            return tokens
                .into_iter()
                .map(|token| answer(token, Err(none())))
                .collect();
        };
        if batch.is_empty() {
            return Vec::new();
        }
        let stored = self.0.stores.with(place.account, move |account| {
            Ok(store(account, &place, batch))
        });
        match stored.await {
            Ok(answers) => answers,
            Err(error) => tokens
                .into_iter()
                .map(|token| answer(token, Err(store_failed_in_full(&error))))
                .collect(),
        }
    }
}

/// Makes the mailbox and its subscription, as far as they are not there.
fn begin(
    account: &Account,
    name: &MailboxName,
    facts: &pb::MailboxFacts,
) -> StoreResult<Result<(u32, u32), ApplyError>> {
    let mut operations = Vec::new();
    let is_there = account.status(&Target::Name(name.clone())).is_some();
    if facts.exists && !is_there {
        let special_use = special_use_in(facts.special_use());
        operations.push(Operation::Create(name.clone(), special_use));
    }
    if facts.subscribed
        && !account
            .subscriptions()
            .iter()
            .any(|one| one == name.as_str())
    {
        operations.push(Operation::Subscribe(name.clone(), true));
    }
    if facts.exists {
        operations.push(Operation::Adopt(Adopt {
            mailbox: name.clone(),
            uid_validity: facts.uid_validity,
            uid_next: facts.uid_next,
        }));
    }
    let mut adopted = (0, 0);
    for outcome in account.apply_all(operations, now()) {
        match outcome? {
            Ok(Applied::Adopted {
                uid_validity,
                uid_next,
                ..
            }) => adopted = (uid_validity, uid_next),
            Ok(_) => {}
            Err(refused) => return Ok(Err(refused)),
        }
    }
    Ok(Ok(adopted))
}

fn store(account: &Account, place: &Place, batch: Vec<Incoming>) -> Vec<Answer> {
    let mut answers = Vec::with_capacity(batch.len());
    let mut operations = Vec::new();
    let mut tokens = Vec::new();
    // Held until all is stored.
    let mut rooms = Vec::new();
    for incoming in batch {
        let token = incoming.message.token;
        if incoming.too_large {
            let large = failure(
                Kind::TooLarge,
                "the message is larger than localdeliver takes",
            );
            answers.push(answer(token, Err(large)));
            continue;
        }
        if place.same_uids && is_there(account, place, &incoming) {
            answers.push(answer(token, Ok((0, true))));
            continue;
        }
        let (operation, room) = operation(place, incoming);
        operations.push(operation);
        tokens.push(token);
        rooms.push(room);
    }
    let outcomes = account.apply_all(operations, now());
    answers.extend(tokens.into_iter().zip(outcomes).map(|(token, outcome)| {
        let told = match outcome {
            Ok(Ok(Applied::Delivered { uid, .. })) => Ok((uid.get(), false)),
            Ok(Ok(_)) => Ok((0, true)),
            Ok(Err(error)) => Err(refused(error)),
            Err(error) => Err(store_failed_in_full(&error)),
        };
        answer(token, told)
    }));
    answers
}

/// Keys are forgotten after a while; then the UID tells, if the message is still there.
fn is_there(account: &Account, place: &Place, incoming: &Incoming) -> bool {
    let facts = incoming.message.facts.clone().unwrap_or_default();
    let target = Target::Name(place.mailbox.clone());
    let (Some(uid), Some(status)) = (Uid::new(facts.uid), account.status(&target)) else {
        return false;
    };
    if uid.get() >= status.uid_next {
        return false;
    }
    let mut uids = UidSet::new();
    uids.insert(uid);
    let mut found = false;
    let read = account.read_messages(status.id, &uids, false, |message| {
        found = message.size == incoming.content.len() as u64
            && message.internal_date == facts.internal_date;
        false
    });
    read.is_ok() && found
}

fn operation(place: &Place, incoming: Incoming) -> (Operation, Vec<OwnedSemaphorePermit>) {
    let facts = incoming.message.facts.unwrap_or_default();
    let content = incoming.content.freeze();
    let deliver = Deliver {
        key: key(&incoming.message.key),
        mailbox: Target::Name(place.mailbox.clone()),
        uid: Uid::new(facts.uid).filter(|_| place.same_uids),
        flags: flag_names(facts.flags),
        internal_date: facts.internal_date,
        internal_offset: facts.internal_date_offset,
        summary: Arc::new(mail_message::summarize(&content)),
        content: vec![content],
        quota: place.quota,
    };
    (Operation::Deliver(Box::new(deliver)), incoming.room)
}

/// `None` if it is too short to tell messages apart.
fn key(bytes: &[u8]) -> Option<DeliveryKey> {
    let (first, rest) = bytes.split_first_chunk::<8>()?;
    let index = rest.first_chunk::<4>()?;
    Some(DeliveryKey {
        queue_id: u64::from_le_bytes(*first) | IMPORTED,
        index: u32::from_le_bytes(*index),
    })
}

fn answer(token: u64, told: Result<(u32, bool), pb::Failure>) -> Answer {
    Answer::Imported(match told {
        Ok((uid, before)) => pb::Imported {
            token,
            uid,
            before,
            failure: None,
        },
        Err(failure) => pb::Imported {
            token,
            failure: Some(failure),
            ..pb::Imported::default()
        },
    })
}
