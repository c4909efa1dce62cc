//! A mailbox that sessions look at: its newest version, and how to hear of the next one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mail_rpc::pb::mailbox::v1 as pb;
use mail_types::Flags;
use tokio::sync::{Notify, watch};

use super::chunk::Entry;
use super::recent::Recent;
use super::rows::{Edit, Rows};

/// How long a feed goes on claiming when nobody may have what it claims.
const LINGER: Duration = Duration::from_secs(1);

/// A mailbox at one moment. Sessions that were told the same share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Version {
    pub(crate) rows: Rows,
    pub(crate) keywords: Arc<Vec<String>>,
    pub(crate) uid_validity: u32,
    pub(crate) uid_next: u32,
    pub(crate) highest_modseq: u64,
}

/// How a mailbox stands with its feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// The feed tells what changes.
    Good,
    /// The feed ended, and another one is looked for.
    Lost,
    /// No other feed was found.
    Broken,
    /// The mailbox is there no more, or not as it was.
    Gone,
}

/// A snapshot of the mailbox service.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    pub(super) mailbox_id: u64,
    pub(super) name: String,
    pub(super) epoch: u64,
    /// From this UID on messages are recent to whoever asked; 0 is none.
    pub(super) first_recent: u32,
    pub(super) version: Version,
}

/// The mailbox.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) account: u64,
    pub(crate) id: u64,
    state: Mutex<State>,
    /// Told of each version.
    news: watch::Sender<()>,
    turn: Notify,
}

#[derive(Debug)]
struct State {
    version: Arc<Version>,
    health: Health,
    name: String,
    epoch: u64,
    /// The feed claims `\Recent`.
    claims: bool,
    /// It should: there are sessions that may have it.
    wanted: bool,
    /// Claimed, and told to no session yet.
    unclaimed: Recent,
}

impl Open {
    pub(super) fn new(account: u64, fresh: Fresh, claims: bool) -> Self {
        let mut unclaimed = Recent::default();
        unclaimed.add_from(fresh.first_recent, fresh.version.uid_next);
        Self {
            account,
            id: fresh.mailbox_id,
            state: Mutex::new(State {
                version: Arc::new(fresh.version),
                health: Health::Good,
                name: fresh.name,
                epoch: fresh.epoch,
                claims,
                wanted: claims,
                unclaimed,
            }),
            news: watch::Sender::new(()),
            turn: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn current(&self) -> Arc<Version> {
        self.state().version.clone()
    }

    pub(crate) fn health(&self) -> Health {
        self.state().health
    }

    pub(crate) fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// The version with its epoch and the mailbox's name.
    pub(super) fn facts(&self) -> (Arc<Version>, u64, String) {
        let state = self.state();
        (state.version.clone(), state.epoch, state.name.clone())
    }

    /// Gives what is recent below a UID to who asks first.
    pub(crate) fn claim_recent(&self, below: u32) -> Recent {
        self.state().unclaimed.take_below(below)
    }

    /// Another watcher's claims, which go to those here.
    pub(super) fn add_recent(&self, recent: &Recent) {
        self.state().unclaimed.add(recent);
    }

    pub(super) fn claims(&self) -> bool {
        self.state().claims
    }

    /// Has the feed claim `\Recent` from now on, or no more; [`Self::claims`] tells when it does.
    pub(super) fn want_claim(&self, wanted: bool) {
        let before = std::mem::replace(&mut self.state().wanted, wanted);
        if before != wanted {
            self.turn.notify_one();
        }
    }

    /// Waits until another feed may be wanted. One that claims for nobody is kept for a while: a
    /// session that leaves often comes back, and mail that comes in while feeds change could be told
    /// to neither as its own.
    pub(super) async fn turned(&self) {
        self.turn.notified().await;
        while !self.state().wanted {
            let again = tokio::time::timeout(LINGER, self.turn.notified());
            if again.await.is_err() {
                return;
            }
        }
    }

    pub(super) fn claims_as_wanted(&self) -> bool {
        let state = self.state();
        state.claims == state.wanted
    }

    /// Whether the next feed is to claim. One that does not is told of at once: nobody is to rely on
    /// the claims of the last one.
    pub(super) fn turn(&self) -> bool {
        let mut state = self.state();
        state.claims &= state.wanted;
        state.wanted
    }

    /// Takes over what the feed told. Only the feed's task makes versions, so that sessions need not
    /// wait while one is made.
    pub(super) fn apply(&self, changes: &[pb::Change]) {
        let mut version = Version::clone(&self.current());
        let mut recent = Recent::default();
        let mut name = None;
        for change in changes {
            let (first, end) = recent_of(change);
            recent.add_from(first, end);
            name = change.renamed_to.as_ref().or(name);
            version.apply(change);
        }
        let version = Arc::new(version);
        let mut state = self.state();
        state.unclaimed.add(&recent);
        if let Some(name) = name {
            state.name.clone_from(name);
        }
        let before = std::mem::replace(&mut state.version, version);
        drop(state);
        // Not under the lock: it may be large, and this its last use.
        drop(before);
        self.news.send_replace(());
    }

    /// Takes over a snapshot behind a break of the feed; false if it is another mailbox now.
    pub(super) fn renew(&self, fresh: Fresh, claims: bool) -> bool {
        let mut state = self.state();
        let known = &state.version;
        // What a client was told must not come undone: MODSEQs that fall are of a store that was
        // made anew from what was left of it.
        let is_other = fresh.version.uid_validity != known.uid_validity
            || fresh.version.highest_modseq < known.highest_modseq;
        if is_other {
            return false;
        }
        let (first, next) = (fresh.first_recent, fresh.version.uid_next);
        state.unclaimed.add_from(first, next);
        state.version = Arc::new(fresh.version);
        state.epoch = fresh.epoch;
        state.name = fresh.name;
        state.claims = claims;
        state.health = Health::Good;
        drop(state);
        self.news.send_replace(());
        true
    }

    /// Sessions hear of an end; that the feed is lost need not wake anybody.
    pub(super) fn set_health(&self, health: Health) {
        self.state().health = health;
        if health != Health::Lost {
            self.news.send_replace(());
        }
    }
}

impl Version {
    fn apply(&mut self, change: &pb::Change) {
        self.learn_keywords(&change.new_keywords);
        let changed: Vec<Entry> = change.flags_changed.iter().map(entry).collect();
        let new = change.appended.iter();
        let new = new.filter(|state| state.uid >= self.uid_next);
        let appended: Vec<Entry> = new.map(entry).collect();
        let expunged = ranges(change.expunged.as_ref());
        if let Some(last) = appended.last() {
            self.uid_next = last.uid.saturating_add(1);
        }
        let edit = Edit {
            changed: &changed,
            expunged: &expunged,
            appended: &appended,
        };
        self.rows = self.rows.edited(edit);
        self.highest_modseq = self.highest_modseq.max(change.modseq);
    }

    /// Adds those that are not there yet.
    pub(crate) fn learn_keywords(&mut self, names: &[String]) {
        for name in names {
            if !self.keywords.contains(name) {
                Arc::make_mut(&mut self.keywords).push(name.clone());
            }
        }
    }

    /// Octets that it takes at most.
    pub(super) fn octets(&self) -> usize {
        let keywords = self.keywords.iter().map(|name| name.len() + 32);
        size_of::<Self>() + self.rows.octets() + keywords.sum::<usize>()
    }
}

/// The UIDs that a change gives to its watcher: the first, and the one behind the last. None is 0.
pub(super) fn recent_of(change: &pb::Change) -> (u32, u32) {
    let last = change.appended.last().filter(|_| change.recent);
    let first = change.appended.first().map_or(0, |new| new.uid);
    last.map_or((0, 0), |last| (first, last.uid.saturating_add(1)))
}

/// A set as ranges, both ends included.
pub(crate) fn ranges(set: Option<&pb::UidSet>) -> Vec<(u32, u32)> {
    let bounds = set.map(|set| set.bounds.as_slice()).unwrap_or_default();
    let pairs = bounds.chunks_exact(2).filter_map(|range| match range {
        [low, high] => Some((*low, *high)),
        _ => None,
    });
    pairs.collect()
}

pub(crate) fn entry(state: &pb::MessageState) -> Entry {
    Entry {
        uid: state.uid,
        flags: Flags::from(state.flags),
        modseq: state.modseq,
        size: state.size,
    }
}
