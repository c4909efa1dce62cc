//! The client's INBOX, locked for this session.

use std::time::Duration;

use bytes::Bytes;
use mail_rpc::mailbox::{Fetched, Fetcher};
use mail_rpc::pb::mailbox::v1 as pb;
use mail_types::AccountId;
use pb::fetch_response::Item;
use pb::mailbox_service_client::MailboxServiceClient;
use pop3_proto::{MaildropFailure, Message};
use tonic::Status;
use tonic::transport::Channel;
use tracing::warn;

use crate::ahead::{Ahead, Budget};
use crate::lock::{Facts, Lock};

/// How often to try again while the last session's lock is being given back, and how many times:
/// clients like to connect again at once.
const LOCK_PAUSE: Duration = Duration::from_millis(50);
const LOCK_TRIES: u32 = 40;

/// What TOP asks for at first: nearly always the header and some lines.
const TOP_BYTES: u64 = 64 * 1024;

/// An open maildrop; it is locked until this is dropped.
#[derive(Debug)]
pub(crate) struct Maildrop {
    account: AccountId,
    facts: Facts,
    lock: Lock,
    pub(crate) ahead: Ahead,
}

/// One message on its way from the store.
#[derive(Debug)]
pub(crate) struct Reader {
    account: AccountId,
    mailbox: u64,
    message: Message,
    offset: u64,
    fetched: Option<Fetched>,
}

impl Reader {
    /// A length of 0 is the whole message.
    async fn begin(
        fetcher: &Fetcher,
        account: AccountId,
        mailbox: u64,
        message: Message,
        length: u64,
    ) -> Result<Self, Status> {
        let mut reader = Self {
            account,
            mailbox,
            message,
            offset: 0,
            fetched: None,
        };
        reader.fetch(fetcher, length).await?;
        Ok(reader)
    }

    async fn fetch(&mut self, fetcher: &Fetcher, length: u64) -> Result<(), Status> {
        let request = pb::FetchRequest {
            account_id: self.account.get(),
            mailbox_id: self.mailbox,
            uids: Some(pb::UidSet {
                bounds: vec![self.message.uid, self.message.uid],
            }),
            content: Some(pb::ByteRange {
                offset: self.offset,
                length,
            }),
            ..pb::FetchRequest::default()
        };
        let most = if length == 0 {
            self.message.size.saturating_sub(self.offset)
        } else {
            length
        };
        self.fetched = Some(fetcher.fetch(request, most).await?);
        Ok(())
    }

    /// The next piece; `None` behind the last one.
    pub(crate) async fn next(&mut self, fetcher: &Fetcher) -> Result<Option<Bytes>, Status> {
        loop {
            let Some(fetched) = &mut self.fetched else {
                if self.offset >= self.message.size {
                    return Ok(None);
                }
                // Only the beginning was asked for, and it did not do.
                self.fetch(fetcher, 0).await?;
                continue;
            };
            match fetched.next().await {
                Some(Ok(Item::Content(content))) => {
                    self.offset += content.data.len() as u64;
                    if content.last {
                        if content.data.is_empty() && self.offset < self.message.size {
                            return Err(Status::data_loss("it is shorter than it was"));
                        }
                        self.fetched = None;
                    }
                    return Ok(Some(content.data));
                }
                Some(Ok(Item::Summary(_) | Item::Packed(_))) => {}
                Some(Ok(Item::Done(done))) => {
                    let damaged = done.damaged.is_some_and(|set| !set.bounds.is_empty());
                    return Err(match done.failure {
                        Some(failure) => Status::unavailable(failure.detail),
                        None if damaged => Status::data_loss("it is damaged"),
                        None => Status::not_found("it is not there any more"),
                    });
                }
                Some(Err(status)) => return Err(status),
                None => return Err(Status::unavailable("the answer broke off")),
            }
        }
    }
}

impl Maildrop {
    /// Opens and locks INBOX.
    pub(crate) async fn open(
        client: &MailboxServiceClient<Channel>,
        account: AccountId,
        budget: &Budget,
    ) -> Result<(Self, Vec<Message>), MaildropFailure> {
        for _ in 0..LOCK_TRIES {
            let (lock, facts, messages) = match Lock::take(client, account).await {
                Err(MaildropFailure::InUse) => {
                    tokio::time::sleep(LOCK_PAUSE).await;
                    continue;
                }
                result => result?,
            };
            let maildrop = Self {
                account,
                facts,
                lock,
                ahead: Ahead::new(account, facts.mailbox, budget.clone()),
            };
            return Ok((maildrop, messages));
        }
        Err(MaildropFailure::InUse)
    }

    pub(crate) fn uid_validity(&self) -> u32 {
        self.facts.uid_validity
    }

    /// Begins to read a message by itself.
    pub(crate) async fn read(
        &self,
        fetcher: &Fetcher,
        message: Message,
        top: bool,
    ) -> Result<Reader, Status> {
        let length = if top { TOP_BYTES.min(message.size) } else { 0 };
        Reader::begin(fetcher, self.account, self.facts.mailbox, message, length).await
    }

    /// Deletes messages for good; true if all are gone. Only who has the lock deletes.
    pub(crate) async fn delete(
        &self,
        client: &MailboxServiceClient<Channel>,
        uids: &[u32],
    ) -> bool {
        if !self.lock.is_held().await {
            warn!(account = %self.account, "the maildrop's lock is lost, nothing is deleted");
            return false;
        }
        let request = pb::ExpungeRequest {
            account_id: self.account.get(),
            mailbox_id: self.facts.mailbox,
            uids: Some(pb::UidSet {
                bounds: uids.iter().flat_map(|uid| [*uid, *uid]).collect(),
            }),
            only_deleted: false,
        };
        match client
            .clone()
            .expunge(request)
            .await
            .map(tonic::Response::into_inner)
        {
            Ok(pb::ExpungeResponse { failure: None, .. }) => true,
            Ok(pb::ExpungeResponse { failure, .. }) => {
                warn!(account = %self.account, ?failure, "cannot delete messages");
                false
            }
            Err(status) => {
                warn!(account = %self.account, %status, "cannot delete messages");
                false
            }
        }
    }
}
