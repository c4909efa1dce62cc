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
use queue_store::{
    CHUNK_SIZE, Committer, MemStore, Op, Problem, QueueStore, SledStore, StoreError,
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
