//! Export: all mail of an account, a mailbox after the other.

use bytes::Bytes;
use mail_rpc::CHUNK_SIZE;
use mail_rpc::pb::mailbox::v1 as pb;
use mail_types::{AccountId, Flags, SystemFlag, Uid, UidSet};
use mailbox_store::{Account, MailboxInfo, Message, StoreError, Target};
use pb::export_item::Item;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Answers, Service};
use crate::convert::{special_use_out, store_failed_in_full};
use crate::stores::StoreResult;

/// Items that may wait for a slow reader.
const WAITING: usize = 32;
/// Messages whose rows are read at a time, so that no read of the index waits for the reader.
const MESSAGES: usize = 256;
/// A message up to this size is read once, and compared with its checksum in memory; a larger one
/// is read twice.
const IN_MEMORY: u64 = 1024 * 1024;

type Sender = mpsc::Sender<Result<pb::ExportItem, Status>>;

/// Why it ended before its end.
enum Ended {
    /// The reader has left.
    Left,
    /// The store does not work.
    Store(StoreError),
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Service {
    pub(super) fn export_account(&self, account: AccountId) -> Answers<pb::ExportItem> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let stores = self.0.stores.clone();
        self.0.context.spawn(async move {
            let items = sender.clone();
            let done = stores.with(account, move |account| export(account, &items));
            let failure = done.await.err().map(|error| store_failed_in_full(&error));
            let item = Some(Item::Done(pb::ExportDone { failure }));
            // Whoever has left does not want to know.
            let _ = sender.send(Ok(pb::ExportItem { item })).await;
        });
        self.until_shutdown(ReceiverStream::new(receiver))
    }
}

fn export(account: &Account, sender: &Sender) -> StoreResult<()> {
    let export = Export { account, sender };
    match export.run() {
        Ok(()) | Err(Ended::Left) => Ok(()),
        Err(Ended::Store(error)) => Err(error.into()),
    }
}

struct Export<'a> {
    account: &'a Account,
    sender: &'a Sender,
}

impl Export<'_> {
    fn run(&self) -> Result<(), Ended> {
        let usage = self.account.usage();
        let mut subscriptions = self.account.subscriptions();
        self.send(Item::Total(pb::ExportTotal {
            messages: usage.messages,
            bytes: usage.bytes,
            mailboxes: u32::try_from(usage.mailboxes).unwrap_or(u32::MAX),
        }))?;
        for info in self.account.mailboxes() {
            let subscribed = subscriptions.iter().position(|name| *name == info.name);
            if let Some(at) = subscribed {
                subscriptions.remove(at);
            }
            self.mailbox(&info, subscribed.is_some())?;
        }
        for name in subscriptions {
            self.send(Item::Mailbox(pb::MailboxFacts {
                name,
                subscribed: true,
                ..pb::MailboxFacts::default()
            }))?;
        }
        Ok(())
    }

    fn mailbox(&self, info: &MailboxInfo, subscribed: bool) -> Result<(), Ended> {
        let status = self.account.status(&Target::Id(info.id));
        let (Some(status), Some(keywords)) = (status, self.account.keywords(info.id)) else {
            // Deleted while others were exported.
            return Ok(());
        };
        self.send(Item::Mailbox(pb::MailboxFacts {
            name: info.name.clone(),
            uid_validity: status.uid_validity,
            uid_next: status.uid_next,
            special_use: special_use_out(info.special_use).into(),
            subscribed,
            messages: status.messages,
            keywords: keywords.clone(),
            exists: true,
        }))?;
        let mut next = Some(Uid::MIN);
        while let Some(first) = next {
            let mut uids = UidSet::new();
            uids.insert_range(first, Uid::new(u32::MAX).unwrap_or(first));
            let mut batch: Vec<Message> = Vec::new();
            self.account
                .read_messages(info.id, &uids, false, |message| {
                    batch.push(message);
                    batch.len() < MESSAGES
                })?;
            next = batch.last().and_then(|last| last.uid.next());
            if batch.len() < MESSAGES {
                next = None;
            }
            for message in batch {
                self.message(&message, &keywords)?;
            }
        }
        Ok(())
    }

    fn message(&self, message: &Message, keywords: &[String]) -> Result<(), Ended> {
        let system = SystemFlag::ALL
            .into_iter()
            .fold(Flags::NONE, |all, flag| all | (message.flags & flag.into()));
        let keywords = message
            .flags
            .keywords()
            .filter_map(|at| keywords.get(at).cloned());
        self.send(Item::Message(pb::MessageFacts {
            uid: message.uid.get(),
            flags: Some(pb::FlagNames {
                system: system.bits(),
                keywords: keywords.collect(),
            }),
            internal_date: message.internal_date,
            internal_date_offset: message.internal_offset,
            size: message.size,
            modseq: message.modseq,
        }))?;
        let damaged = match self.content(message) {
            Ok(()) => String::new(),
            Err(Ended::Store(error @ StoreError::Damaged { .. })) => error.to_string(),
            Err(error) => return Err(error),
        };
        self.send(Item::End(pb::MessageEnd { damaged }))
    }

    fn content(&self, message: &Message) -> Result<(), Ended> {
        if message.size <= IN_MEMORY {
            let content = self.account.read_content(message, 0, usize::MAX)?;
            return self.data(content.into());
        }
        self.account.verify_content(message)?;
        let mut at = 0;
        while at < message.size {
            let piece = self.account.read_content(message, at, CHUNK_SIZE)?;
            if piece.is_empty() {
                break;
            }
            at += piece.len() as u64;
            self.data(piece.into())?;
        }
        Ok(())
    }

    fn data(&self, mut content: Bytes) -> Result<(), Ended> {
        while !content.is_empty() {
            let piece = content.split_to(content.len().min(CHUNK_SIZE));
            self.send(Item::Data(piece))?;
        }
        Ok(())
    }

    fn send(&self, item: Item) -> Result<(), Ended> {
        let item = Some(item);
        self.sender
            .blocking_send(Ok(pb::ExportItem { item }))
            .map_err(|_| Ended::Left)
    }
}
