//! The maildrop's lock (RFC 1939 §4): a stream of localdeliver that holds it for as long as it lives.

use std::time::Duration;

use mail_rpc::pb::mailbox::v1 as pb;
use mail_types::AccountId;
use pb::mailbox_service_client::MailboxServiceClient;
use pb::watch_event::Event;
use pop3_proto::{MaildropFailure, Message};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use tracing::{info, warn};

/// How soon the lock is asked for again when its stream broke, and how rarely at last: a session may
/// be long, and localdeliver away for long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// How long a session that wants to delete waits for a lock that it has lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// What INBOX was when it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) mailbox: u64,
    pub(crate) uid_validity: u32,
}

/// The lock; it is given back when this is dropped. Where localdeliver restarts it is taken again.
#[derive(Debug)]
pub(crate) struct Lock {
    keeper: JoinHandle<()>,
    held: watch::Receiver<bool>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Lock {
    /// Locks INBOX and reads what is in it.
    pub(crate) async fn take(
        client: &MailboxServiceClient<Channel>,
        account: AccountId,
    ) -> Result<(Self, Facts, Vec<Message>), MaildropFailure> {
        let (events, facts, messages) = open(client, account).await?;
        let (holds, held) = watch::channel(true);
        let keeper = Keeper {
            client: client.clone(),
            account,
            facts,
            holds,
        };
        let keeper = tokio::spawn(keeper.keep(events));
        Ok((Self { keeper, held }, facts, messages))
    }

    /// Waits a while for a lock that was lost; false if another session has it, or nobody can say.
    pub(crate) async fn is_held(&self) -> bool {
        let mut held = self.held.clone();
        let waiting = held.wait_for(|held| *held);
        matches!(tokio::time::timeout(PATIENCE, waiting).await, Ok(Ok(_)))
    }
}

struct Keeper {
    client: MailboxServiceClient<Channel>,
    account: AccountId,
    facts: Facts,
    holds: watch::Sender<bool>,
}

impl Keeper {
    async fn keep(self, mut events: Streaming<pb::WatchEvent>) {
        let account = self.account;
        loop {
            // What is told is not needed: a session sees the maildrop as it was at its beginning
            // (RFC 1939 §8).
            while let Ok(Some(_)) = events.message().await {}
            self.holds.send_replace(false);
            info!(%account, "maildrop.lock_lost");
            let facts;
            (events, facts) = self.retake().await;
            if facts != self.facts {
                // Its UIDs name other messages now.
                warn!(%account, "the maildrop is another one now");
                return;
            }
            self.holds.send_replace(true);
            info!(%account, "maildrop.lock_retaken");
        }
    }

    async fn retake(&self) -> (Streaming<pb::WatchEvent>, Facts) {
        let mut pause = FIRST_PAUSE;
        loop {
            tokio::time::sleep(pause).await;
            if let Ok((events, facts, _)) = open(&self.client, self.account).await {
                return (events, facts);
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }
}

type Opened = (Streaming<pb::WatchEvent>, Facts, Vec<Message>);

async fn open(
    client: &MailboxServiceClient<Channel>,
    account: AccountId,
) -> Result<Opened, MaildropFailure> {
    let request = pb::WatchRequest {
        account_id: account.get(),
        name: "INBOX".to_owned(),
        pop3_lock: true,
        ..pb::WatchRequest::default()
    };
    let trouble = |status: Status| {
        warn!(%account, %status, "cannot open the maildrop");
        MaildropFailure::Temporary
    };
    let mut events = client
        .clone()
        .watch(request)
        .await
        .map_err(trouble)?
        .into_inner();
    let (facts, messages) = read_snapshot(&mut events).await?;
    Ok((events, facts, messages))
}

/// All frames: the first one has the mailbox's facts.
async fn read_snapshot(
    events: &mut Streaming<pb::WatchEvent>,
) -> Result<(Facts, Vec<Message>), MaildropFailure> {
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
                facts.get_or_insert(Facts {
                    mailbox: frame.mailbox_id,
                    uid_validity: frame.uid_validity,
                });
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
