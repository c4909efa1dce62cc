//! How many messages a second become durable: `submit_rate FOLDER [WAITING] [OCTETS] [SECONDS]`.
#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a program for the developer at the terminal"
)]

use std::error::Error;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use bytes::Bytes;
use queue_store::{
    BodyType, Committer, DsnReturn, Envelope, Message, Notify, Op, Origin, QueueStore, Recipient,
    SledOptions, SledStore,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().ok_or("which folder?")?;
    let mut number = |default| {
        args.next()
            .map_or(Ok(default), |text| text.parse::<usize>())
    };
    let (waiting, octets, seconds) = (number(64)?, number(4096)?, number(5)?);
    let options = SledOptions {
        folder: folder.into(),
        cache: 64 << 20,
        min_free: 0,
        now: 1_800_000_000_000,
        lock_wait: Duration::from_secs(5),
    };
    let store = Arc::new(SledStore::open(&options)?);
    let committer = Committer::start(store.clone())?;
    let (done_in, done_out) = channel();
    let content = Bytes::from(vec![b'x'; octets]);
    let start = Instant::now();
    let end = start + Duration::from_secs(seconds as u64);
    let (mut under_way, mut messages, mut kept) = (0, 0_u64, Vec::new());
    while Instant::now() < end || under_way > 0 {
        while under_way < waiting && Instant::now() < end {
            let message = Arc::new(message(&store, octets)?);
            let insert = Op::Insert {
                message: message.clone(),
                put_chunks: 0,
                tail: vec![content.clone()],
            };
            let done = done_in.clone();
            committer.submit(
                vec![insert],
                Box::new(move |result| {
                    let _ = done.send(result.map(|()| message));
                }),
            );
            under_way += 1;
        }
        kept.push(done_out.recv()??);
        under_way -= 1;
        messages += 1;
        // A queue of at most a thousand, as under a steady flow.
        if kept.len() >= 1000 {
            let ops = kept.drain(..500).map(Op::Remove).collect();
            committer.commit(ops, Box::new(|_| {}));
        }
    }
    let took = start.elapsed();
    let stats = committer.stats();
    println!(
        "{messages} messages of {octets} octets in {took:.1?}: {:.0}/s, {} batches, {:.1} µs a flush, {} MiB on disk",
        messages as f64 / took.as_secs_f64(),
        stats.batches,
        stats.flushing.as_micros() as f64 / stats.batches as f64,
        store.disk_size()? >> 20,
    );
    Ok(())
}

fn message(store: &SledStore, octets: usize) -> Result<Message, Box<dyn Error>> {
    let recipient = Recipient::new("lois@aula.test".parse()?, None, Notify::Default);
    Ok(Message {
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
        size: octets as u64,
        accepted_at: 1_800_000_000_000,
        held: false,
        recipients: vec![recipient],
    })
}
