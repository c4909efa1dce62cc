//! What the fuzz targets need of the records' format; only there with `--cfg fuzzing`.

use mail_types::QueueId;

use crate::codec::{
    MAX_DIAGNOSTIC, PAGE, decode_chunk, decode_head, decode_page, encode_chunk, encode_head,
    encode_page,
};
use crate::message::{Message, Recipient};

/// A head with this payload: if it can be read, it is written so that it reads as the same.
pub fn head(payload: &[u8]) {
    let id = QueueId::from(42);
    let Ok((message, total)) = decode_head(id, &encode_chunk(payload)) else {
        return;
    };
    assert_eq!(message.recipients.len(), total.min(PAGE));
    if total <= PAGE {
        let (again, count) = decode_head(id, &encode_head(&message)).expect("what was written");
        assert_eq!(count, total);
        assert_eq!(again, cut(message));
    }
}

/// The same for a page of recipients.
pub fn page(payload: &[u8]) {
    let id = QueueId::from(42);
    let Ok(recipients) = decode_page(id, &encode_chunk(payload)) else {
        return;
    };
    if recipients.len() > PAGE {
        return;
    }
    let (mut message, _) = decode_head(id, &encode_chunk(&[])).expect("all fields are optional");
    // It is the second page.
    let filler = Recipient::new(
        "a@b.test".parse().expect("an address"),
        None,
        Default::default(),
    );
    message.recipients = vec![filler; PAGE];
    message.recipients.extend(recipients);
    let again = decode_page(id, &encode_page(&message, 1)).expect("what was written");
    assert_eq!(again, cut(message).recipients.split_off(PAGE));
}

/// Any octets in the place of a batch of the log.
pub fn batch(octets: &[u8]) {
    crate::sled_store::read_batch(octets);
}

/// Any octets in the place of a value.
pub fn any(value: &[u8]) {
    let id = QueueId::from(42);
    let _ = decode_head(id, value);
    let _ = decode_page(id, value);
    if let Ok(chunk) = decode_chunk(id, value) {
        assert_eq!(encode_chunk(&chunk), value);
    }
}

/// Diagnostics as they are kept.
fn cut(mut message: Message) -> Message {
    for recipient in &mut message.recipients {
        if let Some(last) = &mut recipient.last {
            let end = last.diagnostic.floor_char_boundary(MAX_DIAGNOSTIC);
            last.diagnostic.truncate(end);
        }
    }
    message
}
