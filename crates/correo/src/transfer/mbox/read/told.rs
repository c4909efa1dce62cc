//! What a message in an mbox says of itself.

use crate::transfer::lines;
use crate::transfer::mbox::{KEPT, OURS, STATUS, field, is_from};

/// What our fields say, and the message without them.
#[derive(Default)]
pub(super) struct Told {
    pub(super) uid: u32,
    pub(super) system: u64,
    pub(super) keywords: Vec<String>,
    /// UIDVALIDITY and the last UID.
    pub(super) base: Option<(u32, u32)>,
    /// No message: what c-client and Dovecot keep in an empty mailbox.
    pub(super) is_internal: bool,
    pub(super) content: Vec<u8>,
}

impl Told {
    pub(super) fn split(octets: &[u8]) -> Self {
        let mut told = Self {
            content: Vec::with_capacity(octets.len()),
            ..Self::default()
        };
        let mut in_header = true;
        let mut skips = false;
        for line in lines::split(octets) {
            in_header &= !matches!(line, b"\n" | b"\r\n");
            if in_header {
                // The end of a field that goes over several lines. Ours have one, at the head.
                let goes_on = line.starts_with(b" ") || line.starts_with(b"\t");
                if goes_on && skips && !told.content.is_empty() {
                    continue;
                }
                skips = told.take(line);
                if skips {
                    continue;
                }
                if let Some(own) = line.strip_prefix(KEPT.as_bytes()) {
                    told.content.extend(own);
                    continue;
                }
            }
            let quoted = line.strip_prefix(b">").filter(|rest| is_from(rest));
            told.content.extend(quoted.unwrap_or(line));
        }
        told
    }

    /// True if the line is a field of ours.
    fn take(&mut self, line: &[u8]) -> bool {
        let Some(name) = field(line).filter(|name| OURS.contains(&&**name)) else {
            return false;
        };
        let value = line.get(name.len() + 1..).unwrap_or_default();
        let value = String::from_utf8_lossy(value).trim().to_owned();
        match &*name {
            "x-uid" => self.uid = value.parse().unwrap_or(0),
            "status" | "x-status" => {
                let has = |letter: u8| value.bytes().any(|one| one == letter);
                let set = STATUS.iter().filter(|(letter, _)| has(*letter));
                self.system = set.fold(self.system, |all, (_, bit)| all | bit);
            }
            "x-keywords" => {
                let words = value.split_ascii_whitespace().map(str::to_owned);
                self.keywords.extend(words);
            }
            "x-imapbase" | "x-imap" => {
                let mut numbers = value.split_ascii_whitespace().map(str::parse);
                if let (Some(Ok(validity)), Some(Ok(last))) = (numbers.next(), numbers.next()) {
                    self.base = Some((validity, last));
                }
                self.is_internal = name == "x-imap";
            }
            _ => {}
        }
        true
    }
}
