//! Tables of short rows, many of them in one value: opening a mailbox of 10,000 messages reads some
//! forty values, and changing all its flags writes as many.
//!
//! A key is a group (a mailbox) and the lowest id that its block may have; blocks of a group do not
//! overlap. A block is its rows in the order of their ids, each behind its id. All have one length,
//! so that a row is found by halving.

use std::cmp::Ordering;
use std::marker::PhantomData;

use redb::{AccessGuard, ReadOnlyTable, ReadableTable, Table, TableDefinition};

use crate::StoreError;

/// A table of blocks; see the module's head.
pub(crate) type PackedTable = TableDefinition<'static, (u64, u32), &'static [u8]>;

/// A row of fixed length.
pub(crate) trait Row: Sized {
    /// What it is, for people.
    const NAME: &'static str;
    /// Octets, at most 96.
    const LEN: usize;
    /// Rows in one block.
    const PER_BLOCK: usize;

    /// Appends [`Self::LEN`] octets.
    fn write(&self, out: &mut Vec<u8>);

    /// `None` if the octets are no row.
    fn read(octets: &[u8]) -> Option<Self>;
}

const ID: usize = 4;

/// The rows of a block.
struct Rows<'a, R>(&'a [u8], PhantomData<R>);

impl<'a, R: Row> Rows<'a, R> {
    const WIDTH: usize = ID + R::LEN;

    fn of(octets: &'a [u8]) -> Result<Self, StoreError> {
        if octets.len().is_multiple_of(Self::WIDTH) && !octets.is_empty() {
            Ok(Self(octets, PhantomData))
        } else {
            Err(damaged::<R>())
        }
    }

    fn new(octets: &'a [u8]) -> Self {
        Self(octets, PhantomData)
    }

    fn count(&self) -> usize {
        self.0.len() / Self::WIDTH
    }

    fn id(&self, at: usize) -> Option<u32> {
        let from = at * Self::WIDTH;
        let id = self.0.get(from..)?.first_chunk()?;
        Some(u32::from_le_bytes(*id))
    }

    fn row(&self, at: usize) -> Result<R, StoreError> {
        let from = at * Self::WIDTH;
        let octets = self.0.get(from + ID..from + Self::WIDTH);
        octets.and_then(R::read).ok_or_else(damaged::<R>)
    }

    /// Where the id is, or would be.
    fn find(&self, id: u32) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = low.midpoint(high);
            match self.id(middle).unwrap_or(0).cmp(&id) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(middle),
                Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }
}

fn damaged<R: Row>() -> StoreError {
    StoreError::Engine(format!("a block of {} rows does not parse", R::NAME))
}

/// Goes through the rows of a group from `low` to `high` until `each` says false.
pub(crate) fn each<R: Row>(
    table: &impl ReadableTable<(u64, u32), &'static [u8]>,
    group: u64,
    (low, high): (u32, u32),
    mut each: impl FnMut(u32, R) -> Result<bool, StoreError>,
) -> Result<(), StoreError> {
    if low > high {
        return Ok(());
    }
    let before = table.range((group, 0)..=(group, low))?.next_back();
    let first = before.transpose()?.map_or(low, |(key, _)| key.value().1);
    for block in table.range((group, first)..=(group, high))? {
        let (_, value) = block?;
        let rows = Rows::<R>::of(value.value())?;
        let start = rows.find(low).unwrap_or_else(|at| at);
        for at in start..rows.count() {
            let id = rows.id(at).unwrap_or(0);
            if id > high || !each(id, rows.row(at)?)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Goes through all rows, by group and id.
pub(crate) fn each_of_all<R: Row>(
    table: &impl ReadableTable<(u64, u32), &'static [u8]>,
    mut each: impl FnMut(u64, u32, R) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    for block in table.iter()? {
        let (key, value) = block?;
        let group = key.value().0;
        let rows = Rows::<R>::of(value.value())?;
        for at in 0..rows.count() {
            each(group, rows.id(at).unwrap_or(0), rows.row(at)?)?;
        }
    }
    Ok(())
}

/// Looks rows up; ids that lie near each other are found in the same block.
pub(crate) struct Lookup<R> {
    table: ReadOnlyTable<(u64, u32), &'static [u8]>,
    block: Option<(u64, AccessGuard<'static, &'static [u8]>)>,
    rows: PhantomData<R>,
}

impl<R: Row> Lookup<R> {
    pub(crate) fn new(table: ReadOnlyTable<(u64, u32), &'static [u8]>) -> Self {
        Self {
            table,
            block: None,
            rows: PhantomData,
        }
    }

    pub(crate) fn get(&mut self, (group, id): (u64, u32)) -> Result<Option<R>, StoreError> {
        if let Some((at, block)) = &self.block
            && *at == group
        {
            let rows = Rows::<R>::new(block.value());
            match rows.find(id) {
                Ok(at) => return rows.row(at).map(Some),
                // Between two of its rows there is no other block.
                Err(at) if at > 0 && at < rows.count() => return Ok(None),
                Err(_) => {}
            }
        }
        let found = self.table.range((group, 0)..=(group, id))?.next_back();
        let Some((_, value)) = found.transpose()? else {
            return Ok(None);
        };
        let rows = Rows::<R>::of(value.value())?;
        let row = rows.find(id).ok().map(|at| rows.row(at)).transpose()?;
        self.block = Some((group, value));
        Ok(row)
    }
}

/// A table that is written to. The block that was used last is kept until another is wanted, so
/// that neighbours cost one read and one write. [`Packed::flush`] has to come last.
pub(crate) struct Packed<'t, R> {
    table: Table<'t, (u64, u32), &'static [u8]>,
    block: Option<Block>,
    /// A row as it is written, kept from row to row.
    entry: Vec<u8>,
    rows: PhantomData<R>,
}

struct Block {
    group: u64,
    first: u32,
    /// Ids from here on are another block's.
    end: u64,
    octets: Vec<u8>,
    is_dirty: bool,
}

/// Behind all ids.
const END: u64 = 1 << 32;

impl<'t, R: Row> Packed<'t, R> {
    pub(crate) fn new(table: Table<'t, (u64, u32), &'static [u8]>) -> Self {
        Self {
            table,
            block: None,
            entry: Vec::new(),
            rows: PhantomData,
        }
    }

    /// Writes what is kept.
    pub(crate) fn flush(&mut self) -> Result<(), StoreError> {
        let Some(block) = &mut self.block else {
            return Ok(());
        };
        if std::mem::take(&mut block.is_dirty) {
            let key = (block.group, block.first);
            if block.octets.is_empty() {
                self.table.remove(key)?;
            } else {
                self.table.insert(key, block.octets.as_slice())?;
            }
        }
        Ok(())
    }

    /// See [`each`].
    pub(crate) fn each(
        &mut self,
        group: u64,
        range: (u32, u32),
        each: impl FnMut(u32, R) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        self.flush()?;
        self::each(&self.table, group, range, each)
    }

    pub(crate) fn get(&mut self, (group, id): (u64, u32)) -> Result<Option<R>, StoreError> {
        let block = self.seek(group, id)?;
        let rows = Rows::<R>::new(&block.octets);
        rows.find(id).ok().map(|at| rows.row(at)).transpose()
    }

    pub(crate) fn insert(&mut self, (group, id): (u64, u32), row: &R) -> Result<(), StoreError> {
        let width = Rows::<R>::WIDTH;
        let mut entry = std::mem::take(&mut self.entry);
        entry.clear();
        entry.extend(id.to_le_bytes());
        row.write(&mut entry);
        let mut block = self.seek(group, id)?;
        let mut rows = Rows::<R>::new(&block.octets);
        if rows.find(id).is_err() && rows.count() >= R::PER_BLOCK {
            self.make_room(id)?;
            block = self.seek(group, id)?;
            rows = Rows::<R>::new(&block.octets);
        }
        match rows.find(id) {
            Ok(at) => {
                if let Some(place) = block.octets.get_mut(at * width..(at + 1) * width) {
                    place.copy_from_slice(&entry);
                }
            }
            Err(at) if at == rows.count() => block.octets.extend_from_slice(&entry),
            Err(at) => {
                let place = at * width..at * width;
                drop(block.octets.splice(place, entry.iter().copied()));
            }
        }
        block.is_dirty = true;
        self.entry = entry;
        Ok(())
    }

    pub(crate) fn remove(&mut self, (group, id): (u64, u32)) -> Result<(), StoreError> {
        let width = Rows::<R>::WIDTH;
        let block = self.seek(group, id)?;
        if let Ok(at) = Rows::<R>::new(&block.octets).find(id) {
            block.octets.drain(at * width..(at + 1) * width);
            block.is_dirty = true;
        }
        Ok(())
    }

    /// The block is full: a new one begins with `id` if that is behind all others, or with the
    /// second half of them.
    fn make_room(&mut self, id: u32) -> Result<(), StoreError> {
        self.flush()?;
        let Some(block) = &mut self.block else {
            return Ok(());
        };
        let rows = Rows::<R>::new(&block.octets);
        let count = rows.count();
        let at = rows.find(id).unwrap_or_else(|at| at);
        if at == count {
            *block = Block {
                first: id,
                octets: Vec::new(),
                ..*block
            };
            return Ok(());
        }
        let middle = count / 2;
        let first = rows.id(middle).unwrap_or(id);
        let upper = block.octets.split_off(middle * Rows::<R>::WIDTH);
        self.table.insert((block.group, first), upper.as_slice())?;
        block.end = first.into();
        block.is_dirty = true;
        Ok(())
    }

    /// The block that has or would have the id.
    fn seek(&mut self, group: u64, id: u32) -> Result<&mut Block, StoreError> {
        let is_there = self.block.as_ref().is_some_and(|block| {
            block.group == group && block.first <= id && u64::from(id) < block.end
        });
        if !is_there {
            self.flush()?;
            self.block = Some(self.load(group, id)?);
        }
        self.block
            .as_mut()
            .ok_or_else(|| StoreError::Engine("no block".to_owned()))
    }

    fn load(&mut self, group: u64, id: u32) -> Result<Block, StoreError> {
        let mut end = END;
        if let Some(behind) = id.checked_add(1) {
            let next = self
                .table
                .range((group, behind)..=(group, u32::MAX))?
                .next();
            if let Some((key, _)) = next.transpose()? {
                end = key.value().1.into();
            }
        }
        let found = self.table.range((group, 0)..=(group, id))?.next_back();
        let found = found.transpose()?;
        let (first, octets) = match found {
            Some((key, value)) => {
                let _ = Rows::<R>::of(value.value())?;
                (key.value().1, value.value().to_vec())
            }
            // What comes in from behind makes short blocks, which are as valid.
            None => (id, Vec::new()),
        };
        Ok(Block {
            group,
            first,
            end,
            octets,
            is_dirty: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use redb::backends::InMemoryBackend;
    use redb::{Database, ReadableDatabase};
    use std::collections::BTreeMap;

    const TABLE: PackedTable = TableDefinition::new("rows");

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Number(u64);

    impl Row for Number {
        const NAME: &'static str = "number";
        const LEN: usize = 8;
        const PER_BLOCK: usize = 4;

        fn write(&self, out: &mut Vec<u8>) {
            out.extend(self.0.to_le_bytes());
        }

        fn read(octets: &[u8]) -> Option<Self> {
            Some(Self(u64::from_le_bytes(octets.try_into().ok()?)))
        }
    }

    type Model = BTreeMap<(u64, u32), u64>;

    fn range(model: &Model, group: u64, (low, high): (u32, u32)) -> Vec<(u32, u64)> {
        let rows = model
            .iter()
            .filter(|((at, id), _)| *at == group && (low..=high).contains(id));
        rows.map(|((_, id), number)| (*id, *number)).collect()
    }

    proptest! {
        #[test]
        fn equals_a_map(
            steps in prop::collection::vec((0..4_u8, 0..3_u64, 0..40_u32, any::<u64>()), 1..200)
        ) {
            let db = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
            let mut model = Model::new();
            for steps in steps.chunks(40) {
                let txn = db.begin_write().unwrap();
                let mut packed = Packed::<Number>::new(txn.open_table(TABLE).unwrap());
                for (what, group, id, number) in steps {
                    // The last ids there are, too.
                    let id = if *id == 39 { u32::MAX } else { *id };
                    let key = (*group, id);
                    match what {
                        0 | 1 => {
                            packed.insert(key, &Number(*number)).unwrap();
                            model.insert(key, *number);
                        }
                        2 => {
                            packed.remove(key).unwrap();
                            model.remove(&key);
                        }
                        _ => {
                            let mut found = Vec::new();
                            packed.each(*group, (3, id), |id, row| {
                                found.push((id, row.0));
                                Ok(true)
                            }).unwrap();
                            prop_assert_eq!(found, range(&model, *group, (3, id)));
                        }
                    }
                    let found = packed.get(key).unwrap().map(|row| row.0);
                    prop_assert_eq!(found, model.get(&key).copied());
                }
                packed.flush().unwrap();
                drop(packed);
                txn.commit().unwrap();
                let table = db.begin_read().unwrap().open_table(TABLE).unwrap();
                let mut all = Model::new();
                each_of_all(&table, |group, id, row: Number| {
                    all.insert((group, id), row.0);
                    Ok(())
                }).unwrap();
                prop_assert_eq!(&all, &model);
                for block in table.iter().unwrap() {
                    let octets = block.unwrap().1.value().len();
                    prop_assert!(octets > 0 && octets <= 4 * 12);
                }
                let mut lookup = Lookup::<Number>::new(table);
                for group in 0..3 {
                    for id in (0..40).chain([u32::MAX]) {
                        let found = lookup.get((group, id)).unwrap().map(|row| row.0);
                        prop_assert_eq!(found, model.get(&(group, id)).copied());
                    }
                }
            }
        }
    }

    #[test]
    fn rows_in_order_fill_their_blocks() {
        let db = Database::builder()
            .create_with_backend(InMemoryBackend::new())
            .unwrap();
        let txn = db.begin_write().unwrap();
        let mut packed = Packed::<Number>::new(txn.open_table(TABLE).unwrap());
        for id in 1..=100 {
            packed.insert((7, id), &Number(1)).unwrap();
        }
        packed.flush().unwrap();
        assert_eq!(packed.table.iter().unwrap().count(), 25);
    }
}
