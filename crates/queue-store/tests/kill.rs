//! kill -9 in the middle of writing: everything acknowledged is there, whole, and nothing else is
//! left but what may have been on its way.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use bytes::Bytes;
use common::{content, message, open, options};
use mail_types::QueueId;
use queue_store::{CHUNK_SIZE, Committer, Op, QueueStore, Scanned, SledStore, chunk_count};

const FOLDER: &str = "QUEUE_STORE_TEST_FOLDER";
/// Messages in each round that a kill may harm.
const ENOUGH: usize = 200;

/// Not a test of its own: the process that is killed. It prints `+id` for what is in the queue
/// for sure and `-id` before it begins to remove.
#[test]
fn writer() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let store = Arc::new(open(Path::new(&folder)));
    let committer = Committer::start(store.clone()).unwrap();
    let (done_in, done_out) = channel();
    for n in 0_usize.. {
        let size = if n % 10 == 0 {
            3 * CHUNK_SIZE + n % 1000
        } else {
            4096
        };
        let id = store.new_id().unwrap();
        let insert = streamed_insert(&store, id, size);
        let done = done_in.clone();
        committer.submit(
            vec![insert],
            Box::new(move |result| {
                result.unwrap();
                say(&format!("+{}", id.get()));
                let _ = done.send((id, size));
            }),
        );
        if n < 32 {
            continue;
        }
        let (old, size) = done_out.recv().unwrap();
        if old.get() % 3 != 0 {
            say(&format!("-{}", old.get()));
            let remove = Op::Remove(Arc::new(message(old, 2, size as u64)));
            committer.commit(vec![remove], Box::new(|result| result.unwrap()));
        }
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

fn streamed_insert(store: &SledStore, id: QueueId, size: usize) -> Op {
    let data = content(id, size);
    let chunks: Vec<_> = data
        .chunks(CHUNK_SIZE)
        .map(Bytes::copy_from_slice)
        .collect();
    let put = chunks.len() - 1;
    for (chunk, data) in (0..).zip(&chunks[..put]) {
        store.put_chunk(id, chunk, data).unwrap();
    }
    Op::Insert {
        message: Arc::new(message(id, 2, size as u64)),
        put_chunks: u32::try_from(put).unwrap(),
        tail: chunks[put..].to_vec(),
    }
}

fn start_writer(folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let (mut acknowledged, mut removing) = (BTreeSet::new(), BTreeSet::new());
    for round in 0..8_u64 {
        let mut child = start_writer(folder.path());
        let output = BufReader::new(child.stdout.take().unwrap());
        // It works for a while after it has begun, however slow the machine is at the moment.
        let (begun_in, begun) = channel();
        let reader = std::thread::spawn(move || {
            let mut acknowledged = 0;
            let lines = output.lines().map_while(Result::ok).inspect(|line| {
                acknowledged += usize::from(line.starts_with('+'));
                if acknowledged == ENOUGH {
                    begun_in.send(()).unwrap();
                }
            });
            lines.collect::<Vec<_>>()
        });
        begun.recv_timeout(Duration::from_mins(1)).unwrap();
        std::thread::sleep(Duration::from_millis(61 * round));
        child.kill().unwrap();
        let lines = reader.join().unwrap();
        child.wait().unwrap();
        let before = acknowledged.len();
        for line in lines {
            // The last line may be cut.
            let Some((sign, id)) = line.split_at_checked(1) else {
                continue;
            };
            let Ok(id) = id.parse::<u64>().map(QueueId::from) else {
                continue;
            };
            match sign {
                "+" => assert!(acknowledged.insert(id), "{id} was given out twice"),
                "-" => assert!(removing.insert(id)),
                _ => {}
            }
        }
        assert!(acknowledged.len() >= before + ENOUGH);
        check(folder.path(), &acknowledged, &removing);
    }
}

fn check(folder: &Path, acknowledged: &BTreeSet<QueueId>, removing: &BTreeSet<QueueId>) {
    let store = SledStore::open(&options(folder)).unwrap();
    let report = store.fsck(false).unwrap();
    assert_eq!(report.problems, []);
    let mut there = BTreeSet::new();
    for item in store.scan(None, usize::MAX).unwrap() {
        let Scanned::Message(message) = item else {
            panic!("damaged")
        };
        there.insert(message.id);
        let mut data = Vec::new();
        for chunk in 0..chunk_count(message.size) {
            data.extend_from_slice(&store.read_chunk(message.id, chunk).unwrap().unwrap());
        }
        assert_eq!(
            data,
            content(message.id, usize::try_from(message.size).unwrap())
        );
    }
    for id in acknowledged.difference(removing) {
        assert!(there.contains(id), "{id} was acknowledged and is gone");
    }
}
