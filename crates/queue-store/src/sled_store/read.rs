//! Reading: one message, some in order, all that were there at the opening.

use bytes::Bytes;
use mail_types::QueueId;
use tracing::error;

use super::keys;
use super::overlay::{Entry, Live};
use super::state::{Counted, Known, read_value};
use super::store::Store;
use crate::codec::{decode_head, decode_page, page_count};
use crate::message::Message;
use crate::store::{Scanned, StoreError};

/// Records that are handed on at once.
const PAGE: usize = 512;

impl Store {
    pub(super) fn load(&self, id: QueueId) -> Result<Option<Message>, StoreError> {
        let read = self.try_load(id);
        match read {
            // It may have changed between two reads of its parts.
            Err(StoreError::Damaged { .. }) => self.try_load(id),
            read => read,
        }
    }

    fn try_load(&self, id: QueueId) -> Result<Option<Message>, StoreError> {
        let known = self.state().known(id);
        let live = match known {
            Known::Gone => return Ok(None),
            Known::Live(live) => live,
            Known::Nothing => Live::default(),
        };
        if let Some(head) = &live.head {
            return self.assemble(id, head, &live).map(Some);
        }
        let value = self.db.get(keys::head(id)).map_err(StoreError::failed)?;
        let Some(value) = value else { return Ok(None) };
        self.read_record(id, &value, &live).map(Some)
    }

    /// From a value of sled's, and what memory knows better.
    fn read_record(&self, id: QueueId, value: &[u8], live: &Live) -> Result<Message, StoreError> {
        let (_, start) = read_value(&self.db, id, value)?;
        self.assemble(id, value.get(start..).unwrap_or_default(), live)
    }

    fn assemble(&self, id: QueueId, head: &[u8], live: &Live) -> Result<Message, StoreError> {
        let damaged = StoreError::Damaged {
            id,
            what: "recipients",
        };
        let (mut message, total) = decode_head(id, head)?;
        for page in 1..page_count(total) {
            let recipients = if let Some(octets) = live.pages.get(&page) {
                decode_page(id, octets)?
            } else {
                let value = self.db.get(keys::page(id, page));
                let value = value.map_err(StoreError::failed)?;
                decode_page(id, &value.ok_or_else(|| damaged.clone())?)?
            };
            message.recipients.extend(recipients);
        }
        if message.recipients.len() == total {
            Ok(message)
        } else {
            Err(damaged)
        }
    }

    pub(super) fn load_chunk(&self, id: QueueId, chunk: u32) -> Result<Option<Bytes>, StoreError> {
        let mut before = None;
        loop {
            let places = self.state().places(&self.db, id)?.unwrap_or_default();
            let Some(place) = places.get(chunk as usize).copied() else {
                return Ok(None);
            };
            if let Some(content) = self.log.read(place)? {
                return Ok(Some(content));
            }
            if before == Some(place) {
                let what = "content";
                return Err(StoreError::Damaged { id, what });
            }
            // It may have moved, or gone, meanwhile.
            before = Some(place);
        }
    }

    pub(super) fn scan_from(
        &self,
        mut after: Option<QueueId>,
        limit: usize,
    ) -> Result<Vec<Scanned>, StoreError> {
        loop {
            let ids = self.ids_from(after, limit)?;
            let Some(last) = ids.last().copied() else {
                return Ok(Vec::new());
            };
            let mut page = Vec::with_capacity(ids.len());
            for id in ids {
                page.extend(scanned(id, self.load(id))?);
            }
            if !page.is_empty() || limit == 0 {
                return Ok(page);
            }
            // All have left meanwhile; an empty page would be the end.
            after = Some(last);
        }
    }

    fn ids_from(&self, after: Option<QueueId>, limit: usize) -> Result<Vec<QueueId>, StoreError> {
        let mut ids = self.ids_in_memory(after, limit);
        let last = (ids.len() >= limit).then(|| ids.last().copied()).flatten();
        let mut found = 0;
        for key in self.db.range(keys::heads_after(after)).keys() {
            let key = key.map_err(StoreError::failed)?;
            let Some(id) = keys::id(&key) else { continue };
            if found >= limit || last.is_some_and(|last| id > last) {
                break;
            }
            if !self.state().is_gone(id) {
                found += 1;
                ids.push(id);
            }
        }
        ids.sort_unstable();
        ids.dedup();
        ids.truncate(limit);
        Ok(ids)
    }

    /// At most `limit` messages behind `after` that memory knows to be there.
    fn ids_in_memory(&self, after: Option<QueueId>, limit: usize) -> Vec<QueueId> {
        use std::ops::Bound::{Excluded, Unbounded};
        let state = self.state();
        let start = after.map_or(Unbounded, Excluded);
        let mut ids = Vec::new();
        for overlay in [Some(&state.pending), state.settling.as_deref()] {
            let range = overlay.map(|overlay| overlay.entries.range((start, Unbounded)));
            let live = range.into_iter().flatten().filter_map(|(id, entry)| {
                let is_live = matches!(entry, Entry::Live(_)) && !state.is_gone(*id);
                is_live.then_some(*id)
            });
            ids.extend(live.take(limit));
        }
        ids.sort_unstable();
        ids.dedup();
        ids.truncate(limit);
        ids
    }

    /// Hands on all that was there at the opening and counts what it uses.
    pub(super) fn recover(
        &self,
        each: &mut dyn FnMut(Vec<Scanned>) -> bool,
    ) -> Result<(), StoreError> {
        if self.state().begin_count() {
            self.count(each)?;
            self.bell.ring();
            return Ok(());
        }
        let mut after = None;
        loop {
            let found = self.scan_from(after, PAGE)?;
            let Some(last) = found.last() else {
                return Ok(());
            };
            after = Some(last.id());
            if !each(found) {
                return Ok(());
            }
        }
    }

    /// See [`Self::recover`]; for whom [`State::begin_count`](super::state::State::begin_count) let.
    pub(super) fn count(
        &self,
        each: &mut dyn FnMut(Vec<Scanned>) -> bool,
    ) -> Result<(), StoreError> {
        let counted = self.count_all(each);
        self.state().counted = match counted {
            Ok(true) => Counted::Done,
            // Not to its end: nothing is removed any more, but checkpoints go on.
            Ok(false) | Err(_) => Counted::Never,
        };
        self.settled.notify_all();
        counted.map(|_| ())
    }

    /// False if not all could be counted.
    fn count_all(&self, each: &mut dyn FnMut(Vec<Scanned>) -> bool) -> Result<bool, StoreError> {
        let mut page = Vec::with_capacity(PAGE);
        let mut hand_on = |page: &mut Vec<Scanned>, least: usize| {
            let full = !page.is_empty() && page.len() >= least;
            !full || each(std::mem::replace(page, Vec::with_capacity(PAGE)))
        };
        let mut is_known = true;
        for id in self.ids_in_memory(None, usize::MAX) {
            page.extend(scanned(id, self.load(id))?);
            if !hand_on(&mut page, PAGE) {
                return Ok(false);
            }
        }
        for entry in self.db.range(keys::heads_after(None)) {
            let (key, value) = entry.map_err(StoreError::failed)?;
            let Some(id) = keys::id(&key) else { continue };
            {
                let mut state = self.state();
                if state.knows(id) {
                    // Counted and handed on before, or gone.
                    continue;
                }
                match read_value(&self.db, id, &value) {
                    Ok((places, _)) => state.usage.add(&places),
                    Err(_) => is_known = false,
                }
            }
            let record = self.read_record(id, &value, &Live::default());
            page.extend(scanned(id, record.map(Some))?);
            if !hand_on(&mut page, PAGE) {
                return Ok(false);
            }
        }
        hand_on(&mut page, 1);
        if !is_known {
            error!("what a damaged message uses is not known: the log's room is not given back");
        }
        Ok(is_known)
    }
}

/// `None` is for what left meanwhile.
fn scanned(
    id: QueueId,
    record: Result<Option<Message>, StoreError>,
) -> Result<Option<Scanned>, StoreError> {
    match record {
        Ok(record) => Ok(record.map(|message| Scanned::Message(Box::new(message)))),
        Err(failure) if failure.is_fatal() => Err(failure),
        Err(_) => Ok(Some(Scanned::Damaged(id))),
    }
}
