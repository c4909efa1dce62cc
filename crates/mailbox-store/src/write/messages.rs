//! STORE, COPY, MOVE and EXPUNGE.

use mail_types::{Flags, SystemFlag, Uid, UidSet};

use super::Batch;
use crate::operation::{CopyMail, Expunge, FlagChange, FlagMode, FlagNames, Target};
use crate::schema::{EmailRow, MailboxRow, MessageRow, email_key};
use crate::{Applied, ApplyError, Change, MessageState, StoreError};

type Refusable = Result<Result<Applied, ApplyError>, StoreError>;

impl Batch<'_> {
    /// The messages of the set that are there.
    fn select(
        &mut self,
        mailbox: u64,
        uids: Option<&UidSet>,
    ) -> Result<Vec<(Uid, MessageRow)>, StoreError> {
        let all = [(Uid::MIN, Uid::new(u32::MAX).unwrap_or(Uid::MIN))];
        let ranges = uids.map_or(all.as_slice(), UidSet::ranges);
        let mut found = Vec::new();
        for (low, high) in ranges {
            let range = (low.get(), high.get());
            self.tables.messages.each(mailbox, range, |uid, row| {
                found.extend(Uid::new(uid).map(|uid| (uid, row)));
                Ok(true)
            })?;
        }
        Ok(found)
    }

    pub(super) fn change_flags(&mut self, change: &FlagChange) -> Refusable {
        let id = change.mailbox.get();
        let Some(row) = self.row(id) else {
            return Ok(Err(ApplyError::NoSuchMailbox));
        };
        // What is taken away need not be in the table first.
        let names = match change.mode {
            FlagMode::Remove => known_only(row, &change.flags),
            FlagMode::Add | FlagMode::Replace => change.flags.clone(),
        };
        let (wanted, new_keywords) = match Self::flags_of(row, &names) {
            Ok(flags) => flags,
            Err(refused) => return Ok(Err(refused)),
        };
        let modseq = row.highest_modseq + 1;
        let limit = change.unchanged_since.unwrap_or(u64::MAX);
        let mut modified = UidSet::new();
        let mut messages = Vec::new();
        let mut changed = Vec::new();
        let mut counts = Counts::default();
        for (uid, mut message) in self.select(id, Some(&change.uids))? {
            if message.modseq > limit {
                modified.insert(uid);
                continue;
            }
            let flags = match change.mode {
                FlagMode::Add => message.flags | wanted,
                FlagMode::Remove => message.flags & !wanted,
                FlagMode::Replace => wanted,
            };
            if flags != message.flags {
                counts.leave(&message);
                message = MessageRow {
                    flags,
                    modseq,
                    ..message
                };
                counts.enter(&message);
                self.tables.messages.insert((id, uid.get()), &message)?;
                changed.push(state(uid, &message));
            }
            messages.push(state(uid, &message));
        }
        let any = !changed.is_empty() || !new_keywords.is_empty();
        let Some(row) = self.row_mut(id) else {
            return Ok(Err(ApplyError::NoSuchMailbox));
        };
        row.keywords.extend(new_keywords.iter().cloned());
        counts.apply(row);
        if !changed.is_empty() {
            row.highest_modseq = modseq;
        }
        let keywords = row.keywords.clone();
        let behind = row.highest_modseq;
        let told = (!changed.is_empty()).then_some(modseq);
        if any {
            let flags_changed = changed;
            let change = Change {
                modseq: behind,
                new_keywords,
                flags_changed,
                ..Change::default()
            };
            self.tell(id, change);
        }
        Ok(Ok(Applied::FlagsChanged {
            modseq: told,
            messages,
            modified,
            keywords,
        }))
    }

    pub(super) fn expunge(&mut self, expunge: &Expunge) -> Refusable {
        let id = expunge.mailbox.get();
        if self.row(id).is_none() {
            return Ok(Err(ApplyError::NoSuchMailbox));
        }
        let mut messages = self.select(id, expunge.uids.as_ref())?;
        if expunge.only_deleted {
            messages.retain(|(_, message)| message.flags.has(SystemFlag::Deleted));
        }
        let uids: UidSet = messages.iter().map(|(uid, _)| *uid).collect();
        let modseq = self.remove(id, &messages)?;
        Ok(Ok(Applied::Expunged { uids, modseq }))
    }

    /// Takes messages out of a mailbox and answers its MODSEQ behind that.
    fn remove(&mut self, id: u64, messages: &[(Uid, MessageRow)]) -> Result<u64, StoreError> {
        let mut counts = Counts::default();
        let Some(row) = self.row_mut(id) else {
            return Ok(0);
        };
        if messages.is_empty() {
            return Ok(row.highest_modseq);
        }
        row.highest_modseq += 1;
        let modseq = row.highest_modseq;
        for (uid, message) in messages {
            counts.leave(message);
            self.tables.messages.remove((id, uid.get()))?;
            self.release(message.email)?;
            self.state.counters.used_bytes =
                self.state.counters.used_bytes.saturating_sub(message.size);
            self.state.counters.used_messages = self.state.counters.used_messages.saturating_sub(1);
        }
        if let Some(row) = self.row_mut(id) {
            counts.apply(row);
        }
        let expunged = messages.iter().map(|(uid, _)| *uid).collect();
        self.tell(
            id,
            Change {
                modseq,
                expunged,
                ..Change::default()
            },
        );
        Ok(modseq)
    }

    /// One mailbox less has the email; with the last one it goes.
    fn release(&mut self, email: u64) -> Result<(), StoreError> {
        let Some(mut row) = self.email(email)? else {
            return Ok(());
        };
        if row.references > 1 {
            row.references -= 1;
            self.tables.emails.insert(email_key(email), &row)?;
        } else {
            self.tables.emails.remove(email_key(email))?;
            self.tables.summaries.remove(email)?;
        }
        Ok(())
    }

    fn email(&mut self, email: u64) -> Result<Option<EmailRow>, StoreError> {
        self.tables.emails.get(email_key(email))
    }

    pub(super) fn copy(&mut self, copy: &CopyMail) -> Refusable {
        let source = copy.mailbox.get();
        let target = self.state.find(&Target::Name(copy.target.clone()));
        let (Some(from), Some(target)) = (self.row(source), target) else {
            return Ok(Err(ApplyError::NoSuchMailbox));
        };
        let source_keywords = from.keywords.clone();
        let messages = self.select(source, Some(&copy.uids))?;
        let Some(into) = self.row(target) else {
            return Ok(Err(ApplyError::NoSuchMailbox));
        };
        // A move frees what it takes.
        let more = messages.iter().map(|(_, message)| message.size).sum();
        if !copy.remove
            && let Err(refused) = self.state.check_quota(more, copy.quota)
        {
            return Ok(Err(refused));
        }
        let used = messages
            .iter()
            .fold(Flags::NONE, |all, (_, message)| all | message.flags);
        let names = names_of(used, &source_keywords);
        let new_keywords = match Self::flags_of(into, &names) {
            Ok((_, new)) => new,
            Err(refused) => return Ok(Err(refused)),
        };
        let room = u64::from(u32::MAX - into.uid_next);
        if (messages.len() as u64) >= room {
            return Ok(Err(ApplyError::UidsUsedUp));
        }
        let uid_validity = into.uid_validity;
        let (appended, modseq) =
            self.append_copies(target, &messages, &source_keywords, new_keywords)?;
        let source_uids: UidSet = messages.iter().map(|(uid, _)| *uid).collect();
        if copy.remove {
            self.remove(source, &messages)?;
        }
        Ok(Ok(Applied::Copied {
            mailbox: target.into(),
            uid_validity,
            source: source_uids,
            target: appended,
            modseq,
        }))
    }

    fn append_copies(
        &mut self,
        target: u64,
        messages: &[(Uid, MessageRow)],
        source_keywords: &[String],
        new_keywords: Vec<String>,
    ) -> Result<(UidSet, u64), StoreError> {
        let claimed = self.hub.claims_recent(target.into());
        let Some(row) = self.row_mut(target) else {
            return Ok((UidSet::new(), 0));
        };
        row.keywords.extend(new_keywords.iter().cloned());
        if messages.is_empty() {
            return Ok((UidSet::new(), row.highest_modseq));
        }
        row.highest_modseq += 1;
        let modseq = row.highest_modseq;
        let mut next = row.uid_next;
        let row = row.clone();
        let mut counts = Counts::default();
        let mut appended = Vec::with_capacity(messages.len());
        for (_, message) in messages {
            let names = names_of(message.flags, source_keywords);
            let (flags, _) = Self::flags_of(&row, &names).unwrap_or_default();
            let copy = MessageRow {
                flags,
                modseq,
                save_date: self.now,
                ..*message
            };
            counts.enter(&copy);
            self.tables.messages.insert((target, next), &copy)?;
            if let Some(mut email) = self.email(copy.email)? {
                email.references += 1;
                self.tables.emails.insert(email_key(copy.email), &email)?;
            }
            self.state.counters.used_bytes += copy.size;
            self.state.counters.used_messages += 1;
            appended.extend(Uid::new(next).map(|uid| state(uid, &copy)));
            next += 1;
        }
        if let Some(row) = self.row_mut(target) {
            row.uid_next = next;
            if claimed {
                row.recent_from = next;
            }
            counts.apply(row);
        }
        let uids = appended.iter().map(|message| message.uid).collect();
        self.tell(
            target,
            Change {
                modseq,
                new_keywords,
                appended,
                ..Change::default()
            },
        );
        Ok((uids, modseq))
    }
}

fn state(uid: Uid, message: &MessageRow) -> MessageState {
    MessageState {
        uid,
        flags: message.flags,
        modseq: message.modseq,
        size: message.size,
    }
}

fn known_only(row: &MailboxRow, names: &FlagNames) -> FlagNames {
    let is_known = |name: &&String| {
        row.keywords
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name))
    };
    let keywords = names.keywords.iter().filter(is_known).cloned().collect();
    FlagNames {
        system: names.system,
        keywords,
    }
}

fn names_of(flags: Flags, keywords: &[String]) -> FlagNames {
    let system = SystemFlag::ALL
        .into_iter()
        .fold(Flags::NONE, |all, flag| all | flag.into());
    let keywords = flags
        .keywords()
        .filter_map(|at| keywords.get(at).cloned())
        .collect();
    FlagNames {
        system: flags & system,
        keywords,
    }
}

/// What a mailbox's counters change by.
#[derive(Default)]
struct Counts {
    messages: i64,
    unseen: i64,
    deleted: i64,
    size: i64,
}

impl Counts {
    fn enter(&mut self, message: &MessageRow) {
        self.count(message, 1);
    }

    fn leave(&mut self, message: &MessageRow) {
        self.count(message, -1);
    }

    fn count(&mut self, message: &MessageRow, by: i64) {
        self.messages += by;
        self.unseen += by * i64::from(!message.flags.has(SystemFlag::Seen));
        self.deleted += by * i64::from(message.flags.has(SystemFlag::Deleted));
        self.size += by * i64::try_from(message.size).unwrap_or(i64::MAX);
    }

    fn apply(&self, row: &mut MailboxRow) {
        let add = |count: u32, by: i64| {
            u32::try_from(i64::from(count) + by).unwrap_or(if by < 0 { 0 } else { u32::MAX })
        };
        row.messages = add(row.messages, self.messages);
        row.unseen = add(row.unseen, self.unseen);
        row.deleted = add(row.deleted, self.deleted);
        row.size = row.size.saturating_add_signed(self.size);
    }
}
