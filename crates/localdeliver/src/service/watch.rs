//! Watch: a snapshot, then each change. A watcher that cannot keep up gets no more: its stream ends
//! without `gone`, and it watches anew.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use mail_rpc::pb::mailbox::v1 as pb;
use mail_types::AccountId;
use mailbox_store::{Event, Known};
use pb::failure::Kind;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Answers, Service};
use crate::convert::{failure, snapshot_events, store_failed, target, watch_event};

/// Changes that may wait for a watcher.
const WAITING: usize = 4096;

/// Maildrops that a POP3 session has to itself (RFC 1939 §4).
#[derive(Clone, Debug, Default)]
pub(super) struct Locks(Arc<Mutex<HashSet<AccountId>>>);

/// Gives the maildrop back when dropped.
#[derive(Debug)]
pub(super) struct Lock {
    locks: Locks,
    account: AccountId,
}

impl Locks {
    fn take(&self, account: AccountId) -> Option<Lock> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.insert(account).then(|| Lock {
            locks: self.clone(),
            account,
        })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut taken = self.locks.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.remove(&self.account);
    }
}

/// Boxed: a channel makes room for 32 items at a time, and most watchers never have one.
type Sender = mpsc::Sender<Box<pb::WatchEvent>>;

impl Service {
    pub(super) async fn watch_mailbox(&self, request: pb::WatchRequest) -> Answers<pb::WatchEvent> {
        let account = AccountId::from(request.account_id);
        let target = match target(request.mailbox_id, &request.name) {
            Ok(target) => target,
            Err(failure) => return only(failure),
        };
        let lock = match request.pop3_lock.then(|| self.0.locks.take(account)) {
            Some(None) => {
                return only(failure(Kind::Locked, "another session has the maildrop"));
            }
            lock => lock.flatten(),
        };
        let (sender, receiver) = mpsc::channel(WAITING);
        let feed = feed(sender);
        let claim_recent = request.claim_recent;
        let process = self.0.epoch;
        let known = request.known.map(|known| Known {
            mailbox: known.mailbox_id.into(),
            epoch: known.epoch.wrapping_sub(process),
            highest_modseq: known.highest_modseq,
        });
        let watched = self.0.stores.with(account, move |account| {
            Ok(account.watch_known(&target, claim_recent, known, feed)?)
        });
        match watched.await {
            Ok(Some((mut snapshot, watcher))) => {
                snapshot.epoch = snapshot.epoch.wrapping_add(process);
                let first = tokio_stream::iter(snapshot_events(&snapshot).into_iter().map(Ok));
                let events = first
                    .chain(ReceiverStream::new(receiver).map(|event| Ok(*event)))
                    .map(move |event| {
                        // Watching and lock live as long as the stream.
                        let _ = (&watcher, &lock);
                        event
                    });
                self.until_shutdown(events)
            }
            Ok(None) => only(failure(Kind::NoSuchMailbox, "there is no such mailbox")),
            Err(error) => only(store_failed(&error)),
        }
    }
}

/// Passes events on. Without room, and behind `gone`, the channel is closed: the stream ends once
/// the watcher has read what waits.
fn feed(sender: Sender) -> impl Fn(Event) + Send + Sync + 'static {
    let sender = Mutex::new(Some(sender));
    move |event| {
        let mut sender = sender.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = sender
            .as_ref()
            .is_some_and(|to| to.try_send(Box::new(watch_event(&event))).is_ok());
        if !sent || matches!(event, Event::Gone) {
            *sender = None;
        }
    }
}

fn only(failure: pb::Failure) -> Answers<pb::WatchEvent> {
    let event = pb::WatchEvent {
        event: Some(pb::watch_event::Event::Failure(failure)),
    };
    Box::pin(tokio_stream::once(Ok(event)))
}
