//! Records as bytes: a version, a checksum, and a protobuf message that grows by addition.
//!
//! A record with many recipients is kept in pages of [`PAGE`] recipients, so that one recipient's
//! change does not write them all again and no value comes near the engine's limit. The first page
//! is part of the head: nearly all messages are one value.

mod wire;

use bytes::Bytes;
use mail_types::QueueId;
use prost::Message as _;

use crate::message::{Message, Recipient};
use crate::store::StoreError;

/// Recipients a page. 32 of the longest addresses, ORCPTs and outcomes stay under 64 KiB.
pub(crate) const PAGE: usize = 32;
/// The longest diagnostic that is kept, in octets: one reply line of RFC 5321 §4.5.3.1.5.
pub(crate) const MAX_DIAGNOSTIC: usize = 512;

const VERSION: u8 = 1;
const HEADER: usize = 5;

/// How many pages so many recipients take, the first one included.
pub(crate) fn page_count(recipients: usize) -> u32 {
    u32::try_from(recipients.div_ceil(PAGE).max(1)).unwrap_or(u32::MAX)
}

/// The head: everything but the pages from 1 on.
pub(crate) fn encode_head(message: &Message) -> Vec<u8> {
    let first = message.recipients.iter().take(PAGE);
    let head = wire::Head::new(message, first);
    seal(head.encoded_len(), |out| head.encode_raw(out))
}

/// A page of recipients, from 1.
pub(crate) fn encode_page(message: &Message, page: u32) -> Vec<u8> {
    let recipients = message
        .recipients
        .iter()
        .skip(page as usize * PAGE)
        .take(PAGE);
    let page = wire::Page {
        recipients: recipients.map(Into::into).collect(),
    };
    seal(page.encoded_len(), |out| page.encode_raw(out))
}

/// Reads a head. Answers the message with its first page, and how many recipients it has in all.
pub(crate) fn decode_head(id: QueueId, value: &[u8]) -> Result<(Message, usize), StoreError> {
    let damaged = StoreError::Damaged { id, what: "head" };
    let payload = unseal(id, value, "head")?;
    let head = wire::Head::decode(payload).map_err(|_| damaged.clone())?;
    let total = head.recipient_count as usize;
    let message = head.into_message(id).ok_or(damaged.clone())?;
    if message.recipients.len() != total.min(PAGE) {
        return Err(damaged);
    }
    Ok((message, total))
}

/// Reads a page.
pub(crate) fn decode_page(id: QueueId, value: &[u8]) -> Result<Vec<Recipient>, StoreError> {
    let damaged = StoreError::Damaged {
        id,
        what: "recipients",
    };
    let payload = unseal(id, value, "recipients")?;
    let page = wire::Page::decode(payload).map_err(|_| damaged.clone())?;
    let recipients = page.recipients.into_iter().map(wire::Recipient::into_ours);
    recipients.collect::<Option<_>>().ok_or(damaged)
}

/// Any octets with their checksum.
pub(crate) fn encode_chunk(data: &[u8]) -> Vec<u8> {
    seal(data.len(), |out| out.extend_from_slice(data))
}

/// Reads the same.
pub(crate) fn decode_chunk(id: QueueId, value: &[u8]) -> Result<Bytes, StoreError> {
    unseal(id, value, "value").map(Bytes::copy_from_slice)
}

fn seal(len: usize, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + len);
    out.extend_from_slice(&[VERSION, 0, 0, 0, 0]);
    write(&mut out);
    let sum = crc32c::crc32c(out.get(HEADER..).unwrap_or_default());
    if let Some(place) = out.get_mut(1..HEADER) {
        place.copy_from_slice(&sum.to_le_bytes());
    }
    out
}

fn unseal<'a>(id: QueueId, value: &'a [u8], what: &'static str) -> Result<&'a [u8], StoreError> {
    let (header, payload) = value
        .split_at_checked(HEADER)
        .ok_or(StoreError::Damaged { id, what })?;
    match header {
        [VERSION, sum @ ..] if *sum == crc32c::crc32c(payload).to_le_bytes() => Ok(payload),
        [version, ..] if *version > VERSION => Err(StoreError::Version {
            id,
            version: *version,
        }),
        _ => Err(StoreError::Damaged { id, what }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{
        BodyType, DsnReturn, Envelope, Notify, Origin, Progress, Route, SmartHost,
    };
    use mail_types::{AccountId, EnhancedCode, Outcome, ReversePath};

    fn sample(recipients: usize) -> Message {
        let recipient = |n: usize| {
            let mut recipient = Recipient::new(
                format!("r{n}@aula.test").parse().unwrap(),
                Some(format!("rfc822;r{n}@aula.test")),
                Notify::On {
                    success: true,
                    failure: false,
                    delay: true,
                },
            );
            recipient.parent = (n > 2).then_some(1);
            recipient.attempts = 3;
            recipient.next_attempt_at = 77;
            recipient.progress = match n % 5 {
                0 => Progress::Unrouted,
                1 => Progress::Finished,
                2 => Progress::Waiting(Route::Domain("aula.test".parse().unwrap())),
                3 => Progress::Waiting(Route::Local {
                    account: AccountId::from(4),
                    quota_bytes: 9,
                }),
                _ => Progress::Waiting(Route::SmartHost(SmartHost {
                    host: "relay".into(),
                    port: 587,
                    username: "u".into(),
                    credentials: "c".into(),
                    implicit_tls: true,
                })),
            };
            let mut outcome = Outcome::local(EnhancedCode::NO_ANSWER, "no answer");
            outcome.remote_mta = Some("mx.aula.test".parse().unwrap());
            recipient.last = Some(outcome);
            recipient.delay_told = true;
            recipient
        };
        Message {
            id: QueueId::from(42),
            envelope: Envelope {
                reverse_path: ReversePath::Null,
                origin: Origin {
                    peer: "192.0.2.1".into(),
                    account: Some(AccountId::from(3)),
                    helo: "c.example".into(),
                },
                smtputf8: true,
                body: BodyType::BinaryMime,
                envelope_id: Some(String::new()),
                dsn_return: DsnReturn::Headers,
                session_id: "s1".into(),
            },
            size: 12,
            accepted_at: 1000,
            held: true,
            recipients: (0..recipients).map(recipient).collect(),
        }
    }

    #[test]
    fn records_round_trip() {
        for recipients in [0, 1, 5, PAGE, PAGE + 1, 3 * PAGE + 7] {
            let message = sample(recipients);
            let (mut read, total) = decode_head(message.id, &encode_head(&message)).unwrap();
            assert_eq!(total, recipients);
            for page in 1..page_count(total) {
                let value = encode_page(&message, page);
                read.recipients
                    .extend(decode_page(message.id, &value).unwrap());
            }
            assert_eq!(read, message);
        }
    }

    #[test]
    fn any_changed_bit_is_found() {
        let message = sample(3);
        let value = encode_head(&message);
        for at in 0..value.len() {
            for bit in 0..8 {
                let mut bad = value.clone();
                bad[at] ^= 1 << bit;
                assert!(decode_head(message.id, &bad).is_err(), "{at}.{bit}");
            }
        }
        for len in 0..value.len() {
            assert!(decode_head(message.id, &value[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn long_diagnostics_are_cut_at_a_character() {
        let mut message = sample(1);
        message.recipients[0].last = Some(Outcome::local(
            EnhancedCode::NO_ANSWER,
            "é".repeat(MAX_DIAGNOSTIC),
        ));
        let (read, _) = decode_head(message.id, &encode_head(&message)).unwrap();
        let kept = read.recipients[0].last.as_ref().unwrap();
        assert_eq!(kept.diagnostic, "é".repeat(MAX_DIAGNOSTIC / 2));
    }
}
