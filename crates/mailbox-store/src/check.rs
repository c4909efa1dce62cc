//! Is all there that the index says, and is it what was written?

mod index;
pub(crate) mod records;

pub(crate) use index::{Emails, Sums};
pub(crate) use records::Damaged;

use crate::account::Account;
use crate::maintain::{Finding, Observer, Report, Told, Totals};
use crate::snapshot::IndexCopy;
use crate::{StoreError, account};

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
        let mut problems = Vec::new();
        let mut observer = |report| {
            if let Report::Found(Finding::Wrong(what)) = report {
                problems.push(what);
            }
            true
        };
        let totals = self.check_with(&mut observer)?;
        Ok(CheckReport {
            messages: totals.messages,
            emails: totals.emails,
            problems,
        })
    }

    /// The same, told while it goes on. The account can be used meanwhile: what is looked at is its
    /// state at the beginning.
    pub fn check_with(&self, observer: &mut Observer<'_>) -> Result<Totals, StoreError> {
        let mut told = Told::new(observer);
        // From here on its own files have all of it.
        self.checkpoint()?;
        let txn = self.index.read()?;
        let (state, segment, end) = account::load(&txn)?;
        let (totals, emails) = index::check(&txn, &state, &mut told)?;
        if told.is_stopped() {
            return Ok(totals);
        }
        let damaged = records::check(self, &emails, (segment, end), &mut told)?;
        drop(txn);
        for (what, _) in self.name_damaged(&damaged)?.into_values() {
            told.wrong(what);
        }
        IndexCopy::read(self.folder(), |what| told.wrong(what));
        self.check_journal(&mut told);
        Ok(totals)
    }
}
