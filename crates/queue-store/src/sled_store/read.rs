//! Reading: one message, some in order, all that were there at the opening.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{MutexGuard, PoisonError};

use bytes::Bytes;
use mail_types::QueueId;
use sled::IVec;
use tracing::error;

use super::pack::Pack;
use super::young::{Gone, Known, Place, Young};
use super::{SledStore, keys};
use crate::codec::{decode_chunk, decode_gone};
use crate::message::Message;
use crate::store::{Scanned, StoreError};

/// Records that are handed on at once.
const PAGE: usize = 512;

impl SledStore {
    /// Where young messages are. Reads it first if nobody has.
    pub(super) fn young(&self) -> Result<MutexGuard<'_, Young>, StoreError> {
        let mut young = self.lock_young();
        if young.known == Known::Not {
            let end = young.next_pack();
            self.read_packs(end, |pack, gone, value| {
                young.add(pack, gone, value.members().map(|member| member.id));
                Ok(true)
            })?;
            young.known = Known::All;
        }
        Ok(young)
    }

    fn lock_young(&self) -> MutexGuard<'_, Young> {
        // It is whole at each step.
        self.young.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every pack with a lower number than `end`, until `each` wants no more.
    fn read_packs(
        &self,
        end: u64,
        mut each: impl FnMut(u64, Gone, Pack<'_>) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let mut all_gone = HashMap::new();
        for entry in self.db.scan_prefix(keys::PACKS_GONE) {
            let (key, value) = entry.map_err(StoreError::failed)?;
            let Some(pack) = keys::id(&key) else { continue };
            let gone = decode_gone(pack, &value)?;
            let gone = Gone::from_bytes(&gone).ok_or(StoreError::Damaged {
                id: pack,
                what: "pack",
            })?;
            all_gone.insert(pack.get(), gone);
        }
        for entry in self.db.range(keys::packs_before(end)) {
            let (key, value) = entry.map_err(StoreError::failed)?;
            let Some(pack) = keys::id(&key) else { continue };
            let pack = pack.get();
            let gone = all_gone.get(&pack).copied().unwrap_or_default();
            let Some(read) = Pack::read(&value) else {
                error!(pack, "the records of some messages are damaged");
                continue;
            };
            if !each(pack, gone, read)? {
                return Ok(());
            }
        }
        Ok(())
    }

    pub(super) fn recover_all(
        &self,
        each: &mut dyn FnMut(Vec<Scanned>) -> bool,
    ) -> Result<(), StoreError> {
        let (read_already, end) = {
            let mut young = self.lock_young();
            let known = std::mem::replace(&mut young.known, Known::InPart);
            (known == Known::All, young.next_pack())
        };
        let mut page = Vec::with_capacity(PAGE);
        let mut wanted = true;
        // Before the packs: what moves out of them meanwhile is not met again.
        for entry in self.db.range(keys::heads_after(None)) {
            let (key, value) = entry.map_err(StoreError::failed)?;
            let Some(id) = keys::id(&key) else { continue };
            page.push(scanned(id, self.read_message(id, &value))?);
            if page.len() >= PAGE {
                wanted = each(std::mem::replace(&mut page, Vec::with_capacity(PAGE)));
            }
            if !wanted {
                return Ok(());
            }
        }
        self.read_packs(end, |pack, gone, value| {
            if !read_already {
                let ids = value.members().map(|member| member.id);
                self.lock_young().add(pack, gone, ids);
            }
            for (_, member) in (0..).zip(value.members()).filter(|(n, _)| !gone.has(*n)) {
                page.push(scanned(member.id, member.message())?);
            }
            if page.len() >= PAGE {
                wanted = each(std::mem::replace(&mut page, Vec::with_capacity(PAGE)));
            }
            Ok(wanted)
        })?;
        if wanted && !page.is_empty() {
            each(page);
        }
        self.lock_young().known = Known::All;
        Ok(())
    }

    pub(super) fn load_message(&self, id: QueueId) -> Result<Option<Message>, StoreError> {
        // It may move out while it is looked for: once, and never back.
        for _ in 0..2 {
            let Some(place) = self.young()?.place(id) else {
                break;
            };
            if let Some(value) = self.value(keys::pack(place.pack))? {
                return member(id, place, &value, |member| member.message()).map(Some);
            }
        }
        let head = self.value(keys::head(id))?;
        head.map(|head| self.read_message(id, &head)).transpose()
    }

    pub(super) fn load_chunk(&self, id: QueueId, chunk: u32) -> Result<Option<Bytes>, StoreError> {
        for _ in 0..2 {
            let Some(place) = self.young()?.place(id) else {
                break;
            };
            let records = self.value(keys::pack(place.pack))?;
            let content = self.value(keys::pack_content(place.pack))?;
            if let (Some(records), Some(content)) = (records, content) {
                let found = member(id, place, &records, |member| {
                    member.content(&content).map(Bytes::copy_from_slice)
                })?;
                return Ok(Some(found).filter(|found| chunk == 0 && !found.is_empty()));
            }
        }
        let value = self.value(keys::chunk(id, chunk))?;
        value.map(|value| decode_chunk(id, &value)).transpose()
    }

    pub(super) fn scan_from(
        &self,
        after: Option<QueueId>,
        limit: usize,
    ) -> Result<Vec<Scanned>, StoreError> {
        let mut packs: HashMap<u64, Option<IVec>> = HashMap::new();
        let mut found = Vec::new();
        for (id, place) in self.young()?.behind(after, limit) {
            let value = match packs.entry(place.pack) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(self.value(keys::pack(place.pack))?),
            };
            // None: the message left while others were read.
            if let Some(value) = value {
                let message = member(id, place, value, |member| member.message());
                found.push(scanned(id, message)?);
            }
        }
        let young = found.len();
        for entry in self.db.range(keys::heads_after(after)).take(limit) {
            let (key, value) = entry.map_err(StoreError::failed)?;
            let Some(id) = keys::id(&key) else { continue };
            found.push(scanned(id, self.read_message(id, &value))?);
        }
        if young > 0 {
            found.sort_by_key(Scanned::id);
            // One that moved out meanwhile is met twice; the second is newer.
            found.reverse();
            found.dedup_by_key(|item| item.id());
            found.reverse();
            found.truncate(limit);
        }
        Ok(found)
    }

    fn value(&self, key: impl AsRef<[u8]>) -> Result<Option<IVec>, StoreError> {
        self.db.get(key).map_err(StoreError::failed)
    }
}

fn member<T>(
    id: QueueId,
    place: Place,
    value: &[u8],
    read: impl FnOnce(super::pack::Member<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let member = Pack::read(value).and_then(|pack| pack.member(place.slot));
    match member.filter(|member| member.id == id) {
        Some(member) => read(member),
        None => Err(StoreError::Damaged { id, what: "pack" }),
    }
}

fn scanned(id: QueueId, message: Result<Message, StoreError>) -> Result<Scanned, StoreError> {
    match message {
        Ok(message) => Ok(Scanned::Message(Box::new(message))),
        Err(error) if error.is_fatal() => Err(error),
        Err(_) => Ok(Scanned::Damaged(id)),
    }
}
