//! An index made anew: from the last copy of what only an index knows, the segments, and what the
//! journal has.

mod source;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use mail_types::{AccountId, Flags, SystemFlag, Uid};
use redb::ReadableDatabase;

use crate::StoreError;
use crate::account::{State, load};
use crate::change::Hub;
use crate::disk::{make_folder, sync_folder};
use crate::index_file::{OpenIndex, open_index};
use crate::journal::Journal;
use crate::maintain::{Observer, Told, Totals};
use crate::record::RecordHeader;
use crate::redo::is_operation;
use crate::scan::{Found, Records};
use crate::schema::{MessageRow, account_of, number_of};
use crate::segment::{Appender, Location, numbers, segment_path};
use crate::snapshot::Place;
use crate::store::Options;
use crate::write::{Batch, defaults};
use source::Source;

/// Messages that one transaction puts into the index: it keeps what it writes in memory.
const BATCH: usize = 1000;
/// And octets, of their contents.
const BATCH_OCTETS: usize = 64 * 1024 * 1024;
/// So far the UIDs and MODSEQs of a mailbox may have grown behind its snapshot: more than
/// copies and changes can have used up by the next one, and nothing to 32 and 64 bits.
const MARGIN: u32 = 1 << 20;

/// Which account, and what belongs to it.
pub(crate) struct Rebuilt<'a> {
    pub(crate) id: AccountId,
    pub(crate) folder: &'a Path,
    pub(crate) options: &'a Options,
    pub(crate) journal: &'a Journal,
    pub(crate) now: i64,
    /// The index that is there is not looked at.
    pub(crate) ignore_index: bool,
}

/// Puts a new index in the old one's place, which is `index.old` then.
pub(crate) fn rebuild_index(
    account: &Rebuilt<'_>,
    observer: &mut Observer<'_>,
) -> Result<Totals, StoreError> {
    let mut told = Told::new(observer);
    let folder = account.folder;
    let failed = |error| StoreError::io(folder, error);
    let disk = &*account.options.disk;
    let source = Source::find(account, &mut told)?;
    let new = folder.join("index.new");
    if new.exists() {
        disk.remove_file(&new).map_err(failed)?;
    }
    let totals = {
        let db = open_index(disk, &new, account.options.index_cache)?;
        defaults(&db, account.now)?;
        let (state, ..) = load(&db.begin_read()?)?;
        let mut rebuild = Rebuild {
            account,
            db,
            state,
            places: HashMap::new(),
            source,
            raised: HashMap::new(),
            told: &mut told,
            totals: Totals::default(),
        };
        rebuild.run(&folder.join("segments"))?;
        let Rebuild { db, totals, .. } = rebuild;
        db.close(false)?;
        totals
    };
    let index = folder.join("index.redb");
    if index.exists() {
        disk.rename(&index, &folder.join("index.old"))
            .map_err(failed)?;
    }
    disk.rename(&new, &index).map_err(failed)?;
    sync_folder(disk, folder)?;
    Ok(totals)
}

struct Rebuild<'a, 'b, 'c> {
    account: &'a Rebuilt<'a>,
    db: OpenIndex,
    state: State,
    /// Where the emails that the source knows are.
    places: HashMap<u64, Vec<Place>>,
    source: Source,
    /// Mailboxes whose UIDNEXT and MODSEQ are ahead of the source's already, with that MODSEQ.
    raised: HashMap<u64, u64>,
    told: &'a mut Told<'b, 'c>,
    totals: Totals,
}

/// A record with its octets.
struct Whole {
    header: RecordHeader,
    content: Vec<u8>,
    location: Option<Location>,
}

impl Rebuild<'_, '_, '_> {
    fn run(&mut self, segments: &Path) -> Result<(), StoreError> {
        let disk = &self.account.options.disk;
        make_folder(&**disk, segments)?;
        let numbers = numbers(segments)?;
        let len = |number: &u32| {
            fs::metadata(segment_path(segments, *number)).map_or(0, |metadata| metadata.len())
        };
        self.told.expect(numbers.iter().map(len).sum());
        let last = numbers.last().copied().unwrap_or(1);
        let end = if numbers.is_empty() { 0 } else { len(&last) };
        let max = self.account.options.segment_size;
        let mut appender = Appender::open(disk, segments, last, end, max)?;
        self.begin(&mut appender)?;
        for number in numbers {
            self.segment(&segment_path(segments, number), number, &mut appender)?;
        }
        self.journal(&mut appender)?;
        if !self.source.is_exact() {
            let raised = std::mem::take(&mut self.raised);
            let (journal, id) = (self.account.journal, self.account.id);
            let last = journal.last_operation(id)?;
            self.transact(&mut appender, |batch| {
                batch.raise(MARGIN, &raised);
                // What the journal has of them belongs to another state, whether open or not: it
                // has no higher number, and a new one gets none of these.
                batch.skip_operations(last);
                Ok(())
            })?;
        }
        appender.sync()?;
        self.report_lost();
        self.totals.messages = self.state.counters.used_messages;
        self.totals.mailboxes = self.state.mailboxes.len();
        Ok(())
    }

    /// What the source knows of mailboxes.
    fn begin(&mut self, appender: &mut Appender) -> Result<(), StoreError> {
        let (copy, is_exact) = match &mut self.source {
            Source::Records { .. } => return Ok(()),
            Source::Known { copy, is_exact } => (copy, *is_exact),
        };
        let ahead = &mut self.raised;
        for (id, row) in &mut copy.mailboxes {
            (row.messages, row.unseen, row.deleted, row.size) = (0, 0, 0, 0);
            if !is_exact {
                row.uid_next = row.uid_next.saturating_add(MARGIN);
                row.highest_modseq += u64::from(MARGIN);
                ahead.insert(*id, row.highest_modseq);
            }
        }
        for mut place in std::mem::take(&mut copy.places) {
            // Clients ask for what changed; what they are told of must be newer than all they saw.
            if let Some(modseq) = ahead.get(&place.mailbox) {
                place.row.modseq = *modseq;
            }
            self.places.entry(place.row.email).or_default().push(place);
        }
        let mut counters = copy.counters;
        (counters.used_bytes, counters.used_messages) = (0, 0);
        let mailboxes = std::mem::take(&mut copy.mailboxes);
        let subscriptions = std::mem::take(&mut copy.subscriptions);
        self.transact(appender, |batch| {
            batch.adopt_mailboxes(&mailboxes, &subscriptions, counters)
        })
    }

    fn segment(
        &mut self,
        path: &Path,
        number: u32,
        appender: &mut Appender,
    ) -> Result<(), StoreError> {
        let records = Records::open(path)?;
        let mut offset = 0;
        let mut batch = Vec::new();
        let mut octets = 0;
        while offset < records.len() {
            let (found, next) = self.record_at(&records, offset)?;
            self.told.read(next - offset);
            offset = next;
            let Some(Found {
                header,
                mut location,
                content: Some(content),
            }) = found
            else {
                continue;
            };
            location.segment = number;
            octets += content.len();
            batch.push(Whole {
                header,
                content,
                location: Some(location),
            });
            if batch.len() >= BATCH || octets >= BATCH_OCTETS {
                self.put(appender, std::mem::take(&mut batch))?;
                octets = 0;
            }
        }
        self.put(appender, batch)
    }

    /// A record, unless there is damage instead, and where to go on.
    fn record_at(
        &mut self,
        records: &Records<'_>,
        offset: u64,
    ) -> Result<(Option<Found>, u64), StoreError> {
        let path = records.path().display();
        let found = records.at(offset)?;
        let is_ours = |found: &Found| account_of(found.header.email_id) == self.account.id;
        let Some(found) = found.filter(is_ours) else {
            let next = records.next_from(offset, None)?;
            self.told.wrong(format!(
                "{path}: there is no whole record from {offset} to {next}"
            ));
            return Ok((None, next));
        };
        let end = records.next_from(offset, Some(&found))?;
        if found.content.is_none() {
            let (uid, mailbox) = (found.header.uid, &found.header.mailbox);
            self.told.wrong(format!(
                "{path}: the record at {offset} is damaged; it came as UID {uid} of {mailbox}"
            ));
            if let Source::Records { is_exact: true } = self.source {
                self.told.lost(format!("UID {uid} of {mailbox}"));
            } else if !self.is_known(&found.header) {
                self.told
                    .lost(format!("UID {uid} of {mailbox}, unless it was moved since"));
            }
        }
        Ok((Some(found), end))
    }

    /// Does the source say where that email is, or that it is nowhere?
    fn is_known(&self, header: &RecordHeader) -> bool {
        match &self.source {
            Source::Known { copy, .. } => number_of(header.email_id) < copy.counters.next_email,
            Source::Records { .. } => false,
        }
    }

    fn put(&mut self, appender: &mut Appender, found: Vec<Whole>) -> Result<(), StoreError> {
        let mut placed = 0;
        let plans: Vec<(Whole, Option<Vec<Place>>)> = found
            .into_iter()
            .map(|whole| {
                let email = number_of(whole.header.email_id);
                let known = self.is_known(&whole.header);
                // Left there until all is read: a record can be there twice.
                let places = known.then(|| self.places.get(&email).cloned().unwrap_or_default());
                (whole, places)
            })
            .collect();
        let mut done = Vec::new();
        self.transact(appender, |batch| {
            for (whole, places) in plans {
                let email = number_of(whole.header.email_id);
                let places = match places {
                    Some(places) => places,
                    None => new_place(batch, &whole)?.into_iter().collect(),
                };
                let content = Bytes::from(whole.content);
                if batch.place(&whole.header, &content, whole.location, &places)? {
                    placed += 1;
                    done.push(email);
                }
            }
            Ok(())
        })?;
        for email in done {
            self.places.remove(&email);
        }
        self.totals.emails += placed;
        Ok(())
    }

    /// What the journal has and the segments lack.
    fn journal(&mut self, appender: &mut Appender) -> Result<(), StoreError> {
        let entries = match self.account.journal.entries(self.account.id) {
            Ok(entries) => entries,
            Err(error) => {
                self.told.wrong(format!("the journal: {error}"));
                return Ok(());
            }
        };
        let mut mails = Vec::new();
        for (header, content) in entries {
            if !is_operation(&header) {
                mails.push(Whole {
                    header,
                    content,
                    location: None,
                });
            } else if self.source.is_exact() {
                self.put(appender, std::mem::take(&mut mails))?;
                self.transact(appender, |batch| batch.redo(&header, &content))?;
            }
        }
        self.put(appender, mails)
    }

    fn transact(
        &mut self,
        appender: &mut Appender,
        work: impl FnOnce(&mut Batch<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let hub = Hub::default();
        let (id, now) = (self.account.id.get(), self.account.now);
        let txn = self.db.begin_write()?;
        let mut batch = Batch::begin(&txn, id, &self.state, appender, &hub, now)?;
        work(&mut batch)?;
        self.state = batch.finish()?.state;
        txn.commit()?;
        Ok(())
    }

    /// What the source knows and no record was found of.
    fn report_lost(&mut self) {
        let mut lost: Vec<&Place> = self.places.values().flatten().collect();
        lost.sort_unstable_by_key(|place| (place.mailbox, place.uid));
        for place in lost {
            let name = self.state.mailboxes.get(&place.mailbox);
            let name = name.map_or("?", |row| row.name.as_str());
            let uid = place.uid.get();
            self.told.lost(format!("UID {uid} of {name}"));
        }
    }
}

/// Where a message goes that the source does not know: where it came to.
fn new_place(batch: &mut Batch<'_>, whole: &Whole) -> Result<Option<Place>, StoreError> {
    let header = &whole.header;
    let mailbox = header.mailbox_id.get();
    batch.ensure_mailbox(header);
    let Some(uid) = Uid::new(header.uid) else {
        return Ok(None);
    };
    if batch.is_taken(mailbox, uid.get())? {
        return Ok(None);
    }
    let modseq = batch.mailbox(mailbox).map_or(1, |row| row.highest_modseq) + 1;
    let row = MessageRow {
        // What a keyword's bit means is not in a record.
        flags: system_only(header.flags.into()),
        modseq,
        size: whole.content.len() as u64,
        email: number_of(header.email_id),
        internal_date: header.internal_date,
        internal_offset: header.internal_offset,
        save_date: header.saved,
    };
    Ok(Some(Place {
        mailbox,
        uid,
        row,
        thread: 0,
    }))
}

fn system_only(flags: Flags) -> Flags {
    SystemFlag::ALL
        .into_iter()
        .fold(Flags::NONE, |all, flag| all | (flags & flag.into()))
}
