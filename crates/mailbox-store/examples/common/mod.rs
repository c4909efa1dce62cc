//! Mail to measure with.
#![allow(dead_code, unreachable_pub, reason = "each program uses its part")]

use std::sync::Arc;

use bytes::Bytes;
use mailbox_store::{Deliver, DeliveryKey, FlagNames, MailboxName, Target};

/// Unix time of everything that is measured.
pub const NOW: i64 = 1_700_000_000;

/// A mail of 4 KiB for INBOX, another one for each number.
pub fn mail(number: u64) -> Deliver {
    let body = "It is a line of a mail that says nothing much at all.\r\n".repeat(70);
    let text = format!(
        "From: Ana <ana@aula.test>\r\nTo: lois@aula.test\r\nSubject: {number}\r\n\
         Message-ID: <{number}@aula.test>\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\n\r\n{body}"
    );
    let key = DeliveryKey {
        queue_id: number,
        index: 0,
    };
    deliver(Some(key), text)
}

/// That text for INBOX.
pub fn deliver(key: Option<DeliveryKey>, text: String) -> Deliver {
    Deliver {
        key,
        mailbox: Target::Name(MailboxName::inbox()),
        uid: None,
        flags: FlagNames::default(),
        internal_date: NOW,
        internal_offset: 0,
        summary: Arc::new(mail_message::summarize(text.as_bytes())),
        content: vec![Bytes::from(text)],
        quota: 0,
    }
}
