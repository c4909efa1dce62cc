//! CREATE, DELETE, RENAME and SUBSCRIBE (RFC 3501 §6.3.3 to §6.3.7).

use std::sync::Arc;

use mail_types::{Uid, UidSet};

use super::{Batch, Effect};
use crate::account::Counters;
use crate::operation::{Adopt, CopyMail, Expunge, Target};
use crate::schema::{MailboxRow, SpecialUse};
use crate::{Applied, ApplyError, Change, MailboxName, StoreError};

/// What a new account has.
pub(super) const DEFAULTS: [(&str, SpecialUse); 6] = [
    ("INBOX", SpecialUse::None),
    ("Archive", SpecialUse::Archive),
    ("Drafts", SpecialUse::Drafts),
    ("Junk", SpecialUse::Junk),
    ("Sent", SpecialUse::Sent),
    ("Trash", SpecialUse::Trash),
];

/// Mailboxes of one account. People have hundreds; each costs some memory in each daemon.
const MAX_MAILBOXES: usize = 10_000;

/// UIDVALIDITYs and UIDNEXTs from here on are not taken over: too few would be left behind them.
const MAX_ADOPTED: u32 = u32::MAX - 1_000_000;

/// A new mailbox, whose id is `counters.next_mailbox` as this leaves it.
pub(super) fn new_row(
    counters: &mut Counters,
    name: &str,
    special_use: SpecialUse,
    now: i64,
) -> MailboxRow {
    counters.next_mailbox += 1;
    // Seconds since 1970, and never one that an earlier mailbox had.
    let now = u64::try_from(now).unwrap_or(0);
    counters.uid_validity = now.clamp(counters.uid_validity + 1, u64::from(u32::MAX));
    let uid_validity = u32::try_from(counters.uid_validity).unwrap_or(u32::MAX);
    MailboxRow::empty(name.to_owned(), special_use, uid_validity)
}

impl Batch<'_> {
    pub(super) fn create(
        &mut self,
        name: &MailboxName,
        special_use: SpecialUse,
    ) -> Result<Applied, ApplyError> {
        if self.state.names.contains_key(name.as_str()) {
            return Err(ApplyError::AlreadyExists);
        }
        if self.state.mailboxes.len() >= MAX_MAILBOXES {
            return Err(ApplyError::Limit);
        }
        let counters = &mut self.state.counters;
        let id = counters.next_mailbox;
        // The counter points at the next free id between batches, and `new_row` counts up.
        counters.next_mailbox -= 1;
        let row = new_row(counters, name.as_str(), special_use, self.now);
        counters.next_mailbox = id + 1;
        self.state.insert(id, row);
        self.changed.insert(id);
        Ok(Applied::Created(id.into()))
    }

    pub(super) fn adopt(&mut self, adopt: &Adopt) -> Result<Applied, ApplyError> {
        let id = self.state.names.get(adopt.mailbox.as_str()).copied();
        let id = id.ok_or(ApplyError::NoSuchMailbox)?;
        let last = &mut self.state.counters.uid_validity;
        let rows = Arc::make_mut(&mut self.state.mailboxes);
        let row = rows.get_mut(&id).map(Arc::make_mut);
        let row = row.ok_or(ApplyError::NoSuchMailbox)?;
        self.changed.insert(id);
        // Nobody can have seen a message under the old value. Later mailboxes need higher ones.
        if row.uid_next == 1 && (1..MAX_ADOPTED).contains(&adopt.uid_validity) {
            row.uid_validity = adopt.uid_validity;
            *last = u64::from(adopt.uid_validity).max(*last);
        }
        row.uid_next = row.uid_next.max(adopt.uid_next.min(MAX_ADOPTED));
        Ok(Applied::Adopted {
            mailbox: id.into(),
            uid_validity: row.uid_validity,
            uid_next: row.uid_next,
        })
    }

    pub(super) fn delete(
        &mut self,
        name: &MailboxName,
    ) -> Result<Result<Applied, ApplyError>, StoreError> {
        if name.is_inbox() {
            return Ok(Err(ApplyError::Inbox));
        }
        let Some(id) = self.state.names.get(name.as_str()).copied() else {
            return Ok(Err(ApplyError::NoSuchMailbox));
        };
        let all = Expunge {
            mailbox: id.into(),
            uids: None,
            only_deleted: false,
        };
        if let Err(refused) = self.expunge(&all)? {
            return Ok(Err(refused));
        }
        Arc::make_mut(&mut self.state.names).remove(name.as_str());
        Arc::make_mut(&mut self.state.mailboxes).remove(&id);
        self.changed.insert(id);
        self.effects.push(Effect::Gone(id.into()));
        Ok(Ok(Applied::Done))
    }

    pub(super) fn rename(
        &mut self,
        name: &MailboxName,
        new_name: &MailboxName,
    ) -> Result<Result<Applied, ApplyError>, StoreError> {
        if self.state.names.contains_key(new_name.as_str()) {
            return Ok(Err(ApplyError::AlreadyExists));
        }
        if new_name.is_inbox() {
            return Ok(Err(ApplyError::Inbox));
        }
        if name.is_inbox() {
            return self.rename_inbox(new_name);
        }
        Ok(self.rename_tree(name, new_name))
    }

    /// A mailbox and all below it; the name itself may be a level without a mailbox.
    fn rename_tree(
        &mut self,
        name: &MailboxName,
        new_name: &MailboxName,
    ) -> Result<Applied, ApplyError> {
        // A mailbox cannot become its own child.
        if name.is_above(new_name) {
            return Err(ApplyError::AlreadyExists);
        }
        let mut moves = Vec::new();
        for (old, id) in self.state.names.iter() {
            let Ok(old_name) = old.parse::<MailboxName>() else {
                continue;
            };
            let Some(new) = old_name.moved(name, new_name) else {
                continue;
            };
            if new.as_str().len() > MailboxName::MAX_LEN {
                return Err(ApplyError::Limit);
            }
            if self.state.names.contains_key(new.as_str()) {
                return Err(ApplyError::AlreadyExists);
            }
            moves.push((*id, old.clone(), new));
        }
        if moves.is_empty() {
            return Err(ApplyError::NoSuchMailbox);
        }
        for (id, old, new) in moves {
            let names = Arc::make_mut(&mut self.state.names);
            names.remove(&old);
            names.insert(new.as_str().to_owned(), id);
            let Some(row) = self.row_mut(id) else {
                continue;
            };
            new.as_str().clone_into(&mut row.name);
            let modseq = row.highest_modseq;
            let renamed_to = Some(new.as_str().to_owned());
            self.tell(
                id,
                Change {
                    modseq,
                    renamed_to,
                    ..Change::default()
                },
            );
        }
        Ok(Applied::Done)
    }

    /// RFC 3501 §6.3.5: the messages move, INBOX stays and is empty, its children stay.
    fn rename_inbox(
        &mut self,
        new_name: &MailboxName,
    ) -> Result<Result<Applied, ApplyError>, StoreError> {
        let inbox = Target::Name(MailboxName::inbox());
        let Some(inbox) = self.state.find(&inbox) else {
            return Ok(Err(ApplyError::NoSuchMailbox));
        };
        if let Err(refused) = self.create(new_name, SpecialUse::None) {
            return Ok(Err(refused));
        }
        let mut uids = UidSet::new();
        if let Some(last) = Uid::new(u32::MAX) {
            uids.insert_range(Uid::MIN, last);
        }
        let copy = CopyMail {
            mailbox: inbox.into(),
            uids,
            target: new_name.clone(),
            remove: true,
            quota: 0,
        };
        Ok(self.copy(&copy)?.map(|_| Applied::Done))
    }

    pub(super) fn subscribe(
        &mut self,
        name: &MailboxName,
        subscribed: bool,
    ) -> Result<Result<Applied, ApplyError>, StoreError> {
        if subscribed {
            if self.state.subscriptions.len() >= MAX_MAILBOXES {
                return Ok(Err(ApplyError::Limit));
            }
            self.tables.subscriptions.insert(name.as_str(), ())?;
            Arc::make_mut(&mut self.state.subscriptions).insert(name.as_str().to_owned());
        } else {
            self.tables.subscriptions.remove(name.as_str())?;
            Arc::make_mut(&mut self.state.subscriptions).remove(name.as_str());
        }
        Ok(Ok(Applied::Done))
    }
}
