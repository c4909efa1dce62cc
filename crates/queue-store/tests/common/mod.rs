//! Messages to keep.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test uses its part, and fails by panicking"
)]

use std::path::Path;
use std::time::Duration;

use mail_types::QueueId;
use queue_store::{
    BodyType, DsnReturn, Envelope, Message, Notify, Origin, Recipient, SledOptions, SledStore,
};

pub fn options(folder: &Path) -> SledOptions {
    SledOptions {
        folder: folder.join("queue"),
        cache: 8 << 20,
        min_free: 0,
        now: 1_800_000_000_000,
        lock_wait: Duration::from_secs(10),
    }
}

pub fn open(folder: &Path) -> SledStore {
    SledStore::open(&options(folder)).unwrap()
}

pub fn recipient(n: usize) -> Recipient {
    Recipient::new(
        format!("r{n}@aula.test").parse().unwrap(),
        None,
        Notify::Default,
    )
}

pub fn message(id: QueueId, recipients: usize, size: u64) -> Message {
    Message {
        id,
        envelope: Envelope {
            reverse_path: "ana@aula.test".parse().unwrap(),
            origin: Origin::default(),
            smtputf8: false,
            body: BodyType::EightBitMime,
            envelope_id: None,
            dsn_return: DsnReturn::Unspecified,
            session_id: "s".into(),
        },
        size,
        accepted_at: 1_800_000_000_000,
        held: false,
        recipients: (0..recipients).map(recipient).collect(),
    }
}

/// Octets that belong to that message and no other.
pub fn content(id: QueueId, size: usize) -> Vec<u8> {
    let seed = id.get().wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (0..size)
        .map(|n| u8::try_from((seed >> (n % 57)) & 0xff).unwrap() ^ u8::try_from(n % 251).unwrap())
        .collect()
}
