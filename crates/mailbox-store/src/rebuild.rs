//! An index made anew from the segments.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use mail_types::AccountId;
use redb::Database;

use crate::StoreError;
use crate::account::{State, load};
use crate::change::Hub;
use crate::scan::{Found, Records};
use crate::schema::account_of;
use crate::segment::{Appender, Location, segment_path, sync_folder};
use crate::store::Options;
use crate::write::{Batch, defaults};

/// Messages that one transaction puts into the index: it keeps what it writes in memory.
const BATCH: usize = 1000;

/// What was found when an index was made anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RebuildReport {
    /// Messages in the new index.
    pub messages: u64,
    /// One sentence for each thing that is lost.
    pub problems: Vec<String>,
}

/// Puts a new index in the old one's place.
pub(crate) fn rebuild_index(
    id: AccountId,
    folder: &Path,
    options: &Options,
    now: i64,
) -> Result<RebuildReport, StoreError> {
    let failed = |error| StoreError::io(folder, error);
    let new = folder.join("index.new");
    if new.exists() {
        fs::remove_file(&new).map_err(failed)?;
    }
    let mut report = RebuildReport::default();
    {
        let db = Database::builder()
            .set_cache_size(options.index_cache)
            .create(&new)?;
        defaults(&db, now)?;
        let (state, ..) = load(&db)?;
        let mut rebuild = Rebuild {
            id,
            db,
            state,
            report: &mut report,
            now,
        };
        rebuild.run(&folder.join("segments"), options)?;
    }
    fs::rename(&new, folder.join("index.redb")).map_err(failed)?;
    sync_folder(folder)?;
    Ok(report)
}

struct Rebuild<'a> {
    id: AccountId,
    db: Database,
    state: State,
    report: &'a mut RebuildReport,
    now: i64,
}

impl Rebuild<'_> {
    fn run(&mut self, segments: &Path, options: &Options) -> Result<(), StoreError> {
        let mut number = 1;
        let mut end = 0;
        while segment_path(segments, number).exists() {
            end = self.segment(segments, number, options)?;
            number += 1;
        }
        // The last batch was empty; it tells the index how long the last segment is.
        let last = (number - 1).max(1);
        let mut appender = Appender::open(segments, last, end, options.segment_size)?;
        self.put(&mut appender, Vec::new())
    }

    /// Returns the segment's length.
    fn segment(
        &mut self,
        segments: &Path,
        number: u32,
        options: &Options,
    ) -> Result<u64, StoreError> {
        let path = segment_path(segments, number);
        let records = Records::open(&path)?;
        let mut appender = Appender::open(segments, number, records.len(), options.segment_size)?;
        let mut offset = 0;
        let mut batch = Vec::new();
        while offset < records.len() {
            let found = records.at(offset)?;
            let is_ours = |found: &Found| account_of(found.header.email_id) == self.id;
            let Some(mut found) = found.filter(is_ours) else {
                let next = records.next_mark(offset + 1)?;
                let next = next.unwrap_or(records.len());
                let what = format!("{}: damage from {offset} to {next}", path.display());
                self.report.problems.push(what);
                offset = next;
                continue;
            };
            offset = found.end();
            found.location.segment = number;
            if found.content.is_none() {
                let (at, header) = (found.location.offset, &found.header);
                let (uid, mailbox) = (header.uid, &header.mailbox);
                let path = path.display();
                let what = format!("{path}: message {uid} of {mailbox} at {at} is damaged");
                self.report.problems.push(what);
                // What is behind it may be whole even if its length is not to be trusted.
                if offset > records.len() {
                    offset = records
                        .next_mark(found.location.offset + 1)?
                        .unwrap_or(records.len());
                }
                continue;
            }
            batch.push(found);
            if batch.len() >= BATCH {
                self.put(&mut appender, std::mem::take(&mut batch))?;
            }
        }
        self.put(&mut appender, batch)?;
        Ok(records.len())
    }

    fn put(&mut self, appender: &mut Appender, found: Vec<Found>) -> Result<(), StoreError> {
        let hub = Hub::default();
        let txn = self.db.begin_write()?;
        let mut batch = Batch::begin(&txn, self.id.get(), &self.state, appender, &hub, self.now)?;
        for record in found {
            let Some(content) = record.content else {
                continue;
            };
            let header = record.header;
            batch.ensure_mailbox(header.mailbox_id.get(), &header.mailbox);
            let location: Location = record.location;
            if batch.restore(&header, Bytes::from(content), Some(location))? {
                self.report.messages += 1;
            }
        }
        self.state = batch.finish()?.state;
        txn.commit()?;
        Ok(())
    }
}
