//! FETCH (RFC 3501 §6.4.5). What the view knows needs no round trip; all else comes in one stream,
//! many messages in one answer, but for large sections, which are fetched by themselves.

mod plan;
mod section;

use std::io;

use daemon_kit::NetStream;
use imap_proto::encode::{self, FetchResponse};
use imap_proto::{Code, FetchItem, SequenceSet, Tag};
use mail_rpc::mailbox::Fetched;
use mail_rpc::packed::{Unpacker, Value};
use mail_rpc::pb::mailbox::v1 as pb;
use mail_types::SystemFlag;
use pb::fetch_response::Item;
use tonic::Status;
use tracing::warn;

use self::plan::{Asked, Plan};
use self::section::Wanted;
use super::store::no_such_message;
use crate::Shared;
use crate::answer::{No, check};
use crate::connection::flush;
use crate::conversation::Conversation;
use crate::mailboxes::Entry;
use crate::view::View;

/// Octets that may wait to be sent.
const OUTPUT: usize = 64 * 1024;
/// More octets of one header than this are not looked through for fields.
const MAX_HEADER: u64 = 4 * 1024 * 1024;

/// What ends a FETCH early.
enum Stop {
    /// The connection, or a literal that cannot be finished.
    Io(io::Error),
    No(No),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Status> for Stop {
    fn from(status: Status) -> Self {
        Self::No(status.into())
    }
}

/// What the steps of a FETCH share.
struct Work<'a> {
    shared: &'a Shared,
    view: &'a View,
    plan: &'a Plan,
    out: &'a mut Vec<u8>,
    stream: &'a mut NetStream,
    /// Messages that were answered.
    answered: usize,
    /// Octets of `out` that the connection has got already: what is behind can be taken back.
    flushed: bool,
}

impl Conversation {
    pub(super) async fn fetch(
        &mut self,
        stream: &mut NetStream,
        tag: &Tag,
        uid: bool,
        set: &SequenceSet,
        mut items: Vec<FetchItem>,
        changed_since: Option<u64>,
    ) -> io::Result<()> {
        self.condstore |= changed_since.is_some() || items.contains(&FetchItem::ModSeq);
        if uid && !items.contains(&FetchItem::Uid) {
            items.insert(0, FetchItem::Uid);
        }
        if changed_since.is_some() && !items.contains(&FetchItem::ModSeq) {
            items.push(FetchItem::ModSeq);
        }
        let Some(view) = &self.view else {
            self.bad(tag, "no mailbox is selected");
            return Ok(());
        };
        let Some(mut places) = view.places(set, uid) else {
            self.bad(tag, no_such_message());
            return Ok(());
        };
        if let Some(since) = changed_since {
            let there = view.told.rows.at(places.into_iter());
            let changed = there.filter(|(_, entry)| entry.modseq > since);
            places = changed.map(|(place, _)| place).collect();
        }
        let seen = if items.iter().any(FetchItem::sets_seen) {
            self.mark_seen(&places).await
        } else {
            None
        };
        if seen.is_some() {
            // RFC 3501 §6.4.5: flags that change are told.
            if !items.contains(&FetchItem::Flags) {
                items.push(FetchItem::Flags);
            }
        }
        let plan = Plan::new(&items);
        let result = match &self.view {
            Some(view) if !places.is_empty() => {
                let out = &mut self.out;
                let shared = &self.shared;
                let mut work = Work {
                    shared,
                    view,
                    plan: &plan,
                    out,
                    stream,
                    answered: 0,
                    flushed: false,
                };
                work.run(&places)
                    .await
                    .map(|()| work.answered < places.len())
            }
            _ => Ok(false),
        };
        if let (Some(modseq), Some(view), Ok(_)) = (seen, &mut self.view, &result) {
            view.reach(modseq).await;
        }
        match result {
            Ok(false) => {
                self.update(uid).await;
                self.ok(tag, None, "FETCH done");
            }
            Ok(true) => {
                self.update(uid).await;
                let code = Some(Code::ExpungeIssued);
                No::new(code, "some messages are gone or damaged").push(&mut self.out, tag);
            }
            Err(Stop::No(no)) => no.push(&mut self.out, tag),
            Err(Stop::Io(error)) => return Err(error),
        }
        Ok(())
    }

    /// Sets `\Seen`; the MODSEQ behind it if that changed anything.
    async fn mark_seen(&mut self, places: &[usize]) -> Option<u64> {
        let view = self.view.as_mut()?;
        let there = view.told.rows.at(places.iter().copied());
        let unseen = there.filter(|(_, entry)| !entry.flags.has(SystemFlag::Seen));
        let unseen: Vec<usize> = unseen.map(|(place, _)| place).collect();
        if view.read_only || unseen.is_empty() {
            return None;
        }
        let seen = mail_types::Flags::from(SystemFlag::Seen).bits();
        let request = pb::StoreRequest {
            account_id: view.account(),
            mailbox_id: view.mailbox_id(),
            uids: Some(view.uid_set(&unseen)),
            mode: pb::store_request::Mode::Add.into(),
            flags: Some(pb::FlagNames {
                system: seen,
                keywords: Vec::new(),
            }),
            unchanged_since: None,
        };
        match self.shared.store.clone().store(request).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                if let Err(no) = check(answer.failure) {
                    warn!(reason = no.text, "cannot set \\Seen");
                    return None;
                }
                view.learn(&answer.messages, &answer.keywords, &mut self.out);
                Some(answer.modseq)
            }
            Err(status) => {
                // The message can be read all the same.
                warn!(%status, "cannot set \\Seen");
                None
            }
        }
    }
}

impl Work<'_> {
    async fn run(&mut self, places: &[usize]) -> Result<(), Stop> {
        if self.plan.pieces.is_empty() {
            self.local(places).await
        } else {
            self.asked(places).await
        }
    }

    async fn local(&mut self, places: &[usize]) -> Result<(), Stop> {
        let view = self.view;
        for message in view.told.rows.at(places.iter().copied()) {
            plan::begin(self.out, view, message, &self.plan.local).end();
            self.answered += 1;
            if self.out.len() >= OUTPUT {
                flush(self.out, self.stream).await?;
            }
        }
        Ok(())
    }

    fn request(&self, places: &[usize]) -> pb::FetchRequest {
        pb::FetchRequest {
            account_id: self.view.account(),
            mailbox_id: self.view.mailbox_id(),
            uids: Some(self.view.uid_set(places)),
            ..pb::FetchRequest::default()
        }
    }

    /// What the store knows comes for many messages in one answer, in the order of their UIDs.
    async fn asked(&mut self, places: &[usize]) -> Result<(), Stop> {
        let request = pb::FetchRequest {
            pieces: self.plan.pieces.clone(),
            ..self.request(places)
        };
        let view = self.view;
        let mut next = view.told.rows.at(places.iter().copied());
        let entries = view.told.rows.at(places.iter().copied());
        let octets = entries.map(|(_, entry)| self.plan.content(entry.size));
        let bytes = octets.sum();
        let mut fetched = self.shared.fetcher.fetch(request, bytes).await?;
        while let Some(item) = fetched.next().await {
            match item? {
                Item::Packed(packed) => self.packed(&packed.data, &mut next).await?,
                Item::Summary(_) | Item::Content(_) => {}
                // Gone and damaged messages are those that were not answered.
                Item::Done(done) => return check(done.failure).map_err(Stop::No),
            }
        }
        Err(Status::unavailable("the mailbox stream broke").into())
    }

    async fn packed(
        &mut self,
        data: &[u8],
        next: &mut impl Iterator<Item = (usize, Entry)>,
    ) -> Result<(), Stop> {
        let mut unpacker = Unpacker::new(data);
        let mut values = Vec::new();
        let pieces = self.plan.pieces.len();
        while let Some(uid) = unpacker.next(pieces, &mut values).map_err(Status::from)? {
            // Messages that the client does not know of yet are not among its numbers.
            let message = next.find(|(_, entry)| entry.uid >= uid);
            let Some(message) = message.filter(|(_, entry)| entry.uid == uid) else {
                return Err(Status::internal("a message came that was not asked for").into());
            };
            self.message(message, &values).await?;
            if self.out.len() >= OUTPUT {
                flush(self.out, self.stream).await?;
            }
        }
        Ok(())
    }

    /// One message. One that cannot be read is left out, as long as nothing of it is sent; the
    /// others are answered all the same.
    async fn message(&mut self, message: (usize, Entry), values: &[Value<'_>]) -> Result<(), Stop> {
        let begin = self.out.len();
        let mut response = plan::begin(self.out, self.view, message, &self.plan.local);
        let mut steps = self.plan.asked.iter().zip(values);
        for (asked, value) in steps.by_ref() {
            if !plan::push(&mut response, asked, *value) {
                break;
            }
        }
        let large = self
            .plan
            .asked
            .iter()
            .zip(values)
            .any(|(_, value)| matches!(value, Value::Elsewhere { .. }));
        if !large {
            response.end();
            self.answered += 1;
            return Ok(());
        }
        self.out.truncate(begin);
        self.flushed = false;
        match Box::pin(self.large_message(message, values)).await {
            Ok(()) => self.answered += 1,
            Err(stop) if self.flushed => return Err(half_written(stop)),
            Err(_) => self.out.truncate(begin),
        }
        Ok(())
    }

    /// One with sections that are fetched by themselves, and sent as they come.
    async fn large_message(
        &mut self,
        message: (usize, Entry),
        values: &[Value<'_>],
    ) -> Result<(), Stop> {
        let mut is_empty = plan::begin(self.out, self.view, message, &self.plan.local).is_empty();
        for (asked, value) in self.plan.asked.iter().zip(values) {
            let mut response = FetchResponse::resume(self.out, is_empty);
            is_empty = false;
            let written = plan::push(&mut response, asked, *value);
            if let (false, Asked::Section(wanted), Value::Elsewhere { offset, length }) =
                (written, asked, *value)
            {
                self.section(message.0, wanted, (offset, length)).await?;
            }
        }
        self.out.extend_from_slice(b")\r\n");
        Ok(())
    }

    async fn section(
        &mut self,
        place: usize,
        wanted: &Wanted,
        range: (u64, u64),
    ) -> Result<(), Stop> {
        if let Some((names, not)) = wanted.fields() {
            let header = self.read(place, (range.0, range.1.min(MAX_HEADER))).await?;
            let text = mail_message::filter_fields(&header, names, not);
            push_cut(self.out, wanted, &text);
            return Ok(());
        }
        self.stream_range(place, wanted.cut(range)).await
    }

    async fn open(&self, place: usize, (offset, length): (u64, u64)) -> Result<Fetched, Stop> {
        let request = pb::FetchRequest {
            content: Some(pb::ByteRange { offset, length }),
            ..self.request(&[place])
        };
        Ok(self.shared.fetcher.fetch(request, length).await?)
    }

    /// Octets of a message in memory.
    async fn read(&mut self, place: usize, range: (u64, u64)) -> Result<Vec<u8>, Stop> {
        let mut octets = Vec::new();
        if range.1 == 0 {
            return Ok(octets);
        }
        let mut fetched = self.open(place, range).await?;
        while let Some(item) = fetched.next().await {
            match item? {
                Item::Content(content) => octets.extend_from_slice(&content.data),
                Item::Summary(_) | Item::Packed(_) => {}
                Item::Done(done) => {
                    check(done.failure).map_err(Stop::No)?;
                    break;
                }
            }
        }
        if octets.len() as u64 != range.1 {
            return Err(cut_short());
        }
        Ok(octets)
    }

    /// A literal with octets of a message, sent as they come.
    async fn stream_range(&mut self, place: usize, range: (u64, u64)) -> Result<(), Stop> {
        encode::push_literal_head(self.out, range.1);
        let mut left = range.1;
        if left == 0 {
            return Ok(());
        }
        let mut fetched = self.open(place, range).await?;
        while left > 0 {
            match fetched.next().await {
                Some(Ok(Item::Content(content))) => {
                    let len = content.data.len() as u64;
                    if len > left {
                        break;
                    }
                    left -= len;
                    self.out.extend_from_slice(&content.data);
                    if self.out.len() >= OUTPUT {
                        self.flushed = true;
                        flush(self.out, self.stream).await?;
                    }
                }
                Some(Ok(Item::Summary(_) | Item::Packed(_))) => {}
                Some(Ok(Item::Done(_)) | Err(_)) | None => break,
            }
        }
        if left > 0 { Err(cut_short()) } else { Ok(()) }
    }
}

/// Behind half a response nothing else can be said.
fn half_written(stop: Stop) -> Stop {
    match stop {
        Stop::Io(error) => Stop::Io(error),
        Stop::No(no) => Stop::Io(io::Error::other(no.text)),
    }
}

/// In the middle of a literal only the end of the connection tells that it is not complete.
fn cut_short() -> Stop {
    Stop::Io(io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "a message could not be read to its end",
    ))
}

/// A string of which the client may want a part.
fn push_cut(out: &mut Vec<u8>, wanted: &Wanted, text: &[u8]) {
    let (start, len) = wanted.cut((0, text.len() as u64));
    let index = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let part = text
        .get(index(start)..index(start.saturating_add(len)))
        .unwrap_or_default();
    plan::push_literal(out, part);
}
