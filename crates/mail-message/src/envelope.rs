//! ENVELOPE (RFC 3501 §7.4.2).

use crate::address::{Address, parse_addresses};
use crate::header::{HeaderField, HeaderFields};
use crate::imap_text::push_nstring;

/// The most addresses of one field. Lists beyond it are cut in ENVELOPE; the header has them all.
const MAX_ADDRESSES: usize = 10_000;
/// The most octets of one field that are looked at for ENVELOPE.
const MAX_FIELD: usize = 256 * 1024;

/// The fields of ENVELOPE in its order.
const FIELDS: [(&str, Kind); 10] = [
    ("date", Kind::Text),
    ("subject", Kind::Text),
    ("from", Kind::Addresses),
    ("sender", Kind::Addresses),
    ("reply-to", Kind::Addresses),
    ("to", Kind::Addresses),
    ("cc", Kind::Addresses),
    ("bcc", Kind::Addresses),
    ("in-reply-to", Kind::Text),
    ("message-id", Kind::Text),
];
const FROM: usize = 2;
const SENDER: usize = 3;
const REPLY_TO: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Addresses,
    Text,
}

/// Appends a header's envelope in its parentheses.
pub(crate) fn push_envelope(out: &mut Vec<u8>, header: &[u8]) {
    let mut envelope = Envelope::default();
    HeaderFields::new(header).for_each(|field| envelope.add(field));
    envelope.push_to(out);
}

/// The first field of each name that ENVELOPE shows.
#[derive(Debug, Default)]
pub(crate) struct Envelope<'a> {
    found: [Option<HeaderField<'a>>; FIELDS.len()],
}

impl<'a> Envelope<'a> {
    pub(crate) fn add(&mut self, field: HeaderField<'a>) {
        let place = FIELDS.iter().position(|(name, _)| field.is(name));
        if let Some(slot) = place.and_then(|place| self.found.get_mut(place)) {
            slot.get_or_insert(field);
        }
    }

    /// Appends the envelope in its parentheses.
    pub(crate) fn push_to(&self, out: &mut Vec<u8>) {
        let mut from = 0..0;
        for (at, (slot, (_, kind))) in self.found.iter().zip(FIELDS).enumerate() {
            out.push(if at == 0 { b'(' } else { b' ' });
            let Kind::Addresses = kind else {
                push_text(out, *slot);
                continue;
            };
            let start = out.len();
            let addresses = slot.map(list).unwrap_or_default();
            if addresses.is_empty() && matches!(at, SENDER | REPLY_TO) {
                // RFC 3501 §7.4.2: the server shows From in their place.
                out.extend_from_within(from.clone());
            } else {
                push_addresses(out, &addresses);
            }
            if at == FROM {
                from = start..out.len();
            }
        }
        out.push(b')');
    }
}

fn push_text(out: &mut Vec<u8>, field: Option<HeaderField<'_>>) {
    let text = field.map(|field| field.unfolded());
    let text = text.as_deref();
    push_nstring(out, text.map(|text| text.get(..MAX_FIELD).unwrap_or(text)));
}

fn list(field: HeaderField<'_>) -> Vec<Address> {
    let value = field.value();
    parse_addresses(value.get(..MAX_FIELD).unwrap_or(value), MAX_ADDRESSES)
}

fn push_addresses(out: &mut Vec<u8>, addresses: &[Address]) {
    if addresses.is_empty() {
        return push_nstring(out, None);
    }
    out.push(b'(');
    for address in addresses {
        out.push(b'(');
        push_nstring(out, address.name.as_deref());
        for field in [&address.route, &address.mailbox, &address.host] {
            out.push(b' ');
            push_nstring(out, field.as_deref());
        }
        out.push(b')');
    }
    out.push(b')');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(header: &str) -> String {
        let mut out = Vec::new();
        push_envelope(&mut out, header.as_bytes());
        String::from_utf8(out).unwrap()
    }

    // RFC 3501 §7.4.2: "the server MUST default the reply-to and sender members".
    #[test]
    fn sender_and_reply_to_default_to_from() {
        let list = "((NIL NIL \"a\" \"b\"))";
        assert_eq!(
            envelope("From: a@b\r\nReply-To:\r\nSubject: x\r\n\ty\r\n\r\n"),
            format!("(NIL \"x\ty\" {list} {list} {list} NIL NIL NIL NIL NIL)")
        );
    }

    #[test]
    fn nothing_at_all() {
        assert_eq!(envelope(""), "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)");
        assert_eq!(
            envelope("Subject:\r\n"),
            "(NIL \"\" NIL NIL NIL NIL NIL NIL NIL NIL)"
        );
    }
}
