//! FETCH (RFC 3501 §6.4.5). What the view knows needs no round trip; summaries come in one stream;
//! whole messages in one stream with flow control; other sections message by message.

use std::io;

use daemon_kit::NetStream;
use imap_proto::encode::{self, FetchResponse};
use imap_proto::{Code, DateTime, FetchItem, SequenceSet, Tag};
use mail_message::PartIndex;
use mail_rpc::mailbox::Fetched;
use mail_rpc::pb::mailbox::v1 as pb;
use mail_types::{EmailId, MailboxId, SystemFlag};
use pb::fetch_response::Item;
use tonic::Status;
use tracing::warn;

use super::section::Wanted;
use super::store::no_such_message;
use crate::Shared;
use crate::answer::{No, check};
use crate::connection::flush;
use crate::conversation::Conversation;
use crate::view::View;

/// Octets that may wait to be sent.
const OUTPUT: usize = 64 * 1024;
/// More octets of one header than this are not looked through for fields.
const MAX_HEADER: u64 = 4 * 1024 * 1024;

/// What has to be had from the store.
struct Plan {
    items: Vec<FetchItem>,
    wanted: Vec<Wanted>,
    summary: bool,
}

impl Plan {
    fn new(items: Vec<FetchItem>) -> Self {
        let wanted: Vec<Wanted> = items.iter().filter_map(Wanted::of).collect();
        let from_summary = |item: &FetchItem| {
            matches!(
                item,
                FetchItem::Body
                    | FetchItem::BodyStructure
                    | FetchItem::EmailId
                    | FetchItem::Envelope
                    | FetchItem::InternalDate
                    | FetchItem::ThreadId
            )
        };
        let summary = items.iter().any(from_summary) || wanted.iter().any(|w| !w.is_whole());
        Self {
            items,
            wanted,
            summary,
        }
    }

    /// One section, the message itself: its octets can come in one stream for all messages.
    fn whole(&self) -> Option<&Wanted> {
        match self.wanted.as_slice() {
            [only] if only.is_whole() => Some(only),
            _ => None,
        }
    }
}

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
            places.retain(|place| view.messages.get(*place).is_some_and(|e| e.modseq > since));
        }
        if items.iter().any(FetchItem::sets_seen) && self.mark_seen(&places).await {
            // RFC 3501 §6.4.5: flags that change are told.
            if !items.contains(&FetchItem::Flags) {
                items.push(FetchItem::Flags);
            }
        }
        let plan = Plan::new(items);
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

    /// Sets `\Seen`; true if that changed anything.
    async fn mark_seen(&mut self, places: &[usize]) -> bool {
        let Some(view) = &mut self.view else {
            return false;
        };
        let unseen: Vec<usize> = places
            .iter()
            .copied()
            .filter(|place| {
                view.messages
                    .get(*place)
                    .is_some_and(|entry| !entry.flags.has(SystemFlag::Seen))
            })
            .collect();
        if view.read_only || unseen.is_empty() {
            return false;
        }
        let seen = mail_types::Flags::from(SystemFlag::Seen).bits();
        let request = pb::StoreRequest {
            account_id: view.account,
            mailbox_id: view.mailbox_id,
            uids: Some(view.uid_set(&unseen)),
            mode: pb::store_request::Mode::Add.into(),
            flags: Some(pb::FlagNames {
                system: seen,
                keywords: Vec::new(),
            }),
            unchanged_since: None,
        };
        match self.shared.mailboxes.clone().store(request).await {
            Ok(answer) => {
                view.learn(&answer.into_inner().messages);
                true
            }
            Err(status) => {
                // The message can be read all the same.
                warn!(%status, "cannot set \\Seen");
                false
            }
        }
    }
}

impl Work<'_> {
    async fn run(&mut self, places: &[usize]) -> Result<(), Stop> {
        if self.plan.wanted.is_empty() && !self.plan.summary {
            return self.local(places).await;
        }
        match self.plan.whole() {
            Some(wanted) => self.whole(places, wanted).await,
            None if self.plan.summary => self.summaries(places).await,
            None => self.each_whole(places).await,
        }
    }

    async fn local(&mut self, places: &[usize]) -> Result<(), Stop> {
        for place in places {
            let mut response = FetchResponse::begin(self.out, number(*place));
            push_local(&mut response, self.view, *place, &self.plan.items);
            response.end();
            self.answered += 1;
            self.relieve().await?;
        }
        Ok(())
    }

    /// Sends what waits, if it is much.
    async fn relieve(&mut self) -> Result<(), Stop> {
        if self.out.len() >= OUTPUT {
            self.flushed = true;
            flush(self.out, self.stream).await?;
        }
        Ok(())
    }

    fn request(&self, places: &[usize]) -> pb::FetchRequest {
        pb::FetchRequest {
            account_id: self.view.account,
            mailbox_id: self.view.mailbox_id,
            uids: Some(self.view.uid_set(places)),
            summary: self.plan.summary,
            ..pb::FetchRequest::default()
        }
    }

    /// Items of summaries, and sections that they lead to.
    async fn summaries(&mut self, places: &[usize]) -> Result<(), Stop> {
        let mut fetched = self.shared.fetcher.fetch(self.request(places), 0).await?;
        while let Some(item) = fetched.next().await {
            match item? {
                Item::Summary(summary) => {
                    // Messages that the client does not know of yet are not among its numbers.
                    let Some(place) = self.view.find(summary.uid) else {
                        continue;
                    };
                    self.message(place, Some(&summary)).await?;
                    self.relieve().await?;
                }
                Item::Content(_) => {}
                Item::Done(done) => return Self::done(done),
            }
        }
        Err(Status::unavailable("the mailbox stream broke").into())
    }

    /// The message itself under several names, and nothing else that needs a summary.
    async fn each_whole(&mut self, places: &[usize]) -> Result<(), Stop> {
        for place in places {
            self.message(*place, None).await?;
            self.relieve().await?;
        }
        Ok(())
    }

    /// Gone and damaged messages are those that were not answered.
    fn done(done: pb::FetchDone) -> Result<(), Stop> {
        check(done.failure).map_err(Stop::No)
    }

    /// One message with its sections. One that cannot be read is left out, as long as nothing of it
    /// is sent; the others are answered all the same.
    async fn message(&mut self, place: usize, summary: Option<&pb::Summary>) -> Result<(), Stop> {
        let begin = self.out.len();
        self.flushed = false;
        match self.write_message(place, summary).await {
            Ok(()) => self.answered += 1,
            Err(stop) if self.flushed => return Err(half_written(stop)),
            Err(_) => self.out.truncate(begin),
        }
        Ok(())
    }

    async fn write_message(
        &mut self,
        place: usize,
        summary: Option<&pb::Summary>,
    ) -> Result<(), Stop> {
        let mut response = FetchResponse::begin(self.out, number(place));
        push_local(&mut response, self.view, place, &self.plan.items);
        if let Some(summary) = summary {
            push_summary(&mut response, summary, &self.plan.items);
        }
        if self.plan.wanted.is_empty() {
            response.end();
            return Ok(());
        }
        let mut first = response.is_empty();
        let stored = summary.map_or(&b""[..], |summary| &summary.parts);
        let parts = PartIndex::parse(stored).unwrap_or_else(|_| PartIndex::of_message(b""));
        for wanted in &self.plan.wanted {
            if !first {
                self.out.push(b' ');
            }
            first = false;
            self.out.extend_from_slice(&wanted.name);
            self.out.push(b' ');
            self.section(place, wanted, &parts, summary).await?;
        }
        self.out.extend_from_slice(b")\r\n");
        Ok(())
    }

    async fn section(
        &mut self,
        place: usize,
        wanted: &Wanted,
        parts: &PartIndex,
        summary: Option<&pb::Summary>,
    ) -> Result<(), Stop> {
        if let (true, Some(summary), Some((names, _))) =
            (wanted.is_common(), summary, wanted.fields())
            && !summary.common_fields.is_empty()
        {
            let text = mail_message::filter_fields(&summary.common_fields, names, false);
            push_cut(self.out, wanted, &text);
            return Ok(());
        }
        let size = self.view.messages.get(place).map_or(0, |entry| entry.size);
        let Some(range) = wanted.range(parts, size) else {
            self.out.extend_from_slice(b"NIL");
            return Ok(());
        };
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
            summary: false,
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
                Item::Summary(_) => {}
                Item::Done(done) => {
                    Self::done(done)?;
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
                    self.relieve().await?;
                }
                Some(Ok(Item::Summary(_))) => {}
                Some(Ok(Item::Done(_)) | Err(_)) | None => break,
            }
        }
        if left > 0 { Err(cut_short()) } else { Ok(()) }
    }

    /// Whole messages in one stream for all of them.
    async fn whole(&mut self, places: &[usize], wanted: &Wanted) -> Result<(), Stop> {
        let (offset, length) = wanted.partial.unwrap_or((0, 0));
        let request = pb::FetchRequest {
            content: Some(pb::ByteRange { offset, length }),
            ..self.request(places)
        };
        let sizes = places
            .iter()
            .filter_map(|place| self.view.messages.get(*place));
        let bytes = sizes.map(|entry| wanted.cut((0, entry.size)).1).sum();
        let mut fetched = self.shared.fetcher.fetch(request, bytes).await?;
        let mut summary = None;
        // The message under way, and how many octets of it are still to come.
        let mut current: Option<(u32, u64)> = None;
        while let Some(item) = fetched.next().await {
            let item = match item {
                Ok(item) => item,
                Err(_) if current.is_some() => return Err(cut_short()),
                Err(status) => return Err(status.into()),
            };
            match item {
                Item::Summary(found) => summary = Some(found),
                Item::Content(content) => {
                    let Some(place) = self.view.find(content.uid) else {
                        continue;
                    };
                    let left = match current {
                        Some((uid, left)) if uid == content.uid => left,
                        Some(_) => return Err(cut_short()),
                        None => self.begin_whole(place, wanted, summary.take().as_ref()),
                    };
                    let len = content.data.len() as u64;
                    if len > left {
                        return Err(cut_short());
                    }
                    self.out.extend_from_slice(&content.data);
                    current = Some((content.uid, left - len));
                    if content.last {
                        if left > len {
                            return Err(cut_short());
                        }
                        self.out.extend_from_slice(b")\r\n");
                        self.answered += 1;
                        current = None;
                    }
                    self.relieve().await?;
                }
                Item::Done(_) if current.is_some() => return Err(cut_short()),
                Item::Done(done) => return Self::done(done),
            }
        }
        Err(Status::unavailable("the mailbox stream broke").into())
    }

    /// All of a response up to the message's octets; answers how many these are.
    fn begin_whole(&mut self, place: usize, wanted: &Wanted, summary: Option<&pb::Summary>) -> u64 {
        let size = self.view.messages.get(place).map_or(0, |entry| entry.size);
        let mut response = FetchResponse::begin(self.out, number(place));
        push_local(&mut response, self.view, place, &self.plan.items);
        if let Some(summary) = summary {
            push_summary(&mut response, summary, &self.plan.items);
        }
        let out = response.separate();
        out.extend_from_slice(&wanted.name);
        out.push(b' ');
        let (_, len) = wanted.cut((0, size));
        encode::push_literal_head(out, len);
        len
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

fn number(place: usize) -> u32 {
    u32::try_from(place + 1).unwrap_or(u32::MAX)
}

/// A string of which the client may want a part.
fn push_cut(out: &mut Vec<u8>, wanted: &Wanted, text: &[u8]) {
    let (start, len) = wanted.cut((0, text.len() as u64));
    let index = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let part = text
        .get(index(start)..index(start.saturating_add(len)))
        .unwrap_or_default();
    encode::push_literal_head(out, part.len() as u64);
    out.extend_from_slice(part);
}

/// Items that the view knows.
fn push_local(response: &mut FetchResponse<'_>, view: &View, place: usize, items: &[FetchItem]) {
    let Some(entry) = view.messages.get(place) else {
        return;
    };
    for item in items {
        match item {
            FetchItem::Uid => response.number("UID", entry.uid.into()),
            FetchItem::Rfc822Size => response.number("RFC822.SIZE", entry.size),
            FetchItem::ModSeq => response.modseq(entry.modseq),
            FetchItem::Flags => {
                let out = response.item("FLAGS");
                encode::push_flags(out, entry.flags, &view.keywords, entry.recent);
            }
            _ => {}
        }
    }
}

/// Items that the summary has, most of them as they are sent.
fn push_summary(response: &mut FetchResponse<'_>, summary: &pb::Summary, items: &[FetchItem]) {
    for item in items {
        match item {
            FetchItem::Envelope => {
                response
                    .item("ENVELOPE")
                    .extend_from_slice(&summary.envelope);
            }
            FetchItem::BodyStructure => {
                response
                    .item("BODYSTRUCTURE")
                    .extend_from_slice(&summary.body_structure);
            }
            FetchItem::Body => response.item("BODY").extend_from_slice(&summary.body),
            FetchItem::InternalDate => {
                let date = DateTime {
                    seconds: summary.internal_date,
                    offset: summary.internal_date_offset,
                };
                let text = format!("\"{date}\"");
                response
                    .item("INTERNALDATE")
                    .extend_from_slice(text.as_bytes());
            }
            FetchItem::EmailId => {
                let id: [u8; 16] = summary.email_id.as_ref().try_into().unwrap_or_default();
                let text = format!("(M{})", EmailId::from(id));
                response.item("EMAILID").extend_from_slice(text.as_bytes());
            }
            FetchItem::ThreadId => {
                let text = format!("(T{})", MailboxId::from(summary.thread_id));
                response.item("THREADID").extend_from_slice(text.as_bytes());
            }
            _ => {}
        }
    }
}
