//! Batches made durable: `cargo bench -p queue-store`. The disk decides; ratios in one run count.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement may end so"
)]

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use queue_store::{
    BodyType, Committer, DsnReturn, Envelope, MemStore, Message, Notify, Op, Origin, QueueStore,
    Recipient, SledOptions, SledStore,
};

fn message(store: &dyn QueueStore, octets: usize) -> Arc<Message> {
    let address = "lois@aula.test".parse().unwrap();
    Arc::new(Message {
        id: store.new_id().unwrap(),
        envelope: Envelope {
            reverse_path: "ana@aula.test".parse().unwrap(),
            origin: Origin::default(),
            smtputf8: false,
            body: BodyType::EightBitMime,
            envelope_id: None,
            dsn_return: DsnReturn::Unspecified,
            session_id: "s".into(),
        },
        size: octets as u64,
        accepted_at: 1_800_000_000_000,
        held: false,
        recipients: vec![Recipient::new(address, None, Notify::Default)],
    })
}

/// Inserts so many at once, waits for all, and removes them.
fn round(store: &Arc<dyn QueueStore>, committer: &Committer, waiting: usize, content: &Bytes) {
    let (done_in, done_out) = channel();
    let mut messages = Vec::new();
    for _ in 0..waiting {
        let message = message(&**store, content.len());
        messages.push(message.clone());
        let insert = Op::Insert {
            message,
            put_chunks: 0,
            tail: vec![content.clone()],
        };
        let done = done_in.clone();
        committer.submit(
            vec![insert],
            Box::new(move |result| done.send(result).unwrap()),
        );
    }
    for _ in 0..waiting {
        done_out.recv().unwrap().unwrap();
    }
    committer.commit(
        messages.into_iter().map(Op::Remove).collect(),
        Box::new(|_| {}),
    );
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    let folder = tempfile::tempdir().unwrap();
    let options = SledOptions {
        folder: folder.path().join("queue"),
        cache: 64 << 20,
        min_free: 0,
        now: 1_800_000_000_000,
        lock_wait: Duration::from_secs(5),
    };
    let sled: Arc<dyn QueueStore> = Arc::new(SledStore::open(&options).unwrap());
    let memory: Arc<dyn QueueStore> = Arc::new(MemStore::default());
    let content = Bytes::from(vec![b'x'; 4096]);
    for (name, store) in [("sled", sled), ("memory", memory)] {
        let committer = Committer::start(store.clone()).unwrap();
        let mut group = criterion.benchmark_group(name);
        for waiting in [1, 20, 100] {
            group.throughput(Throughput::Elements(waiting as u64));
            group.bench_function(format!("{waiting} waiting"), |b| {
                b.iter(|| round(&store, &committer, waiting, &content));
            });
        }
        group.finish();
    }
    criterion.final_summary();
}
