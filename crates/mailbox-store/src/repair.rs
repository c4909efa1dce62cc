//! Mending what can be mended without loss: what one part of an account tells of another.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use mail_types::{Uid, UidSet};
use redb::{ReadableTable, WriteTransaction};

use crate::account::{Account, load};
use crate::check::{Damaged, Emails, Sums, records};
use crate::maintain::{Observer, Told, Totals};
use crate::operation::Expunge;
use crate::packed::{self, Packed};
use crate::schema::{
    DELIVERED_AT, DELIVERIES, EMAILS, EmailRow, MAILBOXES, MESSAGES, META, MailboxRow, MessageRow,
    SUMMARIES, SpecialUse, decode_summary, email_key, email_of, encode_summary, meta,
};
use crate::{Operation, StoreError, Target};

/// What was found in the table of messages.
#[derive(Default)]
struct Found {
    sums: BTreeMap<u64, Sums>,
    references: HashMap<u64, u32>,
    bytes: u64,
    messages: u64,
    /// Messages whose content is not in the index.
    lost: Vec<(u64, u32)>,
}

impl Account {
    /// Mends the index. With `drop_damaged` messages whose content is damaged leave their
    /// mailboxes. Writers wait meanwhile. `now` is Unix time in seconds.
    pub(crate) fn repair(
        &self,
        drop_damaged: bool,
        now: i64,
        observer: &mut Observer<'_>,
    ) -> Result<Totals, StoreError> {
        let mut told = Told::new(observer);
        self.checkpoint()?;
        let damaged = self.find_damaged(&mut told)?;
        let named = self.name_damaged(&damaged)?;
        for (what, _) in named.values() {
            if drop_damaged {
                told.lost(what.clone());
            } else {
                told.wrong(format!(
                    "{what}; --drop-damaged takes it out of its mailbox"
                ));
            }
        }
        if drop_damaged {
            self.drop_messages(named.into_values().flat_map(|(_, places)| places), now)?;
        }
        self.rewrite(|txn| {
            let damaged: BTreeSet<u64> = damaged.keys().copied().collect();
            let mut mender = Mender {
                account: self,
                txn,
                told: &mut told,
                drop_damaged,
                damaged,
                is_changed: false,
            };
            let totals = mender.run(now)?;
            Ok((totals, mender.is_changed))
        })
    }

    fn find_damaged(&self, told: &mut Told<'_, '_>) -> Result<Damaged, StoreError> {
        let txn = self.index.read()?;
        let (_, segment, end) = load(&txn)?;
        let mut emails = Emails::new();
        packed::each_of_all(&txn.open_table(EMAILS)?, |high, low, row| {
            emails.insert(email_of((high, low)), row);
            Ok(())
        })?;
        records::check(self, &emails, (segment, end), told)
    }

    fn drop_messages(
        &self,
        places: impl Iterator<Item = (String, Uid)>,
        now: i64,
    ) -> Result<(), StoreError> {
        let mut by_mailbox: BTreeMap<String, UidSet> = BTreeMap::new();
        for (name, uid) in places {
            by_mailbox.entry(name).or_default().insert(uid);
        }
        for (name, uids) in by_mailbox {
            let target = name.parse().ok().map(Target::Name);
            let Some(status) = target.and_then(|target| self.status(&target)) else {
                continue;
            };
            let expunge = Expunge {
                mailbox: status.id,
                uids: Some(uids),
                only_deleted: false,
            };
            self.apply(Operation::Expunge(expunge), now)
                .map_err(|error| StoreError::shared(&error))?
                .map_err(|refused| StoreError::Engine(refused.to_string()))?;
        }
        Ok(())
    }
}

struct Mender<'m, 'a, 'b> {
    account: &'m Account,
    txn: &'m WriteTransaction,
    told: &'m mut Told<'a, 'b>,
    drop_damaged: bool,
    damaged: BTreeSet<u64>,
    is_changed: bool,
}

impl Mender<'_, '_, '_> {
    fn mended(&mut self, what: String) {
        self.is_changed = true;
        self.told.mended(what);
    }

    fn run(&mut self, now: i64) -> Result<Totals, StoreError> {
        let emails = self.emails()?;
        let found = self.messages(&emails)?;
        self.drop_lost(&found)?;
        self.mailboxes(&found, now)?;
        self.references(&emails, &found)?;
        self.summaries(&emails)?;
        self.keys()?;
        let last_email = emails.keys().next_back().copied().unwrap_or(0);
        self.counters(&found, last_email)?;
        Ok(Totals {
            messages: found.messages,
            emails: found.references.len() as u64,
            mailboxes: self.txn.open_table(MAILBOXES)?.iter()?.count(),
        })
    }

    fn emails(&self) -> Result<Emails, StoreError> {
        let mut emails = Emails::new();
        packed::each_of_all(&self.txn.open_table(EMAILS)?, |high, low, row| {
            emails.insert(email_of((high, low)), row);
            Ok(())
        })?;
        Ok(emails)
    }

    fn messages(&self, emails: &Emails) -> Result<Found, StoreError> {
        let mut found = Found::default();
        let drop_damaged = self.drop_damaged;
        let each = |mailbox, uid, row: MessageRow| {
            let is_lost = !emails.contains_key(&row.email);
            if is_lost {
                found.lost.push((mailbox, uid));
                if drop_damaged {
                    return Ok(());
                }
            }
            found.sums.entry(mailbox).or_default().add(uid, &row);
            *found.references.entry(row.email).or_default() += 1;
            found.bytes += row.size;
            found.messages += 1;
            Ok(())
        };
        packed::each_of_all(&self.txn.open_table(MESSAGES)?, each)?;
        Ok(found)
    }

    fn drop_lost(&mut self, found: &Found) -> Result<(), StoreError> {
        let mut messages = Packed::<MessageRow>::new(self.txn.open_table(MESSAGES)?);
        for (mailbox, uid) in &found.lost {
            let what = format!("UID {uid} of mailbox {mailbox}: the index knows no content of it");
            if self.drop_damaged {
                messages.remove((*mailbox, *uid))?;
                self.is_changed = true;
                self.told.lost(what);
            } else {
                self.told.wrong(format!(
                    "{what}; `correo store rebuild` reads it from its segment"
                ));
            }
        }
        messages.flush()
    }

    fn mailboxes(&mut self, found: &Found, now: i64) -> Result<(), StoreError> {
        let mut table = self.txn.open_table(MAILBOXES)?;
        let mut rows: BTreeMap<u64, MailboxRow> = BTreeMap::new();
        for entry in table.iter()? {
            let (key, value) = entry?;
            rows.insert(key.value(), MailboxRow::decode(value.value())?);
        }
        let mut names = BTreeSet::new();
        for (id, row) in &mut rows {
            let old = row.name.clone();
            while !names.insert(row.name.clone()) {
                row.name.push('_');
            }
            if row.name != old {
                let new = &row.name;
                self.mended(format!("one of two mailboxes {old} is {new} now"));
                table.insert(*id, row.encode().as_slice())?;
            }
        }
        for id in found.sums.keys() {
            if rows.contains_key(id) {
                continue;
            }
            let name = format!("Recovered {id}");
            self.mended(format!(
                "messages of mailbox {id}, which was lost, are in {name}"
            ));
            rows.insert(*id, recovered(name, now));
        }
        let dropped: BTreeSet<u64> = found.lost.iter().map(|(mailbox, _)| *mailbox).collect();
        for (id, mut row) in rows {
            let sums = found.sums.get(&id).copied().unwrap_or_default();
            let differences = sums.differences(&row);
            let is_less = self.drop_damaged && dropped.contains(&id);
            if differences.is_empty() && !is_less {
                continue;
            }
            // Clients that know the mailbox have to see that something happened.
            row.highest_modseq += u64::from(is_less);
            for what in differences {
                self.mended(what);
            }
            (row.messages, row.unseen, row.deleted) = (sums.messages, sums.unseen, sums.deleted);
            row.size = sums.size;
            row.uid_next = row.uid_next.max(sums.last_uid.saturating_add(1));
            row.highest_modseq = row.highest_modseq.max(sums.last_modseq);
            table.insert(id, row.encode().as_slice())?;
        }
        Ok(())
    }

    fn references(&mut self, emails: &Emails, found: &Found) -> Result<(), StoreError> {
        let mut table = Packed::<EmailRow>::new(self.txn.open_table(EMAILS)?);
        let mut summaries = self.txn.open_table(SUMMARIES)?;
        for (email, row) in emails {
            let is = found.references.get(email).copied().unwrap_or(0);
            if is == row.references {
                continue;
            }
            let told_of = row.references;
            let what = format!("email {email} is in {is} places, not {told_of}");
            self.mended(what);
            if is == 0 {
                table.remove(email_key(*email))?;
                summaries.remove(email)?;
            } else {
                let row = EmailRow {
                    references: is,
                    ..*row
                };
                table.insert(email_key(*email), &row)?;
            }
        }
        table.flush()
    }

    /// Renders anew what is not as the message says.
    fn summaries(&mut self, emails: &Emails) -> Result<(), StoreError> {
        let mut table = self.txn.open_table(SUMMARIES)?;
        for (email, row) in emails {
            if self.damaged.contains(email) {
                continue;
            }
            let Ok(content) = self.account.segments.read_checked(row.location) else {
                continue;
            };
            let summary = encode_summary(&mail_message::summarize(&content));
            let is_right = table.get(email)?.is_some_and(|old| {
                old.value() == summary.as_slice() && decode_summary(old.value()).is_ok()
            });
            if !is_right {
                table.insert(email, summary.as_slice())?;
                self.mended(format!("email {email}: its summary is rendered anew"));
            }
        }
        Ok(())
    }

    /// What was delivered, by key and by time.
    fn keys(&mut self) -> Result<(), StoreError> {
        let by_key = self.txn.open_table(DELIVERIES)?;
        let mut by_time = self.txn.open_table(DELIVERED_AT)?;
        let mut wanted = BTreeSet::new();
        for entry in by_key.iter()? {
            let (key, time) = entry?;
            let (queue_id, index) = key.value();
            wanted.insert((time.value(), queue_id, index));
        }
        let mut there = BTreeSet::new();
        for entry in by_time.iter()? {
            there.insert(entry?.0.value());
        }
        for key in there.difference(&wanted) {
            by_time.remove(*key)?;
        }
        for key in wanted.difference(&there) {
            by_time.insert(*key, ())?;
        }
        let changed = wanted.symmetric_difference(&there).count();
        if changed > 0 {
            self.mended(format!(
                "{changed} delivery keys are the same by key and time"
            ));
        }
        Ok(())
    }

    fn counters(&mut self, found: &Found, last_email: u64) -> Result<(), StoreError> {
        let mut uid_validity = 0;
        let mut last_mailbox = 0;
        for entry in self.txn.open_table(MAILBOXES)?.iter()? {
            let (key, value) = entry?;
            last_mailbox = last_mailbox.max(key.value());
            uid_validity = uid_validity.max(MailboxRow::decode(value.value())?.uid_validity);
        }
        let mut table = self.txn.open_table(META)?;
        let exact = [
            (meta::USED_BYTES, found.bytes),
            (meta::USED_MESSAGES, found.messages),
        ];
        let at_least = [
            (meta::NEXT_EMAIL, last_email + 1),
            (meta::NEXT_MAILBOX, last_mailbox + 1),
            (meta::UID_VALIDITY, uid_validity.into()),
        ];
        for (name, value) in exact {
            let old = table.get(name)?.map_or(0, |old| old.value());
            if old != value {
                table.insert(name, value)?;
                self.mended(format!("{name} was {old}, is {value}"));
            }
        }
        for (name, least) in at_least {
            let old = table.get(name)?.map_or(0, |old| old.value());
            if old < least {
                table.insert(name, least)?;
                self.mended(format!("{name} was {old}, is {least}"));
            }
        }
        Ok(())
    }
}

/// Its UIDVALIDITY is one that no client knows.
fn recovered(name: String, now: i64) -> MailboxRow {
    MailboxRow::empty(name, SpecialUse::None, u32::try_from(now).unwrap_or(1))
}
