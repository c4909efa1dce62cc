//! What watchers of a mailbox are told.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use mail_types::{Flags, MailboxId, Uid, UidSet};

/// A message's state in a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageState {
    /// Its UID.
    pub uid: Uid,
    /// Its flags.
    pub flags: Flags,
    /// Its MODSEQ.
    pub modseq: u64,
    /// Octets.
    pub size: u64,
}

/// What one operation did to a mailbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// The mailbox's MODSEQ behind it.
    pub modseq: u64,
    /// Keywords that the mailbox's table has got at its end.
    pub new_keywords: Vec<String>,
    /// New states.
    pub flags_changed: Vec<MessageState>,
    /// Gone.
    pub expunged: UidSet,
    /// New messages in order of UID.
    pub appended: Vec<MessageState>,
    /// The mailbox's new name.
    pub renamed_to: Option<String>,
}

/// What a watcher gets.
#[derive(Debug, Clone)]
pub enum Event {
    /// A change; `recent` says that this watcher owns `\Recent` of what was appended.
    Changed {
        /// The change.
        change: Arc<Change>,
        /// See above.
        recent: bool,
    },
    /// The mailbox was deleted.
    Gone,
}

/// A mailbox as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id.
    pub mailbox_id: MailboxId,
    /// Its name.
    pub name: String,
    /// UIDVALIDITY.
    pub uid_validity: u32,
    /// UIDNEXT.
    pub uid_next: u32,
    /// HIGHESTMODSEQ.
    pub highest_modseq: u64,
    /// The keyword table.
    pub keywords: Vec<String>,
    /// UIDs from here on are `\Recent` to this watcher.
    pub first_recent: Option<u32>,
    /// MODSEQs of the same epoch tell of the same history; another one begins with each opening of
    /// the account, and when its index was mended.
    pub epoch: u64,
    /// The watcher knows all messages: `messages` is empty.
    pub unchanged: bool,
    /// All messages in order of UID.
    pub messages: Vec<MessageState>,
}

/// What a watcher has of a mailbox already: [`Snapshot`]'s fields, with the MODSEQ of the last change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The mailbox.
    pub mailbox: MailboxId,
    /// Of the snapshot.
    pub epoch: u64,
    /// Behind the last change.
    pub highest_modseq: u64,
}

type Callback = Arc<dyn Fn(Event) + Send + Sync>;

/// A mailbox's watchers.
#[derive(Default)]
pub(crate) struct Hub {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    watchers: HashMap<MailboxId, Vec<Entry>>,
}

struct Entry {
    id: u64,
    claims_recent: bool,
    callback: Callback,
}

/// Ends the watching when dropped.
pub struct Watcher {
    hub: Arc<Hub>,
    mailbox: MailboxId,
    id: u64,
}

impl Hub {
    pub(crate) fn watch(
        self: &Arc<Self>,
        mailbox: MailboxId,
        claims_recent: bool,
        callback: Callback,
    ) -> Watcher {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.next += 1;
        let id = inner.next;
        inner.watchers.entry(mailbox).or_default().push(Entry {
            id,
            claims_recent,
            callback,
        });
        Watcher {
            hub: self.clone(),
            mailbox,
            id,
        }
    }

    /// True if a watcher takes `\Recent` of what comes into the mailbox.
    pub(crate) fn claims_recent(&self, mailbox: MailboxId) -> bool {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let watchers = inner.watchers.get(&mailbox);
        watchers.is_some_and(|entries| entries.iter().any(|entry| entry.claims_recent))
    }

    /// True if somebody watches.
    pub(crate) fn is_watched(&self) -> bool {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        !inner.watchers.is_empty()
    }

    /// Lets go of all watchers, who hear no more: they have to watch anew.
    pub(crate) fn drop_all(&self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let watchers = std::mem::take(&mut inner.watchers);
        drop(inner);
        drop(watchers);
    }

    pub(crate) fn tell(&self, mailbox: MailboxId, change: &Arc<Change>) {
        let mut claimed = false;
        for (claims, callback) in self.callbacks(mailbox) {
            let recent = claims && !claimed;
            claimed |= claims;
            callback(Event::Changed {
                change: change.clone(),
                recent,
            });
        }
    }

    pub(crate) fn tell_gone(&self, mailbox: MailboxId) {
        for (_, callback) in self.callbacks(mailbox) {
            callback(Event::Gone);
        }
    }

    /// Copies, since a watcher may end while it is told.
    fn callbacks(&self, mailbox: MailboxId) -> Vec<(bool, Callback)> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = inner
            .watchers
            .get(&mailbox)
            .map(Vec::as_slice)
            .unwrap_or_default();
        entries
            .iter()
            .map(|entry| (entry.claims_recent, entry.callback.clone()))
            .collect()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut inner = self
            .hub
            .inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(entries) = inner.watchers.get_mut(&self.mailbox) {
            entries.retain(|entry| entry.id != self.id);
            if entries.is_empty() {
                inner.watchers.remove(&self.mailbox);
            }
        }
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher")
            .field("mailbox", &self.mailbox)
            .finish_non_exhaustive()
    }
}
