//! The client's INBOX, locked for this session.

use std::time::Duration;

use mail_rpc::mailbox::{Fetched, Fetcher};
use mail_rpc::pb::mailbox::v1 as pb;
use mail_types::AccountId;
use pb::mailbox_service_client::MailboxServiceClient;
use pb::watch_event::Event;
use pop3_proto::{MaildropFailure, Message};
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use tracing::warn;

/// How often to try again while the last session's lock is being given back, and how many times:
/// clients like to connect again at once.
const LOCK_PAUSE: Duration = Duration::from_millis(50);
const LOCK_TRIES: u32 = 40;

/// An open maildrop; it is locked until this is dropped.
#[derive(Debug)]
pub(crate) struct Maildrop {
    account: AccountId,
    mailbox: u64,
    uid_validity: u32,
    /// Keeps the stream that holds the lock, and reads what it tells: a session sees the maildrop
    /// as it was at its beginning (RFC 1939 §8).
    feed: JoinHandle<()>,
}

impl Drop for Maildrop {
    fn drop(&mut self) {
        self.feed.abort();
    }
}

impl Maildrop {
    /// Opens and locks INBOX.
    pub(crate) async fn open(
        client: &MailboxServiceClient<Channel>,
        account: AccountId,
    ) -> Result<(Self, Vec<Message>), MaildropFailure> {
        for _ in 0..LOCK_TRIES {
            match Self::try_open(client.clone(), account).await {
                Err(MaildropFailure::InUse) => tokio::time::sleep(LOCK_PAUSE).await,
                result => return result,
            }
        }
        Err(MaildropFailure::InUse)
    }

    async fn try_open(
        mut client: MailboxServiceClient<Channel>,
        account: AccountId,
    ) -> Result<(Self, Vec<Message>), MaildropFailure> {
        let request = pb::WatchRequest {
            account_id: account.get(),
            name: "INBOX".to_owned(),
            mailbox_id: 0,
            claim_recent: false,
            pop3_lock: true,
        };
        let trouble = |status: Status| {
            warn!(%account, %status, "cannot open the maildrop");
            MaildropFailure::Temporary
        };
        let mut events = client.watch(request).await.map_err(trouble)?.into_inner();
        let (snapshot, messages) = read_snapshot(&mut events).await?;
        let feed = tokio::spawn(async move { while let Ok(Some(_)) = events.message().await {} });
        let maildrop = Self {
            account,
            mailbox: snapshot.mailbox_id,
            uid_validity: snapshot.uid_validity,
            feed,
        };
        Ok((maildrop, messages))
    }

    pub(crate) fn uid_validity(&self) -> u32 {
        self.uid_validity
    }

    /// Begins to read a message.
    pub(crate) async fn fetch(
        &self,
        fetcher: &Fetcher,
        uid: u32,
        size: u64,
    ) -> Result<Fetched, Status> {
        let request = pb::FetchRequest {
            account_id: self.account.get(),
            mailbox_id: self.mailbox,
            uids: Some(pb::UidSet {
                bounds: vec![uid, uid],
            }),
            content: Some(pb::ByteRange {
                offset: 0,
                length: 0,
            }),
            ..pb::FetchRequest::default()
        };
        fetcher.fetch(request, size).await
    }

    /// Deletes messages for good; true if all are gone.
    pub(crate) async fn delete(
        &self,
        client: &MailboxServiceClient<Channel>,
        uids: &[u32],
    ) -> bool {
        let request = pb::ExpungeRequest {
            account_id: self.account.get(),
            mailbox_id: self.mailbox,
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

/// All frames: the first one has the mailbox's facts.
async fn read_snapshot(
    events: &mut Streaming<pb::WatchEvent>,
) -> Result<(pb::Snapshot, Vec<Message>), MaildropFailure> {
    let mut facts = None;
    let mut messages = Vec::new();
    loop {
        let event = events
            .message()
            .await
            .ok()
            .flatten()
            .and_then(|event| event.event);
        match event.ok_or(MaildropFailure::Temporary)? {
            Event::Snapshot(frame) => {
                let sizes = frame.uids.iter().zip(&frame.sizes);
                messages.extend(sizes.map(|(uid, size)| Message {
                    uid: *uid,
                    size: *size,
                }));
                facts.get_or_insert(frame);
            }
            Event::SnapshotEnd(_) => {
                return facts
                    .map(|facts| (facts, messages))
                    .ok_or(MaildropFailure::Temporary);
            }
            Event::Failure(failure) if failure.kind() == pb::failure::Kind::Locked => {
                return Err(MaildropFailure::InUse);
            }
            other => {
                warn!(?other, "cannot open the maildrop");
                return Err(MaildropFailure::Temporary);
            }
        }
    }
}
