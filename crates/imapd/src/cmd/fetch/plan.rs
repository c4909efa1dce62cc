//! What a FETCH has to write for each message, and what it has to ask for.

use imap_proto::encode::{self, FetchResponse};
use imap_proto::{DateTime, FetchItem};
use mail_rpc::packed::Value;
use mail_rpc::pb::mailbox::v1 as pb;
use mail_types::{EmailId, MailboxId};
use pb::piece::Kind;

use super::section::Wanted;
use crate::mailboxes::Entry;
use crate::view::{View, number};

/// The steps of one response, in their order.
pub(super) struct Plan {
    pub(super) local: Vec<Local>,
    pub(super) asked: Vec<Asked>,
    pub(super) pieces: Vec<pb::Piece>,
}

/// What the view knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Local {
    Flags,
    ModSeq,
    Size,
    Uid,
}

/// What the store knows.
pub(super) enum Asked {
    /// As it is sent.
    AsIs(&'static str),
    EmailId,
    InternalDate,
    Section(Wanted),
    ThreadId,
}

impl Plan {
    pub(super) fn new(items: &[FetchItem]) -> Self {
        let mut plan = Self {
            local: Vec::new(),
            asked: Vec::new(),
            pieces: Vec::new(),
        };
        for (at, item) in items.iter().enumerate() {
            // Twice the same is answered once, so that a short command makes no long answers.
            if !items.get(..at).unwrap_or_default().contains(item) {
                plan.add(item);
            }
        }
        plan
    }

    fn add(&mut self, item: &FetchItem) {
        let local = match item {
            FetchItem::Flags => Local::Flags,
            FetchItem::ModSeq => Local::ModSeq,
            FetchItem::Rfc822Size => Local::Size,
            FetchItem::Uid => Local::Uid,
            FetchItem::Body => return self.ask(Asked::AsIs("BODY"), Kind::Body),
            FetchItem::BodyStructure => {
                return self.ask(Asked::AsIs("BODYSTRUCTURE"), Kind::BodyStructure);
            }
            FetchItem::Envelope => return self.ask(Asked::AsIs("ENVELOPE"), Kind::Envelope),
            FetchItem::EmailId => return self.ask(Asked::EmailId, Kind::EmailId),
            FetchItem::InternalDate => return self.ask(Asked::InternalDate, Kind::InternalDate),
            FetchItem::ThreadId => return self.ask(Asked::ThreadId, Kind::ThreadId),
            FetchItem::BodySection(_)
            | FetchItem::Rfc822
            | FetchItem::Rfc822Header
            | FetchItem::Rfc822Text => {
                if let Some(wanted) = Wanted::of(item) {
                    self.pieces.push(wanted.piece());
                    self.asked.push(Asked::Section(wanted));
                }
                return;
            }
        };
        self.local.push(local);
    }

    fn ask(&mut self, asked: Asked, kind: Kind) {
        self.asked.push(asked);
        self.pieces.push(pb::Piece {
            kind: kind.into(),
            ..pb::Piece::default()
        });
    }

    /// How many octets the store answers at most for a message, but for what a summary has.
    pub(super) fn content(&self, size: u64) -> u64 {
        let sections = self.asked.iter().filter_map(|asked| match asked {
            Asked::Section(wanted) if !wanted.is_common() => Some(wanted.cut((0, size)).1),
            _ => None,
        });
        sections.sum()
    }
}

/// Begins a response with what the view knows.
pub(super) fn begin<'a>(
    out: &'a mut Vec<u8>,
    view: &View,
    (place, entry): (usize, Entry),
    local: &[Local],
) -> FetchResponse<'a> {
    let mut response = FetchResponse::begin(out, number(place + 1));
    for item in local {
        match item {
            Local::Uid => response.number("UID", entry.uid.into()),
            Local::Size => response.number("RFC822.SIZE", entry.size),
            Local::ModSeq => response.modseq(entry.modseq),
            Local::Flags => {
                let out = response.item("FLAGS");
                let is_recent = view.is_recent(entry.uid);
                encode::push_flags(out, entry.flags, &view.told.keywords, is_recent);
            }
        }
    }
    response
}

/// Writes an item with a value that came, unless it is a section that has to be fetched by itself:
/// then its name alone is written, and the answer is false.
pub(super) fn push(response: &mut FetchResponse<'_>, asked: &Asked, value: Value<'_>) -> bool {
    let octets = match value {
        Value::Octets(octets) => octets,
        Value::Nil | Value::Elsewhere { .. } => b"",
    };
    match asked {
        Asked::AsIs(name) => response.item(name).extend_from_slice(octets),
        Asked::EmailId => {
            let id: [u8; 16] = octets.try_into().unwrap_or_default();
            let text = format!("(M{})", EmailId::from(id));
            response.item("EMAILID").extend_from_slice(text.as_bytes());
        }
        Asked::ThreadId => {
            let id = u64::from_le_bytes(octets.try_into().unwrap_or_default());
            let text = format!("(T{})", MailboxId::from(id));
            response.item("THREADID").extend_from_slice(text.as_bytes());
        }
        Asked::InternalDate => {
            let (seconds, offset) = octets.split_at_checked(8).unwrap_or_default();
            let date = DateTime {
                seconds: i64::from_le_bytes(seconds.try_into().unwrap_or_default()),
                offset: i32::from_le_bytes(offset.try_into().unwrap_or_default()),
            };
            let text = format!("\"{date}\"");
            response
                .item("INTERNALDATE")
                .extend_from_slice(text.as_bytes());
        }
        Asked::Section(wanted) => {
            let out = response.separate();
            out.extend_from_slice(&wanted.name);
            out.push(b' ');
            match value {
                Value::Octets(octets) => push_literal(out, octets),
                Value::Nil => out.extend_from_slice(b"NIL"),
                Value::Elsewhere { .. } => return false,
            }
        }
    }
    true
}

pub(super) fn push_literal(out: &mut Vec<u8>, octets: &[u8]) {
    encode::push_literal_head(out, octets.len() as u64);
    out.extend_from_slice(octets);
}
