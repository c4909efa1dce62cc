//! From changes to one batch of the engine.

use std::sync::Arc;

use bytes::Bytes;
use mail_types::QueueId;
use sled::Batch;

use super::pack::{Builder, Pack};
use super::young::{Gone, Left, Young};
use super::{SledStore, keys};
use crate::codec::{encode_chunk, encode_gone, encode_head, encode_page, page_count};
use crate::message::Message;
use crate::store::{Op, StoreError, chunk_count};

/// A batch in the making. What is young is noted at once: if the batch fails, the process ends.
pub(super) struct Writer<'a> {
    store: &'a SledStore,
    young: &'a mut Young,
    batch: Batch,
    building: Builder,
    members: Vec<QueueId>,
    /// Packs of this batch with their two values: others of its changes may ask for them.
    fresh: Vec<(u64, Vec<u8>, Vec<u8>)>,
    /// Packs that lost messages.
    touched: Vec<u64>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(store: &'a SledStore, young: &'a mut Young) -> Self {
        Self {
            store,
            young,
            batch: Batch::default(),
            building: Builder::default(),
            members: Vec::new(),
            fresh: Vec::new(),
            touched: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, op: &Op) -> Result<(), StoreError> {
        match op {
            Op::Insert {
                message,
                put_chunks,
                tail,
            } => self.insert(message, *put_chunks, tail),
            Op::Update { message, changed } => self.update(message, changed)?,
            Op::Remove(message) => self.remove(message),
        }
        Ok(())
    }

    /// The whole batch, with what follows for packs.
    pub(super) fn finish(mut self) -> Result<Batch, StoreError> {
        self.end_pack();
        if let Some((pack, gone)) = self.young.next_batch() {
            self.move_out(pack, gone)?;
        }
        self.touched.sort_unstable();
        self.touched.dedup();
        let touched = std::mem::take(&mut self.touched);
        let left: Vec<_> = touched
            .into_iter()
            .map(|pack| (pack, self.young.left(pack)))
            .collect();
        let emptied = |pack: u64| left.contains(&(pack, Left::Nothing));
        for (pack, records, content) in self.fresh {
            if !emptied(pack) {
                self.batch.insert(&keys::pack(pack), records);
                self.batch.insert(&keys::pack_content(pack), content);
            }
        }
        for (pack, left) in left {
            match left {
                Left::Nothing => {
                    self.batch.remove(&keys::pack(pack));
                    self.batch.remove(&keys::pack_content(pack));
                    self.batch.remove(&keys::pack_gone(pack));
                }
                Left::Some(gone) => {
                    let gone = encode_gone(&gone.to_bytes());
                    self.batch.insert(&keys::pack_gone(pack), gone);
                }
            }
        }
        Ok(self.batch)
    }

    fn insert(&mut self, message: &Arc<Message>, put_chunks: u32, tail: &[Bytes]) {
        let octets = tail.iter().map(Bytes::len).sum();
        if put_chunks == 0
            && let Some(record) = Builder::record(message, octets)
        {
            if !self.building.has_room(octets) {
                self.end_pack();
            }
            self.building.push(message.id, &record, tail);
            self.members.push(message.id);
            return;
        }
        for (chunk, data) in (put_chunks..).zip(tail) {
            let key = keys::chunk(message.id, chunk);
            self.batch.insert(&key, encode_chunk(data));
        }
        self.insert_record(message);
        if put_chunks > 0 {
            self.batch.remove(&keys::upload(message.id));
        }
    }

    fn insert_record(&mut self, message: &Message) {
        for page in 1..page_count(message.recipients.len()) {
            let key = keys::page(message.id, page);
            self.batch.insert(&key, encode_page(message, page));
        }
        let head = encode_head(message);
        self.batch.insert(&keys::head(message.id), head);
    }

    fn end_pack(&mut self) {
        if self.building.len() == 0 {
            return;
        }
        let pack = self.young.new_pack();
        let (records, content) = std::mem::take(&mut self.building).finish();
        let members = self.members.drain(..);
        self.young.add(pack, Gone::default(), members);
        self.fresh.push((pack, records, content));
    }

    fn update(&mut self, message: &Arc<Message>, changed: &[u32]) -> Result<(), StoreError> {
        if self.leaves_pack(message.id)? {
            self.insert_record(message);
            return Ok(());
        }
        let page_size = u32::try_from(crate::codec::PAGE).unwrap_or(u32::MAX);
        let mut pages: Vec<u32> = changed.iter().map(|index| index / page_size).collect();
        pages.sort_unstable();
        pages.dedup();
        for page in pages.into_iter().filter(|page| *page > 0) {
            let key = keys::page(message.id, page);
            self.batch.insert(&key, encode_page(message, page));
        }
        let head = encode_head(message);
        self.batch.insert(&keys::head(message.id), head);
        Ok(())
    }

    /// Moves a young message's content to its own key; the record is for the caller.
    fn leaves_pack(&mut self, id: QueueId) -> Result<bool, StoreError> {
        if self.members.contains(&id) {
            self.end_pack();
        }
        let Some(place) = self.young.take(id) else {
            return Ok(false);
        };
        self.touched.push(place.pack);
        let damaged = |what| StoreError::Damaged { id, what };
        let (records, content) = self.values(place.pack)?;
        let member = Pack::read(&records).and_then(|pack| pack.member(place.slot));
        let member = member.ok_or_else(|| damaged("pack"))?;
        match member.content(&content) {
            Ok([]) => {}
            Ok(content) => {
                let content = encode_chunk(content);
                self.batch.insert(&keys::chunk(id, 0), content);
            }
            // The record goes on, and whoever reads the content learns that it is not there.
            Err(error) => tracing::error!(qid = %id, %error, "content is lost"),
        }
        Ok(true)
    }

    /// All that are left in a pack move out, record and content.
    fn move_out(&mut self, pack: u64, gone: Gone) -> Result<(), StoreError> {
        let (records, _) = self.values(pack)?;
        let Some(read) = Pack::read(&records) else {
            return Ok(());
        };
        let left = (0..).zip(read.members()).filter(|(n, _)| !gone.has(*n));
        let messages: Vec<_> = left.map(|(_, member)| member.message()).collect();
        for message in messages {
            match message {
                Ok(message) => {
                    self.leaves_pack(message.id)?;
                    self.insert_record(&message);
                }
                Err(error) => tracing::error!(%error, "a damaged record stays in its pack"),
            }
        }
        Ok(())
    }

    fn values(&self, pack: u64) -> Result<(Vec<u8>, Vec<u8>), StoreError> {
        let fresh = self.fresh.iter().find(|(fresh, ..)| *fresh == pack);
        if let Some((_, records, content)) = fresh {
            return Ok((records.clone(), content.clone()));
        }
        let value = |key: [u8; 9]| {
            let value = self.store.db.get(key).map_err(StoreError::failed)?;
            Ok::<_, StoreError>(value.map(|value| value.to_vec()).unwrap_or_default())
        };
        Ok((value(keys::pack(pack))?, value(keys::pack_content(pack))?))
    }

    fn remove(&mut self, message: &Message) {
        let id = message.id;
        if self.members.contains(&id) {
            self.end_pack();
        }
        if let Some(place) = self.young.take(id) {
            return self.touched.push(place.pack);
        }
        for chunk in 0..chunk_count(message.size) {
            self.batch.remove(&keys::chunk(id, chunk));
        }
        for page in 1..page_count(message.recipients.len()) {
            self.batch.remove(&keys::page(id, page));
        }
        self.batch.remove(&keys::head(id));
    }
}
