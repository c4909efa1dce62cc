//! The mailboxes that sessions look at: one view of each for all of them (design: "All sessions of a
//! front end that look at one mailbox share that view").
//!
//! A mailbox is open as long as a session has it selected: a task follows its change feed and makes
//! one version after the other. A session holds the version that its client was told, and is told
//! the difference to the newest one when it may be. Of a mailbox that nobody looks at any more the
//! last version is kept for a while: whether it still holds is asked when it is selected again.
//!
//! LOCKS. The registry's lock may be held while a mailbox's is taken, never the other way round;
//! neither over an `await`.

mod chunk;
mod column;
mod feed;
mod kept;
mod open;
mod recent;
mod rows;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use mail_rpc::pb::mailbox::v1 as pb;
use pb::mailbox_service_client::MailboxServiceClient;
use tokio::task::AbortHandle;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::answer::{No, check};
use crate::view::View;
pub(crate) use chunk::Entry;
use feed::Known;
use kept::Kept;
use open::Fresh;
pub(crate) use open::{Health, Open, Version, entry, ranges};
pub(crate) use recent::Recent;
pub(crate) use rows::Edit;

/// How long the feed may take to bring what a command has done.
const FEED_TIMEOUT: Duration = Duration::from_secs(5);

/// The registry.
#[derive(Debug)]
pub(crate) struct Mailboxes {
    client: MailboxServiceClient<Channel>,
    inner: Mutex<Inner>,
}

/// Account and mailbox.
type Key = (u64, u64);

#[derive(Debug)]
struct Inner {
    live: HashMap<Key, Live>,
    /// Where a mailbox of that name was seen last; the store is asked whether it is still there.
    names: HashMap<(u64, String), u64>,
    kept: Kept,
}

#[derive(Debug)]
struct Live {
    open: Arc<Open>,
    /// Sessions that look at it.
    seats: usize,
    feed: AbortHandle,
}

/// A session's place at an open mailbox, given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) open: Arc<Open>,
    registry: Weak<Mailboxes>,
}

impl Mailboxes {
    /// `budget`: octets for mailboxes at which nobody looks.
    pub(crate) fn new(client: MailboxServiceClient<Channel>, budget: usize) -> Arc<Self> {
        Arc::new(Self {
            client,
            inner: Mutex::new(Inner {
                live: HashMap::new(),
                names: HashMap::new(),
                kept: Kept::new(budget),
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a mailbox for a session. It is seen as it is now, or later.
    pub(crate) async fn select(
        self: &Arc<Self>,
        account: u64,
        name: &str,
        read_only: bool,
    ) -> Result<View, No> {
        if let Some(seat) = self.seat(account, name)
            && let Some(view) = self.join(seat, name, read_only).await?
        {
            return Ok(view);
        }
        let known = self.known(account, name);
        let opening = feed::watch(&self.client, account, name, known.as_ref(), !read_only);
        let (fresh, feed) = Box::pin(opening).await?;
        let (first, modseq) = (fresh.first_recent, fresh.version.highest_modseq);
        let next = fresh.version.uid_next;
        match self.open(account, name, fresh, feed, !read_only) {
            (seat, true) => Ok(View::new(seat, read_only)),
            (seat, false) => {
                // What our own feed claimed is for those who share the other one.
                seat.open.add_recent(first, next);
                let joined = self.settle(seat, modseq, read_only).await?;
                joined.ok_or_else(|| Status::unavailable("the mailbox has just gone").into())
            }
        }
    }

    /// A place at a mailbox that is open already.
    fn seat(self: &Arc<Self>, account: u64, name: &str) -> Option<Seat> {
        let mut inner = self.lock();
        let id = *inner.names.get(&(account, name.to_owned()))?;
        let live = inner.live.get_mut(&(account, id))?;
        live.seats += 1;
        Some(Seat {
            open: live.open.clone(),
            registry: Arc::downgrade(self),
        })
    }

    /// Takes a place if the name still means that mailbox.
    async fn join(&self, seat: Seat, name: &str, read_only: bool) -> Result<Option<View>, No> {
        let request = pb::GetStatusRequest {
            account_id: seat.open.account,
            names: vec![name.to_owned()],
        };
        let answer = self.client.clone().get_status(request).await?.into_inner();
        let status = answer.statuses.into_iter().next();
        let Some(status) = status else {
            return Err(Status::internal("no status came").into());
        };
        check(status.failure)?;
        let is_it = status.mailbox_id == seat.open.id
            && status.uid_validity == seat.open.current().uid_validity;
        if !is_it {
            return Ok(None);
        }
        self.settle(seat, status.highest_modseq, read_only).await
    }

    /// Waits until an open mailbox has come so far; `None` if it is gone.
    async fn settle(&self, seat: Seat, modseq: u64, read_only: bool) -> Result<Option<View>, No> {
        let claims = read_only || seat.open.claims();
        if !claims {
            seat.open.ask_for_claim();
        }
        let settled = |open: &Open| {
            let is_behind = open.current().highest_modseq < modseq;
            !is_behind && (read_only || open.claims()) && open.health() == Health::Good
        };
        if !seat.until(settled).await {
            return match seat.open.health() {
                Health::Gone | Health::Broken => Ok(None),
                Health::Good | Health::Lost => {
                    Err(Status::unavailable("the mailbox's feed is late").into())
                }
            };
        }
        Ok(Some(View::new(seat, read_only)))
    }

    fn known(&self, account: u64, name: &str) -> Option<Known> {
        let mut inner = self.lock();
        let id = *inner.names.get(&(account, name.to_owned()))?;
        inner.kept.get((account, id))
    }

    /// Puts an opened mailbox in; false if it has been opened by another session meanwhile.
    fn open(
        self: &Arc<Self>,
        account: u64,
        name: &str,
        fresh: Fresh,
        feed: Streaming<pb::WatchEvent>,
        claims: bool,
    ) -> (Seat, bool) {
        let key = (account, fresh.mailbox_id);
        let mut inner = self.lock();
        inner.names.insert((account, name.to_owned()), key.1);
        inner.kept.remove(key);
        let seat = |open: &Arc<Open>| Seat {
            open: open.clone(),
            registry: Arc::downgrade(self),
        };
        if let Some(live) = inner.live.get_mut(&key)
            && live.open.current().uid_validity == fresh.version.uid_validity
            && matches!(live.open.health(), Health::Good | Health::Lost)
        {
            live.seats += 1;
            return (seat(&live.open), false);
        }
        let open = Arc::new(Open::new(account, fresh, claims));
        let follow = feed::follow(self.client.clone(), open.clone(), feed);
        let live = Live {
            open: open.clone(),
            seats: 1,
            feed: tokio::spawn(follow).abort_handle(),
        };
        // Who looks at the one that is gone keeps it.
        inner.live.insert(key, live);
        (seat(&open), true)
    }

    /// The last who leaves puts the light out.
    fn leave(&self, open: &Arc<Open>) {
        let key = (open.account, open.id);
        let mut inner = self.lock();
        let Some(live) = inner.live.get_mut(&key) else {
            return;
        };
        if !Arc::ptr_eq(&live.open, open) {
            return;
        }
        live.seats -= 1;
        if live.seats > 0 {
            return;
        }
        live.feed.abort();
        inner.live.remove(&key);
        let (version, epoch, name) = open.facts();
        let known = Known {
            mailbox_id: open.id,
            epoch,
            version,
        };
        let is_good = open.health() == Health::Good;
        if is_good {
            inner.names.insert((open.account, name), open.id);
            inner.kept.put(key, known);
        }
        inner.forget_names();
    }
}

impl Inner {
    /// Names grow with what is looked at, and are cleared out now and then.
    fn forget_names(&mut self) {
        let bound = 2 * (self.live.len() + self.kept.len()) + 64;
        if self.names.len() > bound {
            let (live, kept) = (&self.live, &self.kept);
            self.names.retain(|(account, _), id| {
                let key = (*account, *id);
                live.contains_key(&key) || kept.has(key)
            });
        }
    }
}

impl Seat {
    #[cfg(test)]
    pub(crate) fn alone(open: Arc<Open>) -> Self {
        Self {
            open,
            registry: Weak::new(),
        }
    }

    /// Waits until the mailbox is so; false if that does not come to be, or not soon.
    pub(crate) async fn until(&self, is_so: impl Fn(&Open) -> bool) -> bool {
        if is_so(&self.open) {
            return true;
        }
        let mut news = self.open.news();
        let wait = async {
            loop {
                if is_so(&self.open) {
                    return true;
                }
                let ended = matches!(self.open.health(), Health::Gone | Health::Broken);
                if ended || news.changed().await.is_err() {
                    return false;
                }
            }
        };
        let waited = tokio::time::timeout(FEED_TIMEOUT, wait).await;
        waited.unwrap_or(false)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(registry) = self.registry.upgrade() {
            registry.leave(&self.open);
        }
    }
}

#[cfg(test)]
mod tests;
