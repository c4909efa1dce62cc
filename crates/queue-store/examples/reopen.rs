//! How long a full queue takes to open and to be read: `reopen FOLDER [MESSAGES] [OCTETS]`.
#![allow(
    clippy::print_stdout,
    reason = "a program for the developer at the terminal"
)]

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use queue_store::{
    BodyType, DsnReturn, Envelope, Message, Notify, Op, Origin, QueueStore, Recipient, Scanned,
    SledOptions, SledStore,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().ok_or("which folder?")?;
    let mut number = |default| {
        args.next()
            .map_or(Ok(default), |text| text.parse::<usize>())
    };
    let (messages, octets) = (number(1_000_000)?, number(1024)?);
    let options = SledOptions {
        folder: folder.into(),
        cache: 64 << 20,
        min_free: 0,
        now: 1_800_000_000_000,
        lock_wait: Duration::from_secs(5),
    };
    let begun = Instant::now();
    let store = SledStore::open(&options)?;
    let content = Bytes::from(vec![b'x'; octets]);
    let mut left = messages;
    while left > 0 {
        let batch = left.min(1000);
        let ops = (0..batch).map(|_| insert(&store, &content));
        store.apply(&ops.collect::<Result<Vec<_>, _>>()?)?;
        left -= batch;
    }
    println!("{messages} messages written in {:.1?}", begun.elapsed());
    drop(store);
    let begun = Instant::now();
    let store = SledStore::open(&options)?;
    println!("opened in {:.1?}", begun.elapsed());
    let begun = Instant::now();
    let mut count = 0;
    store.recover(&mut |found| {
        count += found.len();
        true
    })?;
    println!("{count} records read in {:.1?}", begun.elapsed());
    let status = std::fs::read_to_string("/proc/self/status")?;
    let memory = status
        .lines()
        .filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM"));
    println!(
        "{}; {} MiB on disk",
        memory.collect::<Vec<_>>().join(", "),
        store.disk_size()? >> 20
    );
    let begun = Instant::now();
    remove_all(&store)?;
    println!(
        "removed in {:.1?}; {} MiB on disk",
        begun.elapsed(),
        store.disk_size()? >> 20
    );
    Ok(())
}

fn remove_all(store: &SledStore) -> Result<(), Box<dyn Error>> {
    loop {
        let found = store.scan(None, 2048)?;
        if found.is_empty() {
            return Ok(());
        }
        let ops = found.into_iter().filter_map(|item| match item {
            Scanned::Message(message) => Some(Op::Remove(Arc::new(*message))),
            Scanned::Damaged(_) => None,
        });
        store.apply(&ops.collect::<Vec<_>>())?;
    }
}

fn insert(store: &SledStore, content: &Bytes) -> Result<Op, Box<dyn Error>> {
    let recipient = Recipient::new("lois@aula.test".parse()?, None, Notify::Default);
    let message = Message {
        id: store.new_id()?,
        envelope: Envelope {
            reverse_path: "ana@aula.test".parse()?,
            origin: Origin::default(),
            smtputf8: false,
            body: BodyType::EightBitMime,
            envelope_id: None,
            dsn_return: DsnReturn::Unspecified,
            session_id: "s".into(),
        },
        size: content.len() as u64,
        accepted_at: 1_800_000_000_000,
        held: false,
        recipients: vec![recipient],
    };
    Ok(Op::Insert {
        message: Arc::new(message),
        put_chunks: 0,
        tail: vec![content.clone()],
    })
}
