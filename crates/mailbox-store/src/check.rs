//! Is all there that the index says, and is it what was written?

use std::collections::BTreeMap;

use redb::{ReadableDatabase, ReadableTable};

use crate::StoreError;
use crate::account::Account;
use crate::schema::{EMAILS, EmailRow, MESSAGES, MessageRow, SUMMARIES};

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Messages in mailboxes.
    pub messages: u64,
    /// Contents.
    pub emails: u64,
    /// One sentence for each thing that is wrong.
    pub problems: Vec<String>,
}

impl Account {
    /// Reads all messages and compares them with their checksums and the index with itself.
    pub fn check(&self) -> Result<CheckReport, StoreError> {
        let mut report = CheckReport::default();
        let txn = self.db.begin_read()?;
        let state = self.state();
        let mut references: BTreeMap<u64, u32> = BTreeMap::new();
        let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
        for entry in txn.open_table(MESSAGES)?.iter()? {
            let (key, value) = entry?;
            let row = MessageRow::decode(value.value())?;
            report.messages += 1;
            *references.entry(row.email).or_default() += 1;
            *counts.entry(key.value().0).or_default() += 1;
        }
        for (id, row) in &state.mailboxes {
            let found = counts.remove(id).unwrap_or(0);
            if found != row.messages {
                let told = row.messages;
                let name = &row.name;
                report
                    .problems
                    .push(format!("{name} has {found} messages, not {told}"));
            }
        }
        for id in counts.keys() {
            report
                .problems
                .push(format!("messages of mailbox {id}, which is not there"));
        }
        let summaries = txn.open_table(SUMMARIES)?;
        for entry in txn.open_table(EMAILS)?.iter()? {
            let (key, value) = entry?;
            let (email, row) = (key.value(), EmailRow::decode(value.value())?);
            report.emails += 1;
            let found = references.remove(&email).unwrap_or(0);
            if found != row.references {
                let told = row.references;
                report
                    .problems
                    .push(format!("email {email} is in {found} places, not {told}"));
            }
            if summaries.get(email)?.is_none() {
                report
                    .problems
                    .push(format!("email {email} has no summary"));
            }
            if let Err(error) = self.segments.read_checked(row.location) {
                report.problems.push(format!("email {email}: {error}"));
            }
        }
        for email in references.keys() {
            report
                .problems
                .push(format!("email {email} is in a mailbox, but not stored"));
        }
        Ok(report)
    }
}
