//! The engine and its twin answer the same, whatever is done in whatever order, across reopening.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::{content, message, open};
use mail_types::{EnhancedCode, Outcome, QueueId};
use proptest::prelude::*;
use queue_store::{CHUNK_SIZE, MemStore, Message, Op, QueueStore, Scanned, SledStore, chunk_count};

#[derive(Clone, Debug)]
enum Step {
    Insert {
        recipients: usize,
        size: usize,
        streamed: bool,
    },
    Abort {
        chunks: u32,
    },
    Finish {
        which: usize,
        recipient: usize,
    },
    AddRecipients {
        which: usize,
        count: usize,
    },
    Remove {
        which: usize,
    },
    Hold {
        which: usize,
    },
    Swap {
        which: usize,
    },
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let sizes = prop_oneof![
        4 => 0..5000_usize,
        1 => Just(CHUNK_SIZE),
        1 => CHUNK_SIZE - 1..4 * CHUNK_SIZE,
    ];
    let recipients = prop_oneof![4 => 1..4_usize, 1 => 30..100_usize];
    let step = prop_oneof![
        6 => (recipients, sizes, any::<bool>()).prop_map(|(recipients, size, streamed)| {
            Step::Insert { recipients, size, streamed }
        }),
        1 => (1..4_u32).prop_map(|chunks| Step::Abort { chunks }),
        4 => (any::<usize>(), any::<usize>())
            .prop_map(|(which, recipient)| Step::Finish { which, recipient }),
        1 => (any::<usize>(), 1..70_usize)
            .prop_map(|(which, count)| Step::AddRecipients { which, count }),
        3 => any::<usize>().prop_map(|which| Step::Remove { which }),
        1 => any::<usize>().prop_map(|which| Step::Hold { which }),
        1 => any::<usize>().prop_map(|which| Step::Swap { which }),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..40)
}

struct Pair {
    folder: tempfile::TempDir,
    sled: Option<SledStore>,
    mem: MemStore,
    last_id: QueueId,
}

impl Pair {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sled = Some(open(folder.path()));
        Self {
            folder,
            sled,
            mem: MemStore::new(),
            last_id: QueueId::from(0),
        }
    }

    fn sled(&self) -> &SledStore {
        self.sled.as_ref().unwrap()
    }

    fn id(&mut self) -> QueueId {
        let id = self.sled().new_id().unwrap();
        assert!(id > self.last_id, "ids go up");
        self.last_id = id;
        id
    }

    fn apply(&self, ops: &[Op]) {
        self.sled().apply(ops).unwrap();
        self.mem.apply(ops).unwrap();
    }

    fn pick(&self, which: usize) -> Option<Message> {
        let all = self.mem.scan(None, usize::MAX).unwrap();
        match all.get(which % all.len().max(1))? {
            Scanned::Message(message) => Some(Message::clone(message)),
            Scanned::Damaged(_) => None,
        }
    }

    fn insert(&mut self, recipients: usize, size: usize, streamed: bool) -> Op {
        let id = self.id();
        let data = content(id, size);
        let chunks: Vec<Bytes> = data
            .chunks(CHUNK_SIZE)
            .map(Bytes::copy_from_slice)
            .collect();
        let put = if streamed { size / CHUNK_SIZE } else { 0 };
        for (chunk, data) in (0..).zip(&chunks[..put]) {
            self.sled().put_chunk(id, chunk, data).unwrap();
            self.mem.put_chunk(id, chunk, data).unwrap();
        }
        Op::Insert {
            message: Arc::new(message(id, recipients, size as u64)),
            put_chunks: u32::try_from(put).unwrap(),
            tail: chunks[put..].to_vec(),
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Insert {
                recipients,
                size,
                streamed,
            } => {
                let op = self.insert(recipients, size, streamed);
                self.apply(&[op]);
            }
            Step::Abort { chunks } => {
                let id = self.id();
                for chunk in 0..chunks {
                    self.sled()
                        .put_chunk(id, chunk, &vec![7; CHUNK_SIZE])
                        .unwrap();
                }
                // Half of them are forgotten, half are left for the sweep of the next opening.
                if chunks % 2 == 0 {
                    self.sled().discard(id);
                }
            }
            Step::Finish { which, recipient } => {
                let Some(mut message) = self.pick(which) else {
                    return;
                };
                let index = recipient % message.recipients.len();
                message.recipients[index].finish(Outcome::local(EnhancedCode::OK, "done"));
                self.update(message, vec![u32::try_from(index).unwrap()]);
            }
            Step::AddRecipients { which, count } => {
                let Some(mut message) = self.pick(which) else {
                    return;
                };
                let start = message.recipients.len();
                for n in start..start + count {
                    message.recipients.push(common::recipient(n));
                }
                let end = message.recipients.len();
                let changed = (start..end).map(|n| u32::try_from(n).unwrap());
                self.update(message, changed.collect());
            }
            Step::Remove { which } => {
                let Some(message) = self.pick(which) else {
                    return;
                };
                self.apply(&[Op::Remove(Arc::new(message))]);
            }
            Step::Hold { which } => {
                let Some(mut message) = self.pick(which) else {
                    return;
                };
                message.held = !message.held;
                self.update(message, Vec::new());
            }
            Step::Swap { which } => {
                // A bounce takes the place of its message: both or neither.
                let Some(old) = self.pick(which) else { return };
                let new = self.insert(1, 700, false);
                self.apply(&[new, Op::Remove(Arc::new(old))]);
            }
            Step::Reopen => {
                self.sled = None;
                self.sled = Some(open(self.folder.path()));
            }
        }
    }

    fn update(&self, message: Message, changed: Vec<u32>) {
        self.apply(&[Op::Update {
            message: Arc::new(message),
            changed,
        }]);
    }

    fn compare(&self) {
        let all = self.mem.scan(None, usize::MAX).unwrap();
        assert_eq!(self.sled().scan(None, usize::MAX).unwrap(), all);
        let mut paged = Vec::new();
        while let found = self.sled().scan(paged.last().map(Scanned::id), 3).unwrap()
            && !found.is_empty()
        {
            paged.extend(found);
        }
        assert_eq!(paged, all);
        for item in &all {
            let Scanned::Message(message) = item else {
                panic!("damaged")
            };
            let (id, size) = (message.id, message.size);
            for store in [self.sled() as &dyn QueueStore, &self.mem] {
                let mut data = Vec::new();
                for chunk in 0..chunk_count(size) {
                    data.extend_from_slice(&store.read_chunk(id, chunk).unwrap().unwrap());
                }
                assert_eq!(data, content(id, usize::try_from(size).unwrap()));
                assert_eq!(store.read_chunk(id, chunk_count(size)).unwrap(), None);
                assert_eq!(store.load(id).unwrap().as_ref(), Some(&**message));
            }
        }
        let report = self.sled().fsck(false).unwrap();
        assert_eq!(report.problems, []);
        assert_eq!(report, self.mem.fsck(false).unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn the_engine_equals_its_twin(steps in steps()) {
        let mut pair = Pair::new();
        for step in &steps {
            pair.step(step);
        }
        pair.compare();
        pair.step(&Step::Reopen);
        pair.compare();
    }
}
