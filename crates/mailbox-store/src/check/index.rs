//! The index compared with itself.

use std::collections::{BTreeMap, HashMap};

use mail_types::SystemFlag;
use redb::{ReadTransaction, ReadableTable};

use crate::StoreError;
use crate::account::State;
use crate::maintain::{Told, Totals};
use crate::packed;
use crate::schema::{
    DELIVERED_AT, DELIVERIES, EMAILS, EmailRow, MESSAGES, MailboxRow, MessageRow, SUMMARIES,
    decode_summary, email_of,
};

/// Emails by number.
pub(crate) type Emails = BTreeMap<u64, EmailRow>;

/// What a mailbox's row should say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) messages: u32,
    pub(crate) unseen: u32,
    pub(crate) deleted: u32,
    pub(crate) size: u64,
    pub(crate) last_uid: u32,
    pub(crate) last_modseq: u64,
}

impl Sums {
    pub(crate) fn add(&mut self, uid: u32, row: &MessageRow) {
        self.messages += 1;
        self.unseen += u32::from(!row.flags.has(SystemFlag::Seen));
        self.deleted += u32::from(row.flags.has(SystemFlag::Deleted));
        self.size += row.size;
        self.last_uid = self.last_uid.max(uid);
        self.last_modseq = self.last_modseq.max(row.modseq);
    }

    /// What is not as the row says.
    pub(crate) fn differences(&self, row: &MailboxRow) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |what, is: u64, told: u64| {
            if is != told {
                found.push(format!(
                    "{}: {what} is {is}, the index says {told}",
                    row.name
                ));
            }
        };
        compare(
            "the number of messages",
            self.messages.into(),
            row.messages.into(),
        );
        compare(
            "the number of unseen messages",
            self.unseen.into(),
            row.unseen.into(),
        );
        compare(
            "the number of deleted messages",
            self.deleted.into(),
            row.deleted.into(),
        );
        compare("the sum of octets", self.size, row.size);
        if self.last_uid >= row.uid_next {
            let (last, next) = (self.last_uid, row.uid_next);
            found.push(format!(
                "{}: UIDNEXT is {next}, UID {last} is there",
                row.name
            ));
        }
        if self.last_modseq > row.highest_modseq {
            let (last, highest) = (self.last_modseq, row.highest_modseq);
            let name = &row.name;
            found.push(format!(
                "{name}: HIGHESTMODSEQ is {highest}, a message has {last}"
            ));
        }
        found
    }
}

pub(crate) fn check(
    txn: &ReadTransaction,
    state: &State,
    told: &mut Told<'_, '_>,
) -> Result<(Totals, Emails), StoreError> {
    let mut references: HashMap<u64, u32> = HashMap::new();
    let mut sums: BTreeMap<u64, Sums> = BTreeMap::new();
    let mut totals = Totals {
        mailboxes: state.mailboxes.len(),
        ..Totals::default()
    };
    let mut sizes: HashMap<u64, u64> = HashMap::new();
    let mut bytes = 0;
    let each = |mailbox, uid, row: MessageRow| {
        totals.messages += 1;
        bytes += row.size;
        *references.entry(row.email).or_default() += 1;
        sizes.insert(row.email, row.size);
        sums.entry(mailbox).or_default().add(uid, &row);
        Ok(())
    };
    packed::each_of_all(&txn.open_table(MESSAGES)?, each)?;
    check_mailboxes(state, &sums, told);
    let counters = state.counters;
    if (bytes, totals.messages) != (counters.used_bytes, counters.used_messages) {
        let (used, count) = (counters.used_bytes, counters.used_messages);
        let found = totals.messages;
        told.wrong(format!(
            "the account has {found} messages of {bytes} octets, its quota counts {count} of {used}"
        ));
    }
    let emails = check_emails(txn, state, &mut references, &sizes, told)?;
    totals.emails = emails.len() as u64;
    for email in references.keys() {
        told.wrong(format!("email {email} is in a mailbox, but not stored"));
    }
    check_keys(txn, told)?;
    Ok((totals, emails))
}

fn check_mailboxes(state: &State, sums: &BTreeMap<u64, Sums>, told: &mut Told<'_, '_>) {
    for (id, row) in state.mailboxes.iter() {
        let found = sums.get(id).copied().unwrap_or_default();
        for what in found.differences(row) {
            told.wrong(what);
        }
        if u64::from(row.uid_validity) > state.counters.uid_validity {
            let name = &row.name;
            told.wrong(format!(
                "{name}: its UIDVALIDITY may be given to another mailbox"
            ));
        }
        if state.names.get(&row.name) != Some(id) {
            told.wrong(format!("two mailboxes have the name {}", row.name));
        }
        if *id >= state.counters.next_mailbox {
            told.wrong(format!("{}: its id may be given again", row.name));
        }
    }
    for id in sums.keys().filter(|id| !state.mailboxes.contains_key(id)) {
        told.wrong(format!("messages of mailbox {id}, which is not there"));
    }
}

fn check_emails(
    txn: &ReadTransaction,
    state: &State,
    references: &mut HashMap<u64, u32>,
    sizes: &HashMap<u64, u64>,
    told: &mut Told<'_, '_>,
) -> Result<Emails, StoreError> {
    let summaries = txn.open_table(SUMMARIES)?;
    let mut emails = Emails::new();
    packed::each_of_all(&txn.open_table(EMAILS)?, |high, low, row: EmailRow| {
        let email = email_of((high, low));
        let found = references.remove(&email).unwrap_or(0);
        if found != row.references {
            let told_of = row.references;
            told.wrong(format!("email {email} is in {found} places, not {told_of}"));
        }
        let size = sizes.get(&email).copied();
        if size.is_some_and(|size| size != row.location.content_len) {
            told.wrong(format!("email {email} has another size than its messages"));
        }
        match summaries
            .get(email)?
            .map(|one| decode_summary(one.value()).map(|_| ()))
        {
            Some(Ok(())) => {}
            Some(Err(error)) => told.wrong(format!("email {email}: {error}")),
            None => told.wrong(format!("email {email} has no summary")),
        }
        if email >= state.counters.next_email {
            told.wrong(format!("email {email}: its number may be given again"));
        }
        emails.insert(email, row);
        Ok(())
    })?;
    Ok(emails)
}

/// The keys of deliveries, by key and by time.
fn check_keys(txn: &ReadTransaction, told: &mut Told<'_, '_>) -> Result<(), StoreError> {
    let by_key = txn.open_table(DELIVERIES)?;
    let by_time = txn.open_table(DELIVERED_AT)?;
    let mut count = 0_u64;
    for entry in by_time.iter()? {
        let (time, queue_id, index) = entry?.0.value();
        let known = by_key.get((queue_id, index))?.map(|time| time.value());
        if known == Some(time) {
            count += 1;
        } else {
            told.wrong(format!(
                "delivery key {queue_id}/{index} is there by time only"
            ));
        }
    }
    let all = redb::ReadableTableMetadata::len(&by_key)?;
    if all != count {
        let lost = all - count.min(all);
        told.wrong(format!("{lost} delivery keys are not there by time"));
    }
    Ok(())
}
