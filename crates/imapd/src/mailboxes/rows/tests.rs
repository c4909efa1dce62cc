use std::collections::BTreeMap;

use mail_types::Flags;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

fn entry(uid: u32, flags: u64, modseq: u64) -> Entry {
    Entry {
        uid,
        flags: Flags::from(flags),
        modseq,
        size: u64::from(uid) * 37 % 9000,
    }
}

/// A mailbox as it is easy to get right.
type Model = BTreeMap<u32, Entry>;

fn check(rows: &Rows, model: &Model) {
    let all: Vec<Entry> = model.values().copied().collect();
    assert_eq!(rows.iter().collect::<Vec<_>>(), all);
    assert_eq!(rows.len(), all.len());
    assert_eq!(rows.last(), all.last().copied());
    let places = 0..all.len() + 3;
    for (place, expected) in places.clone().zip(all.iter().map(Some).chain([None; 3])) {
        assert_eq!(rows.get(place).as_ref(), expected);
        if let Some(entry) = expected {
            assert_eq!(rows.find(entry.uid), Some(place));
            assert_eq!(
                (rows.below(entry.uid), rows.up_to(entry.uid)),
                (place, place + 1)
            );
        }
    }
    let some: Vec<usize> = places
        .step_by(3)
        .filter(|place| *place < all.len())
        .collect();
    let got: Vec<(usize, Entry)> = rows.at(some.iter().copied()).collect();
    assert_eq!(
        got,
        some.iter().map(|at| (*at, all[*at])).collect::<Vec<_>>()
    );
    let unseen = all.iter().position(|entry| entry.flags.bits() & 1 == 0);
    assert_eq!(rows.first_unseen(), unseen);
    for uid in [0, 1, 255, 256, 257, 5000, u32::MAX] {
        assert_eq!(rows.below(uid), model.range(..uid).count());
        assert_eq!(rows.up_to(uid), model.range(..=uid).count());
        assert_eq!(rows.find(uid).is_some(), model.contains_key(&uid));
    }
}

fn step(random: &mut StdRng, rows: &Rows, model: &mut Model, modseq: u64) -> Rows {
    let uids: Vec<u32> = model.keys().copied().collect();
    let some = |random: &mut StdRng, part: f64| -> Vec<u32> {
        uids.iter()
            .copied()
            .filter(|_| random.random_bool(part))
            .collect()
    };
    let part = [0.01, 0.2, 1.0][random.random_range(0..3)];
    let mut changed: Vec<Entry> = some(random, part)
        .into_iter()
        .map(|uid| entry(uid, random.random_range(0..40), modseq))
        .collect();
    // Ranges of one message, or of all up to the next one: over the bounds of chunks too.
    let mut gone: Vec<(u32, u32)> = Vec::new();
    for uid in some(random, part / 4.0) {
        let high = uid + [0, 0, 3, 600][random.random_range(0..4)];
        if gone.last().is_none_or(|(_, last)| *last < uid) {
            gone.push((uid, high));
        }
    }
    let mut next = uids.last().map_or(1, |last| last + 1);
    let mut appended = Vec::new();
    for _ in 0..random.random_range(0..200) {
        next += if random.random_bool(0.05) {
            random.random_range(1..700)
        } else {
            1
        };
        appended.push(entry(next, 0, modseq));
    }
    // One that is not there.
    changed.push(entry(next + 1000, 1, modseq));
    let later = rows.edited(Edit {
        changed: &changed,
        expunged: &gone,
        appended: &appended,
    });
    changed.pop();
    let before = model.clone();
    model.extend(changed.iter().map(|entry| (entry.uid, *entry)));
    let is_gone = |uid: u32| gone.iter().any(|(low, high)| (*low..=*high).contains(&uid));
    model.retain(|uid, _| !is_gone(*uid));
    model.extend(appended.iter().map(|entry| (entry.uid, *entry)));
    let difference = rows.difference(&later);
    let is_new = |uid: &&u32| !before.contains_key(uid);
    assert_eq!(
        difference.appended,
        model.keys().filter(is_new).copied().collect::<Vec<_>>()
    );
    assert_eq!(
        difference.expunged,
        uids.iter()
            .copied()
            .filter(|uid| is_gone(*uid))
            .collect::<Vec<_>>()
    );
    let other = |entry: &&Entry| before.get(&entry.uid).is_some_and(|old| old != *entry);
    assert_eq!(
        difference.changed,
        model.values().filter(other).copied().collect::<Vec<_>>()
    );
    let mut kept = before;
    kept.extend(model.iter().map(|(uid, entry)| (*uid, *entry)));
    check(&rows.kept_in(&later), &kept);
    later
}

#[test]
fn any_changes_give_the_right_messages() {
    for seed in 0..40 {
        let mut random = StdRng::seed_from_u64(seed);
        let (mut rows, mut model) = (Rows::default(), Model::new());
        for modseq in 1..12 {
            rows = step(&mut random, &rows, &mut model, modseq);
            check(&rows, &model);
            let all: Vec<Entry> = model.values().copied().collect();
            let packed = Rows::pack(&all, &rows);
            check(&packed, &model);
            assert!(
                rows.0
                    .iter()
                    .zip(&packed.0)
                    .all(|(a, b)| Arc::ptr_eq(&a.chunk, &b.chunk))
            );
        }
    }
}

#[test]
fn messages_alike_take_a_few_octets() {
    let all: Vec<Entry> = (1..=10_000)
        .map(|uid| entry(uid, 1, u64::from(uid)))
        .collect();
    let rows = Rows::pack(&all, &Rows::default());
    assert!(rows.octets() < 5 * all.len(), "{}", rows.octets());
}

#[test]
fn versions_share_what_is_equal() {
    let all: Vec<Entry> = (1..=10_000).map(|uid| entry(uid, 0, 1)).collect();
    let rows = Rows::pack(&all, &Rows::default());
    let changed = [entry(5000, 1, 2)];
    let later = rows.edited(Edit {
        changed: &changed,
        expunged: &[],
        appended: &[],
    });
    let pairs = rows.0.iter().zip(&later.0);
    assert_eq!(
        pairs
            .filter(|(a, b)| !Arc::ptr_eq(&a.chunk, &b.chunk))
            .count(),
        1
    );
}
