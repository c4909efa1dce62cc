use crate::header::{HeaderField, HeaderFields};

/// The fields that mail clients ask for in their message lists, in lower case.
///
/// They are what Thunderbird, Outlook, Apple Mail, K-9, Roundcube, mutt and mbsync name in
/// `BODY.PEEK[HEADER.FIELDS (…)]`. [`crate::Summary::common_fields`] keeps them beside the index,
/// so that a listing reads no message. `Received` is not among them: it would be most of the
/// index, and hardly anybody asks. Adding a name needs the summaries to be made anew.
pub const COMMON_FIELDS: &[&str] = &[
    "bcc",
    "cc",
    "content-description",
    "content-transfer-encoding",
    "content-type",
    "date",
    "delivered-to",
    "disposition-notification-to",
    "from",
    "importance",
    "in-reply-to",
    "lines",
    "list-id",
    "list-post",
    "list-subscribe",
    "list-unsubscribe",
    "mail-followup-to",
    "mail-reply-to",
    "message-id",
    "mime-version",
    "newsgroups",
    "precedence",
    "priority",
    "references",
    "reply-to",
    "return-path",
    "sender",
    "sensitivity",
    "subject",
    "to",
    "x-draft-info",
    "x-identity",
    "x-identity-key",
    "x-k9mail-identity",
    "x-label",
    "x-original-to",
    "x-priority",
    "x-spam-flag",
    "x-spam-status",
    "x-tuid",
];

/// True if each of the names is among [`COMMON_FIELDS`], in whatever case.
pub fn all_common<'a>(names: impl IntoIterator<Item = &'a [u8]>) -> bool {
    names.into_iter().all(is_common)
}

/// [`COMMON_FIELDS`] by length: a name is compared with few others.
const BY_LENGTH: [&str; COMMON_FIELDS.len()] = by_length();

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which does not build what panics"
)]
const fn by_length() -> [&'static str; COMMON_FIELDS.len()] {
    let mut sorted = [""; COMMON_FIELDS.len()];
    let (mut len, mut filled) = (0, 0);
    while filled < sorted.len() {
        let mut at = 0;
        while at < COMMON_FIELDS.len() {
            if COMMON_FIELDS[at].len() == len {
                sorted[filled] = COMMON_FIELDS[at];
                filled += 1;
            }
            at += 1;
        }
        len += 1;
    }
    sorted
}

/// Where the names of each length begin in [`BY_LENGTH`].
const STARTS: [u8; 32] = starts();

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which does not build what panics"
)]
const fn starts() -> [u8; 32] {
    let mut starts = [0; 32];
    let mut len = 0;
    while len < starts.len() {
        let mut shorter = 0;
        while (shorter as usize) < BY_LENGTH.len() && BY_LENGTH[shorter as usize].len() < len {
            shorter += 1;
        }
        starts[len] = shorter;
        len += 1;
    }
    starts
}

fn is_common(name: &[u8]) -> bool {
    let (Some(start), Some(end)) = (STARTS.get(name.len()), STARTS.get(name.len() + 1)) else {
        return false;
    };
    let same_length = BY_LENGTH.get(usize::from(*start)..usize::from(*end));
    same_length
        .unwrap_or_default()
        .iter()
        .any(|common| common.as_bytes().eq_ignore_ascii_case(name))
}

/// The raw fields that `HEADER.FIELDS` or, with `not`, `HEADER.FIELDS.NOT` ask for, in the
/// message's order, and the empty line (RFC 3501 §6.4.5).
pub fn filter_fields<N: AsRef<[u8]>>(header: &[u8], names: &[N], not: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(if not { header.len() + 2 } else { 512 });
    for field in HeaderFields::new(header) {
        let named = names
            .iter()
            .any(|name| name.as_ref().eq_ignore_ascii_case(field.name()));
        if named != not {
            push_field(&mut out, field.raw());
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// Collects the raw [`COMMON_FIELDS`] of a header, without an empty line. None of them if they are
/// more than `limit` octets together: then the header itself has to be read.
#[derive(Debug)]
pub(crate) struct CommonFields {
    out: Vec<u8>,
    limit: usize,
    too_many: bool,
}

impl CommonFields {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            out: Vec::with_capacity(512),
            limit,
            too_many: false,
        }
    }

    pub(crate) fn add(&mut self, field: &HeaderField<'_>) {
        if self.too_many || !is_common(field.name()) {
            return;
        }
        self.too_many = self.out.len() + field.raw().len() + 2 > self.limit;
        if !self.too_many {
            push_field(&mut self.out, field.raw());
        }
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        if self.too_many { Vec::new() } else { self.out }
    }
}

fn push_field(out: &mut Vec<u8>, raw: &[u8]) {
    out.extend_from_slice(raw);
    if !raw.ends_with(b"\n") {
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &[u8] = b"To: a\r\n b\r\nSubject: s\r\nX: y\r\nTO: c\r\n\r\n";

    #[test]
    fn named_fields_in_the_order_of_the_message() {
        let names = ["subject", "to"];
        assert_eq!(
            filter_fields(HEADER, &names, false),
            b"To: a\r\n b\r\nSubject: s\r\nTO: c\r\n\r\n"
        );
        assert_eq!(filter_fields(HEADER, &names, true), b"X: y\r\n\r\n");
        assert_eq!(filter_fields(HEADER, &["none"], false), b"\r\n");
        assert_eq!(filter_fields(b"a: b", &["A"], false), b"a: b\r\n\r\n");
    }

    fn common_fields(header: &[u8], limit: usize) -> Vec<u8> {
        let mut common = CommonFields::new(limit);
        HeaderFields::new(header).for_each(|field| common.add(&field));
        common.finish()
    }

    #[test]
    fn common_fields_are_all_or_none() {
        assert_eq!(
            common_fields(HEADER, 100),
            b"To: a\r\n b\r\nSubject: s\r\nTO: c\r\n"
        );
        assert_eq!(common_fields(HEADER, 20), b"");
        assert!(all_common([&b"From"[..], b"SUBJECT"]));
        assert!(!all_common([&b"From"[..], b"X"]));
        assert!(all_common(COMMON_FIELDS.iter().map(|name| name.as_bytes())));
        assert!(!all_common([&b""[..]]) && !all_common([&[b'a'; 40][..]]));
    }
}
