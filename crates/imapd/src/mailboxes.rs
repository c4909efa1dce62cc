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
mod names;
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
use names::Names;
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
    names: Names,
    kept: Kept,
}

#[derive(Debug)]
struct Live {
    open: Arc<Open>,
    /// Sessions that look at it.
    seats: usize,
    /// Those of them that messages may be `\Recent` to: with SELECT, not EXAMINE.
    claimants: usize,
    feed: AbortHandle,
}

/// A session's place at an open mailbox, given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) open: Arc<Open>,
    /// Messages may be `\Recent` to it.
    claims: bool,
    registry: Weak<Mailboxes>,
}

impl Mailboxes {
    /// `budget`: octets for mailboxes at which nobody looks.
    pub(crate) fn new(client: MailboxServiceClient<Channel>, budget: usize) -> Arc<Self> {
        Arc::new(Self {
            client,
            inner: Mutex::new(Inner {
                live: HashMap::new(),
                names: Names::default(),
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
        if let Some(seat) = self.seat(account, name, !read_only)
            && let Some(view) = self.join(seat, name, read_only).await?
        {
            return Ok(view);
        }
        let known = self.known(account, name);
        let opening = feed::watch(&self.client, account, name, known.as_ref(), !read_only);
        let (fresh, feed) = Box::pin(opening).await?;
        let mut recent = Recent::default();
        recent.add_from(fresh.first_recent, fresh.version.uid_next);
        let modseq = fresh.version.highest_modseq;
        match self.open(account, name, fresh, feed, !read_only) {
            (seat, None) => Ok(View::new(seat, read_only)),
            (seat, Some(mut feed)) => {
                // What our own feed claimed is for those who share the other one. It ends before the
                // other one claims, which is given nothing as long as it is there.
                recent.add(&feed::held(&mut feed, (0, 0)).await);
                drop(feed);
                seat.open.add_recent(&recent);
                let joined = self.settle(seat, modseq, read_only).await?;
                joined.ok_or_else(|| Status::unavailable("the mailbox has just gone").into())
            }
        }
    }

    /// A place at a mailbox that is open already.
    fn seat(self: &Arc<Self>, account: u64, name: &str, claims: bool) -> Option<Seat> {
        let mut inner = self.lock();
        let id = inner.names.id(account, name)?;
        let live = inner.live.get_mut(&(account, id))?;
        Some(live.seat(self, claims))
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
        if !read_only {
            // As long as this seat is taken nobody asks for the contrary.
            seat.open.want_claim(true);
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
        let id = inner.names.id(account, name)?;
        inner.kept.get((account, id))
    }

    /// Puts an opened mailbox in; the feed comes back if another session has opened it meanwhile.
    fn open(
        self: &Arc<Self>,
        account: u64,
        name: &str,
        fresh: Fresh,
        feed: Streaming<pb::WatchEvent>,
        claims: bool,
    ) -> (Seat, Option<Streaming<pb::WatchEvent>>) {
        let key = (account, fresh.mailbox_id);
        let validity = fresh.version.uid_validity;
        let mut inner = self.lock();
        inner.names.insert(key, name);
        let known = inner.kept.remove(key);
        if let Some(live) = inner.live.get_mut(&key)
            && live.open.current().uid_validity == validity
            && matches!(live.open.health(), Health::Good | Health::Lost)
        {
            return (live.seat(self, claims), Some(feed));
        }
        let open = Arc::new(Open::new(account, fresh, claims));
        if let Some(known) = known.filter(|known| known.version.uid_validity == validity) {
            open.add_recent(&known.unclaimed);
        }
        let follow = feed::follow(self.client.clone(), open.clone(), feed);
        let mut live = Live {
            open,
            seats: 0,
            claimants: 0,
            feed: tokio::spawn(follow).abort_handle(),
        };
        let seat = live.seat(self, claims);
        // Who looks at the one that is gone keeps it.
        inner.live.insert(key, live);
        (seat, None)
    }

    /// The last who leaves puts the light out.
    fn leave(&self, open: &Arc<Open>, claims: bool) {
        let key = (open.account, open.id);
        let mut inner = self.lock();
        let Some(live) = inner.live.get_mut(&key) else {
            return;
        };
        if !Arc::ptr_eq(&live.open, open) {
            return;
        }
        live.seats -= 1;
        live.claimants -= usize::from(claims);
        if live.seats > 0 {
            if claims && live.claimants == 0 {
                // RFC 3501 §6.3.2: with EXAMINE no message loses `\Recent`.
                open.want_claim(false);
            }
            return;
        }
        live.feed.abort();
        inner.live.remove(&key);
        let (version, epoch, name) = open.facts();
        let known = Known {
            mailbox_id: open.id,
            epoch,
            version,
            unclaimed: open.claim_recent(u32::MAX),
        };
        let is_good = open.health() == Health::Good;
        if is_good {
            inner.names.insert(key, &name);
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
            let is_there = |key: Key| live.contains_key(&key) || kept.has(key);
            self.names.retain(is_there);
        }
    }
}

impl Live {
    fn seat(&mut self, registry: &Arc<Mailboxes>, claims: bool) -> Seat {
        self.seats += 1;
        self.claimants += usize::from(claims);
        Seat {
            open: self.open.clone(),
            claims,
            registry: Arc::downgrade(registry),
        }
    }
}

impl Seat {
    #[cfg(test)]
    pub(crate) fn alone(open: Arc<Open>) -> Self {
        Self {
            open,
            claims: false,
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
            registry.leave(&self.open, self.claims);
        }
    }
}

#[cfg(test)]
mod tests;
