//! Room, locks, batches and failures.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use bytes::Bytes;
use common::{content, message, open, options};
use mail_types::QueueId;
use queue_store::{
    CHUNK_SIZE, Committer, FsckReport, MemStore, Message, Op, Problem, QueueStore, Scanned,
    SledStore, StoreError,
};

fn insert(store: &dyn QueueStore) -> Op {
    let id = store.new_id().unwrap();
    Op::Insert {
        message: Arc::new(message(id, 1, 100)),
        put_chunks: 0,
        tail: vec![Bytes::from(content(id, 100))],
    }
}

#[test]
fn without_room_new_mail_is_refused_and_old_mail_goes_on() {
    let store = Arc::new(MemStore::new());
    let committer = Committer::start(store.clone()).unwrap();
    let (results, answers) = channel();
    let say = |tag: &'static str| {
        let results = results.clone();
        Box::new(move |result| results.send((tag, result)).unwrap())
    };
    store.set_full(true);
    committer.submit(vec![insert(&*store)], say("new"));
    committer.commit(vec![insert(&*store)], say("bounce"));
    for _ in 0..2 {
        match answers.recv().unwrap() {
            ("new", Err(StoreError::Full { .. })) | ("bounce", Ok(())) => {}
            other => panic!("{other:?}"),
        }
    }
    store.set_full(false);
    committer.submit(vec![insert(&*store)], say("new"));
    assert!(answers.recv().unwrap().1.is_ok());
    assert_eq!(store.fsck(false).unwrap().messages, 2);
}

#[test]
fn content_is_put_and_forgotten_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(folder.path()));
    let committer = Committer::start(store.clone()).unwrap();
    let (results, answers) = channel();
    let say = || {
        let results = results.clone();
        Box::new(move |result| results.send(result).unwrap())
    };
    let (kept, lost) = (store.new_id().unwrap(), store.new_id().unwrap());
    let size = 2 * CHUNK_SIZE + 20_000;
    let data = Bytes::from(content(kept, size));
    for chunk in 0..2 {
        let piece = data.slice(chunk * CHUNK_SIZE..(chunk + 1) * CHUNK_SIZE);
        let number = u32::try_from(chunk).unwrap();
        committer.put_chunk(lost, number, piece.clone(), say());
        committer.put_chunk(kept, number, piece, say());
    }
    committer.discard(lost);
    for _ in 0..4 {
        answers.recv().unwrap().unwrap();
    }
    let new = Op::Insert {
        message: Arc::new(message(kept, 1, size as u64)),
        put_chunks: 2,
        tail: vec![data.slice(2 * CHUNK_SIZE..)],
    };
    committer.submit(vec![new], say());
    answers.recv().unwrap().unwrap();
    drop((committer, store));
    let store = open(folder.path());
    let chunks = (0..3).map(|chunk| store.read_chunk(kept, chunk).unwrap().unwrap());
    assert_eq!(chunks.collect::<Vec<_>>().concat(), data);
    assert_eq!(store.read_chunk(lost, 0).unwrap(), None);
    assert_eq!(store.fsck(false).unwrap().problems, []);
}

/// Panics when it is to append, or to flush.
struct Panics(MemStore, bool);

impl QueueStore for Panics {
    fn append(&self, ops: &[Op]) -> Result<(), StoreError> {
        assert!(self.1, "cannot append");
        self.0.append(ops)
    }
    fn sync(&self) -> Result<(), StoreError> {
        panic!("cannot flush")
    }
    fn new_id(&self) -> Result<QueueId, StoreError> {
        self.0.new_id()
    }
    fn put_chunk(&self, id: QueueId, chunk: u32, data: &[u8]) -> Result<(), StoreError> {
        self.0.put_chunk(id, chunk, data)
    }
    fn discard(&self, id: QueueId) {
        self.0.discard(id);
    }
    fn load(&self, id: QueueId) -> Result<Option<Message>, StoreError> {
        self.0.load(id)
    }
    fn read_chunk(&self, id: QueueId, chunk: u32) -> Result<Option<Bytes>, StoreError> {
        self.0.read_chunk(id, chunk)
    }
    fn scan(&self, after: Option<QueueId>, limit: usize) -> Result<Vec<Scanned>, StoreError> {
        self.0.scan(after, limit)
    }
    fn recover(&self, each: &mut dyn FnMut(Vec<Scanned>) -> bool) -> Result<(), StoreError> {
        self.0.recover(each)
    }
    fn check_room(&self, octets: u64) -> Result<(), StoreError> {
        self.0.check_room(octets)
    }
    fn disk_size(&self) -> Result<u64, StoreError> {
        self.0.disk_size()
    }
    fn fsck(&self, repair: bool) -> Result<FsckReport, StoreError> {
        self.0.fsck(repair)
    }
}

/// Nobody waits for ever, and the committer's end is its failure.
#[test]
fn a_store_that_panics_takes_nothing_more() {
    for when_flushing in [false, true] {
        let store = Arc::new(Panics(MemStore::new(), when_flushing));
        let committer = Committer::start(store.clone()).unwrap();
        let (results, answers) = channel();
        for _ in 0..20 {
            let results = results.clone();
            committer.submit(
                vec![insert(&*store)],
                Box::new(move |result| results.send(result).unwrap()),
            );
        }
        drop(results);
        let told: Vec<Result<(), StoreError>> = answers.iter().collect();
        assert_eq!(told.len(), 20);
        assert!(told.iter().all(Result::is_err), "{told:?}");
        assert!(committer.failure().is_some_and(StoreError::is_fatal));
    }
}

#[test]
fn the_reserve_counts() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    options.min_free = u64::MAX / 2;
    let store = SledStore::open(&options).unwrap();
    assert!(matches!(store.check_room(1), Err(StoreError::Full { .. })));
}

#[test]
fn a_folder_in_use_is_said_and_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    let mut impatient = options(folder.path());
    impatient.lock_wait = Duration::from_millis(30);
    let refused = SledStore::open(&impatient);
    assert!(matches!(refused, Err(StoreError::InUse(_))));
    let path = folder.path().to_owned();
    let waiter = std::thread::spawn(move || open(Path::new(&path)));
    std::thread::sleep(Duration::from_millis(50));
    drop(first);
    waiter.join().unwrap();
}

#[test]
fn many_waiters_share_flushes() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(folder.path()));
    let committer = Committer::start(store.clone()).unwrap();
    let (results, answers) = channel();
    for _ in 0..500 {
        let results = results.clone();
        let done = Box::new(move |result| results.send(result).unwrap());
        committer.submit(vec![insert(&*store)], done);
    }
    for _ in 0..500 {
        answers.recv().unwrap().unwrap();
    }
    let stats = committer.stats();
    assert_eq!(stats.ops, 500);
    assert!(stats.batches < 250, "{stats:?}");
    assert_eq!(store.fsck(false).unwrap().messages, 500);
}

#[test]
fn content_without_a_message_is_swept_at_opening() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let id = store.new_id().unwrap();
    for chunk in 0..3 {
        store.put_chunk(id, chunk, &vec![1; CHUNK_SIZE]).unwrap();
    }
    drop(store);
    let store = open(folder.path());
    assert_eq!(store.read_chunk(id, 0).unwrap(), None);
    assert_eq!(store.fsck(false).unwrap().problems, []);
}

#[test]
fn fsck_tells_a_missing_chunk() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let id = store.new_id().unwrap();
    let lost = Op::Insert {
        message: Arc::new(message(id, 1, 2 * CHUNK_SIZE as u64)),
        put_chunks: 1,
        tail: vec![Bytes::from(vec![0; CHUNK_SIZE])],
    };
    store.apply(&[lost]).unwrap();
    let report = store.fsck(true).unwrap();
    assert_eq!(report.messages, 0);
    assert_eq!(report.problems, [Problem::Content { id, chunk: 0 }]);
}

fn insert_of(store: &SledStore, size: usize) -> (Arc<Message>, Op) {
    let id = store.new_id().unwrap();
    let message = Arc::new(message(id, 1, size as u64));
    let data = Bytes::from(content(id, size));
    let tail = data.chunks(CHUNK_SIZE).map(Bytes::copy_from_slice);
    let insert = Op::Insert {
        message: message.clone(),
        put_chunks: 0,
        tail: tail.collect(),
    };
    (message, insert)
}

fn assert_whole(store: &SledStore, message: &Message) {
    let mut data = Vec::new();
    for chunk in 0..queue_store::chunk_count(message.size) {
        data.extend_from_slice(&store.read_chunk(message.id, chunk).unwrap().unwrap());
    }
    let size = usize::try_from(message.size).unwrap();
    assert_eq!(data, content(message.id, size));
}

#[test]
fn the_log_goes_with_its_messages_and_what_stays_moves() {
    const MIB: u64 = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (mut kept, mut removed) = (Vec::new(), Vec::new());
    for n in 0..120 {
        let (message, insert) = insert_of(&store, 1 << 20);
        store.append(&[insert]).unwrap();
        if n % 40 == 0 {
            kept.push(message);
        } else {
            removed.push(message);
        }
    }
    store.sync().unwrap();
    store.checkpoint().unwrap();
    assert!(store.disk_size().unwrap() > 120 * MIB);
    let removed: Vec<_> = removed.into_iter().map(Op::Remove).collect();
    store.apply(&removed).unwrap();
    for _ in 0..2 {
        store.checkpoint().unwrap();
    }
    assert!(store.disk_size().unwrap() < 90 * MIB);
    for message in &kept {
        assert_whole(&store, message);
    }
    drop(store);
    let store = open(folder.path());
    for message in &kept {
        assert_whole(&store, message);
    }
    let report = store.fsck(false).unwrap();
    assert_eq!((report.messages, report.problems), (3, Vec::new()));
}

#[test]
fn sparse_segments_are_emptied() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (mut kept, mut removed) = (Vec::new(), Vec::new());
    for n in 0..120 {
        let (message, insert) = insert_of(&store, 1 << 20);
        store.append(&[insert]).unwrap();
        // Something stays in each segment.
        let list = if n % 10 == 0 { &mut kept } else { &mut removed };
        list.push(message);
    }
    let removed: Vec<_> = removed.into_iter().map(Op::Remove).collect();
    store.apply(&removed).unwrap();
    store.checkpoint().unwrap();
    let before = store.disk_size().unwrap();
    store.checkpoint().unwrap();
    let after = store.disk_size().unwrap();
    assert!(after < 64 << 20, "{before} {after}");
    for message in &kept {
        assert_whole(&store, message);
    }
    // Those that moved can go too.
    let ops: Vec<_> = kept.into_iter().map(Op::Remove).collect();
    store.apply(&ops).unwrap();
    store.checkpoint().unwrap();
    assert_eq!(store.fsck(false).unwrap(), FsckReport::default());
}

/// The folder of a store as a kill would leave it.
fn killed(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let from = folder.join("queue");
    let to = copy.path().join("queue");
    let status = std::process::Command::new("cp")
        .arg("-a")
        .args([&from, &to])
        .status();
    assert!(status.unwrap().success());
    copy
}

fn segments(folder: &Path) -> Vec<std::path::PathBuf> {
    let found = std::fs::read_dir(folder.join("queue/log")).unwrap();
    let mut found: Vec<_> = found.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

#[test]
fn the_log_alone_brings_everything_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (one, insert_one) = insert_of(&store, 100);
    let (two, insert_two) = insert_of(&store, 200_000);
    store.apply(&[insert_one, insert_two]).unwrap();
    let mut changed = Message::clone(&two);
    changed.held = true;
    let update = Op::Update {
        message: Arc::new(changed.clone()),
        changed: Vec::new(),
    };
    store.apply(&[Op::Remove(one.clone()), update]).unwrap();
    let copy = killed(folder.path());
    let store = open(copy.path());
    assert_eq!(store.load(one.id).unwrap(), None);
    assert_eq!(store.load(two.id).unwrap(), Some(changed));
    assert_whole(&store, &two);
    assert!(store.new_id().unwrap() > two.id);
}

#[test]
fn a_torn_tail_is_forgotten_and_damage_before_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut all = Vec::new();
    for _ in 0..3 {
        let (message, insert) = insert_of(&store, 1000);
        store.apply(&[insert]).unwrap();
        all.push(message);
    }
    for (damaged, lost) in [(2, false), (1, true)] {
        let copy = killed(folder.path());
        let segment = segments(copy.path()).pop().unwrap();
        let mut octets = std::fs::read(&segment).unwrap();
        let needle = content(all[damaged].id, 1000);
        let at = octets.windows(1000).position(|window| window == needle);
        octets[at.unwrap() + 10] ^= 1;
        std::fs::write(&segment, octets).unwrap();
        let store = open(copy.path());
        for (n, message) in all.iter().enumerate() {
            assert_eq!(store.load(message.id).unwrap().is_some(), n != damaged);
        }
        let problems = store.fsck(false).unwrap().problems;
        assert_eq!(!problems.is_empty(), lost, "{problems:?}");
        assert!(problems.iter().all(|p| matches!(p, Problem::Log { .. })));
    }
}

#[test]
fn behind_a_gap_that_nobody_was_told_of_nothing_counts() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (first, insert) = insert_of(&store, 1000);
    store.apply(&[insert]).unwrap();
    // None of these was synced by the store.
    let mut untold = Vec::new();
    for _ in 0..3 {
        let (message, insert) = insert_of(&store, 1000);
        store.append(&[insert]).unwrap();
        untold.push(message);
    }
    let copy = killed(folder.path());
    let segment = segments(copy.path()).pop().unwrap();
    let mut octets = std::fs::read(&segment).unwrap();
    let needle = content(untold[1].id, 1000);
    let at = octets.windows(1000).position(|window| window == needle);
    octets[at.unwrap() + 10] ^= 1;
    std::fs::write(&segment, octets).unwrap();
    let mut kept = vec![first.id, untold[0].id];
    for _ in 0..3 {
        let store = open(copy.path());
        let found = store.scan(None, 100).unwrap();
        let ids: Vec<_> = found.iter().map(Scanned::id).collect();
        assert_eq!(ids, kept);
        // What comes then counts, whatever was behind the gap.
        let (new, insert) = insert_of(&store, 1000);
        store.apply(&[insert]).unwrap();
        kept.push(new.id);
        std::mem::forget(store);
        let again = killed(copy.path());
        let store = open(again.path());
        assert_eq!(store.scan(None, 100).unwrap().len(), kept.len());
        drop(store);
        std::fs::remove_dir_all(copy.path().join("queue")).unwrap();
        let status = std::process::Command::new("cp")
            .arg("-a")
            .args([again.path().join("queue"), copy.path().join("queue")])
            .status();
        assert!(status.unwrap().success());
    }
}
