//! Packed answers: pieces of many messages in one, as far as the index has them without looking at
//! a message, and all messages of a batch read with few calls.

use bytes::Bytes;
use mail_message::{PartIndex, Section};
use mail_rpc::convert::ConvertError;
use mail_rpc::packed::{Packer, Value};
use mail_rpc::pb::mailbox::v1 as pb;
use mail_types::{MailboxId, UidSet};
use mailbox_store::{Account, Message, Rendered, StoreError};
use pb::fetch_response::Item;
use pb::piece::Kind;

use super::{MESSAGES, PIECE, behind};
use crate::stores::StoreResult;

/// Octets after which an answer is sent.
const ANSWER: usize = 64 * 1024;
/// Messages up to this size are read whole, whatever is wanted of them.
const READ_WHOLE: u64 = 64 * 1024;
/// What a message may have in one answer, but for what the index keeps of it; larger sections are
/// fetched as content, where flow control holds back.
const INLINE: usize = 256 * 1024;
/// Pieces of one request.
const MAX_PIECES: usize = 1000;

/// What is wanted of each message.
pub(super) struct Plan {
    pieces: Vec<Want>,
    /// Needs more than the message's row.
    summary: bool,
    /// Needs octets of messages.
    content: bool,
}

enum Want {
    Body,
    BodyStructure,
    EmailId,
    Envelope,
    InternalDate,
    Section(Wanted),
    ThreadId,
}

struct Wanted {
    path: Vec<u32>,
    section: Section,
    fields: Option<Fields>,
    range: Option<pb::ByteRange>,
}

struct Fields {
    names: Vec<Bytes>,
    not: bool,
    /// The summary has all of them.
    common: bool,
}

impl Plan {
    pub(super) fn compile(pieces: Vec<pb::Piece>) -> Result<Self, ConvertError> {
        if pieces.len() > MAX_PIECES {
            return Err(ConvertError::new("pieces"));
        }
        let pieces: Vec<Want> = pieces.into_iter().map(want).collect::<Result<_, _>>()?;
        let summary = pieces.iter().any(|want| match want {
            Want::Body | Want::BodyStructure | Want::Envelope => true,
            Want::EmailId | Want::InternalDate | Want::ThreadId => false,
            Want::Section(wanted) => wanted.is_common() || wanted.needs_parts(),
        });
        let content = pieces
            .iter()
            .any(|want| matches!(want, Want::Section(wanted) if !wanted.is_common()));
        Ok(Self {
            pieces,
            summary,
            content,
        })
    }

    /// Writes a message whose pieces are all in the index.
    fn push_indexed(&self, message: &Message, rendered: &Rendered<'_>, packer: &mut Packer) {
        packer.begin(message.uid.get());
        for want in &self.pieces {
            push_want(want, message, rendered, packer, |wanted, packer| {
                push_unread(wanted, message, rendered, packer);
            });
        }
    }
}

fn want(piece: pb::Piece) -> Result<Want, ConvertError> {
    let section = match piece.section() {
        pb::piece::Section::Whole => Section::Whole,
        pb::piece::Section::Header => Section::Header,
        pb::piece::Section::Mime => Section::Mime,
        pb::piece::Section::Text => Section::Text,
    };
    Ok(match piece.kind() {
        Kind::Unspecified => return Err(ConvertError::new("piece")),
        Kind::Envelope => Want::Envelope,
        Kind::BodyStructure => Want::BodyStructure,
        Kind::Body => Want::Body,
        Kind::InternalDate => Want::InternalDate,
        Kind::EmailId => Want::EmailId,
        Kind::ThreadId => Want::ThreadId,
        Kind::Section => {
            let named = !piece.fields.is_empty() || piece.fields_not;
            let common = piece.path.is_empty()
                && !piece.fields_not
                && mail_message::all_common(piece.fields.iter().map(AsRef::as_ref));
            Want::Section(Wanted {
                path: piece.path,
                section,
                fields: named.then_some(Fields {
                    names: piece.fields,
                    not: piece.fields_not,
                    common,
                }),
                range: piece.range,
            })
        }
    })
}

impl Wanted {
    fn is_common(&self) -> bool {
        self.fields.as_ref().is_some_and(|fields| fields.common)
    }

    /// True if it takes more than the header's length to find it.
    fn needs_parts(&self) -> bool {
        !self.path.is_empty() || self.section == Section::Mime
    }

    /// Where in the message it is: first octet and the one behind; for fields the header.
    fn locate(&self, message: &Message, rendered: &Rendered<'_>) -> Option<(u64, u64)> {
        if self.needs_parts() {
            let parts = PartIndex::parse(rendered.parts).ok()?;
            let range = parts.locate(&self.path, self.section)?;
            return Some((range.start, range.end.max(range.start)));
        }
        let header = message.header_len.min(message.size);
        Some(match self.section {
            Section::Header => (0, header),
            Section::Text => (header, message.size),
            Section::Mime | Section::Whole => (0, message.size),
        })
    }

    /// What of octets the client wants.
    fn cut<'a>(&self, octets: &'a [u8]) -> &'a [u8] {
        let Some(range) = self.range else {
            return octets;
        };
        let index = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(octets.len());
        let start = index(range.offset);
        let end = match range.length {
            0 => octets.len(),
            length => index(range.offset.saturating_add(length)),
        };
        octets.get(start..end).unwrap_or_default()
    }

    /// How many octets [`Self::cut`] leaves of so many.
    fn cut_len(&self, len: u64) -> u64 {
        let Some(range) = self.range else { return len };
        let left = len.saturating_sub(range.offset);
        match range.length {
            0 => left,
            length => left.min(length),
        }
    }
}

/// Writes one piece; sections are the caller's, but for what the summary has.
fn push_want(
    want: &Want,
    message: &Message,
    rendered: &Rendered<'_>,
    packer: &mut Packer,
    section: impl FnOnce(&Wanted, &mut Packer),
) {
    match want {
        Want::Body => packer.push(Value::Octets(rendered.body)),
        Want::BodyStructure => packer.push(Value::Octets(rendered.body_structure)),
        Want::Envelope => packer.push(Value::Octets(rendered.envelope)),
        Want::EmailId => packer.push(Value::Octets(&message.email_id.to_bytes())),
        Want::ThreadId => packer.push(Value::Octets(&message.thread.to_le_bytes())),
        Want::InternalDate => {
            let mut date = [0; 12];
            let (seconds, offset) = date.split_at_mut(8);
            seconds.copy_from_slice(&message.internal_date.to_le_bytes());
            offset.copy_from_slice(&message.internal_offset.to_le_bytes());
            packer.push(Value::Octets(&date));
        }
        Want::Section(wanted) => match &wanted.fields {
            Some(fields) if fields.common && !rendered.common_fields.is_empty() => {
                let text =
                    mail_message::filter_fields(rendered.common_fields, &fields.names, false);
                packer.push(Value::Octets(wanted.cut(&text)));
            }
            _ => section(wanted, packer),
        },
    }
}

/// A section of a message that is not at hand.
fn push_unread(wanted: &Wanted, message: &Message, rendered: &Rendered<'_>, packer: &mut Packer) {
    packer.push(match wanted.locate(message, rendered) {
        Some((start, end)) => Value::Elsewhere {
            offset: start,
            length: end - start,
        },
        None => Value::Nil,
    });
}

/// A section of a message whose octets are at hand. `room` is what the message may still have.
fn push_section(
    wanted: &Wanted,
    message: &Message,
    rendered: &Rendered<'_>,
    content: &[u8],
    room: &mut usize,
    packer: &mut Packer,
) {
    let Some((start, end)) = wanted.locate(message, rendered) else {
        return packer.push(Value::Nil);
    };
    let index = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(content.len());
    let octets = content.get(index(start)..index(end)).unwrap_or_default();
    let filtered;
    let octets = match &wanted.fields {
        Some(fields) => {
            filtered = mail_message::filter_fields(octets, &fields.names, fields.not);
            filtered.as_slice()
        }
        None => octets,
    };
    let octets = wanted.cut(octets);
    match room.checked_sub(octets.len()) {
        Some(left) => {
            *room = left;
            packer.push(Value::Octets(octets));
        }
        None => push_unread(wanted, message, rendered, packer),
    }
}

/// A message that is to be read, with copies of what the index has of it.
struct Waiting {
    envelope: Vec<u8>,
    body_structure: Vec<u8>,
    body: Vec<u8>,
    parts: Vec<u8>,
    common_fields: Vec<u8>,
}

impl Waiting {
    fn new(rendered: &Rendered<'_>) -> Self {
        Self {
            envelope: rendered.envelope.to_vec(),
            body_structure: rendered.body_structure.to_vec(),
            body: rendered.body.to_vec(),
            parts: rendered.parts.to_vec(),
            common_fields: rendered.common_fields.to_vec(),
        }
    }

    fn rendered(&self) -> Rendered<'_> {
        Rendered {
            envelope: &self.envelope,
            body_structure: &self.body_structure,
            body: &self.body,
            parts: &self.parts,
            common_fields: &self.common_fields,
        }
    }
}

/// How far a packed request is.
pub(super) struct Packing {
    mailbox: MailboxId,
    plan: Plan,
    left: UidSet,
    found: UidSet,
    damaged: UidSet,
    buffer: Vec<u8>,
    packer: Packer,
    answers: Vec<Item>,
}

impl Packing {
    pub(super) fn new(mailbox: MailboxId, plan: Plan, uids: UidSet) -> Self {
        Self {
            mailbox,
            plan,
            left: uids,
            found: UidSet::new(),
            damaged: UidSet::new(),
            buffer: Vec::new(),
            packer: Packer::default(),
            answers: Vec::new(),
        }
    }

    /// Messages that were there, and those that are damaged.
    pub(super) fn outcome(&self) -> (&UidSet, &UidSet) {
        (&self.found, &self.damaged)
    }

    /// The next answers; false behind the last ones.
    pub(super) fn read(&mut self, account: &Account) -> StoreResult<(Vec<Item>, bool)> {
        let last = if self.plan.content {
            self.read_contents(account)?
        } else {
            self.read_index(account)?
        };
        if !self.packer.is_empty() {
            self.send();
        }
        Ok((std::mem::take(&mut self.answers), !last))
    }

    fn send(&mut self) {
        let data = self.packer.take();
        self.answers.push(Item::Packed(pb::Packed { data }));
    }

    /// Without a message's octets.
    fn read_index(&mut self, account: &Account) -> StoreResult<bool> {
        let Self {
            mailbox,
            plan,
            left,
            found,
            packer,
            answers,
            ..
        } = self;
        let mut last = None;
        let mut octets = 0;
        account.scan_messages(*mailbox, left, plan.summary, |message, rendered| {
            if packer.is_empty() {
                *packer = Packer::with_capacity(ANSWER + ANSWER / 4);
            }
            plan.push_indexed(&message, &rendered, packer);
            found.insert(message.uid);
            last = Some(message.uid);
            if packer.len() >= ANSWER {
                octets += packer.len();
                let data = packer.take();
                answers.push(Item::Packed(pb::Packed { data }));
            }
            octets < PIECE
        })?;
        Ok(match last {
            Some(uid) if octets >= PIECE => {
                self.left = behind(&self.left, uid);
                self.left.is_empty()
            }
            _ => true,
        })
    }

    fn read_contents(&mut self, account: &Account) -> StoreResult<bool> {
        let mut messages: Vec<Message> = Vec::new();
        let mut waiting = Vec::new();
        let mut octets = 0;
        let (mailbox, summary) = (self.mailbox, self.plan.summary);
        account.scan_messages(mailbox, &self.left, summary, |message, rendered| {
            octets += message.size.min(READ_WHOLE);
            messages.push(message);
            waiting.push(Waiting::new(&rendered));
            octets < PIECE as u64 && messages.len() < MESSAGES
        })?;
        let Some(last) = messages.last().map(|message| message.uid) else {
            return Ok(true);
        };
        let more = octets >= PIECE as u64 || messages.len() >= MESSAGES;
        let mut at = 0;
        while at < messages.len() {
            let rest = messages.get(at..).unwrap_or_default();
            let small = rest.iter().take_while(|one| one.size <= READ_WHOLE).count();
            if small > 0 {
                let run = rest.get(..small).unwrap_or_default();
                let kept = waiting.get(at..).unwrap_or_default();
                self.push_small(account, run, kept)?;
                at += small;
            } else if let (Some(message), Some(kept)) = (rest.first(), waiting.get(at)) {
                self.push_large(account, message, kept)?;
                at += 1;
            }
        }
        self.left = behind(&self.left, last);
        Ok(!more || self.left.is_empty())
    }

    fn push_small(
        &mut self,
        account: &Account,
        messages: &[Message],
        waiting: &[Waiting],
    ) -> StoreResult<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut trouble = None;
        account.read_contents(messages, &mut buffer, |at, content| {
            let (Some(message), Some(kept)) = (messages.get(at), waiting.get(at)) else {
                return false;
            };
            match content {
                Ok(content) => self.push_read(message, kept, content),
                Err(StoreError::Damaged { .. }) => {
                    self.found.insert(message.uid);
                    self.damaged.insert(message.uid);
                }
                Err(error) => {
                    trouble = Some(error);
                    return false;
                }
            }
            true
        })?;
        self.buffer = buffer;
        trouble.map_or(Ok(()), |error| Err(error.into()))
    }

    fn push_read(&mut self, message: &Message, kept: &Waiting, content: &[u8]) {
        if self.packer.is_empty() {
            self.packer = Packer::with_capacity(ANSWER + ANSWER / 4);
        }
        let rendered = kept.rendered();
        let mut room = INLINE;
        self.packer.begin(message.uid.get());
        for want in &self.plan.pieces {
            push_want(
                want,
                message,
                &rendered,
                &mut self.packer,
                |wanted, packer| {
                    push_section(wanted, message, &rendered, content, &mut room, packer);
                },
            );
        }
        self.found.insert(message.uid);
        if self.packer.len() >= ANSWER {
            self.send();
        }
    }

    /// Of a large message only what is wanted is read; what is large too comes by itself.
    fn push_large(
        &mut self,
        account: &Account,
        message: &Message,
        kept: &Waiting,
    ) -> StoreResult<()> {
        let rendered = kept.rendered();
        let mut room = INLINE;
        let mut trouble = None;
        let begin = self.packer.len();
        self.packer.begin(message.uid.get());
        for want in &self.plan.pieces {
            push_want(
                want,
                message,
                &rendered,
                &mut self.packer,
                |wanted, packer| {
                    let read = read_section(account, wanted, message, &rendered, room);
                    match read {
                        Ok(Some(octets)) => {
                            room = room.saturating_sub(octets.len());
                            packer.push(Value::Octets(&octets));
                        }
                        Ok(None) => push_unread(wanted, message, &rendered, packer),
                        Err(error) => trouble = Some(error),
                    }
                },
            );
        }
        self.found.insert(message.uid);
        match trouble {
            None => {}
            Some(StoreError::Damaged { .. }) => {
                self.packer.truncate(begin);
                self.damaged.insert(message.uid);
            }
            Some(error) => return Err(error.into()),
        }
        if self.packer.len() >= ANSWER {
            self.send();
        }
        Ok(())
    }
}

/// A section of a large message, or `None` if it is not there or too large itself.
fn read_section(
    account: &Account,
    wanted: &Wanted,
    message: &Message,
    rendered: &Rendered<'_>,
    room: usize,
) -> Result<Option<Vec<u8>>, StoreError> {
    let Some((start, end)) = wanted.locate(message, rendered) else {
        return Ok(None);
    };
    let room = (room as u64).min(READ_WHOLE);
    let Some(fields) = &wanted.fields else {
        let len = wanted.cut_len(end - start);
        if len > room {
            return Ok(None);
        }
        let offset = wanted.range.map_or(0, |range| range.offset);
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        return account
            .read_content(message, start.saturating_add(offset), len)
            .map(Some);
    };
    if end - start > room {
        return Ok(None);
    }
    let len = usize::try_from(end - start).unwrap_or(usize::MAX);
    let header = account.read_content(message, start, len)?;
    let text = mail_message::filter_fields(&header, &fields.names, fields.not);
    Ok(Some(wanted.cut(&text).to_vec()))
}
