//! The client's INBOX, locked for this session.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use mail_rpc::mailbox::{Fetched, Fetcher};
use mail_rpc::pb::mailbox::v1 as pb;
use mail_types::AccountId;
use pb::fetch_response::Item;
use pb::mailbox_service_client::MailboxServiceClient;
use pb::watch_event::Event;
use pop3_proto::{MaildropFailure, Message};
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use tracing::{debug, warn};

/// How often to try again while the last session's lock is being given back, and how many times:
/// clients like to connect again at once.
const LOCK_PAUSE: Duration = Duration::from_millis(50);
const LOCK_TRIES: u32 = 40;

/// What TOP asks for at first: nearly always the header and some lines.
const TOP_BYTES: u64 = 64 * 1024;
/// Octets of a session that may wait as read ahead.
const AHEAD_BYTES: u64 = 256 * 1024;

/// An open maildrop; it is locked until this is dropped.
#[derive(Debug)]
pub(crate) struct Maildrop {
    account: AccountId,
    mailbox: u64,
    uid_validity: u32,
    /// Keeps the stream that holds the lock, and reads what it tells: a session sees the maildrop
    /// as it was at its beginning (RFC 1939 §8).
    feed: JoinHandle<()>,
    /// Messages that the client has asked for behind the one that is being sent.
    ahead: VecDeque<Reader>,
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
            ahead: VecDeque::new(),
        };
        Ok((maildrop, messages))
    }

    pub(crate) fn uid_validity(&self) -> u32 {
        self.uid_validity
    }

    /// Begins to read a message, or goes on with one that is read ahead.
    pub(crate) async fn read(
        &mut self,
        fetcher: &Fetcher,
        message: Message,
        top: bool,
    ) -> Result<Reader, Status> {
        if !top {
            while let Some(reader) = self.ahead.pop_front() {
                if reader.message == message {
                    return Ok(reader);
                }
            }
        }
        let length = if top { TOP_BYTES.min(message.size) } else { 0 };
        Reader::begin(fetcher, self.account, self.mailbox, message, length).await
    }

    /// Asks for messages that are wanted next, up to [`AHEAD_BYTES`] in all. What fails is asked for
    /// again when its turn comes.
    pub(crate) async fn read_ahead(&mut self, fetcher: &Fetcher, upcoming: &[Message]) {
        let mut bytes = 0;
        for (at, message) in upcoming.iter().enumerate() {
            bytes += message.size;
            if bytes > AHEAD_BYTES {
                return;
            }
            if self
                .ahead
                .get(at)
                .is_some_and(|reader| reader.message == *message)
            {
                continue;
            }
            self.ahead.truncate(at);
            let begun = Reader::begin(fetcher, self.account, self.mailbox, *message, 0).await;
            match begun {
                Ok(reader) => self.ahead.push_back(reader),
                Err(status) => {
                    debug!(%status, uid = message.uid, "cannot read ahead");
                    return;
                }
            }
        }
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
