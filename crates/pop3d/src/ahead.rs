//! Messages that are read ahead for a client that fetches one after the other: many come in one
//! answer of the store, and the next run is on its way while one is sent.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use mail_rpc::mailbox::{Fetched, Fetcher};
use mail_rpc::packed::{Unpacker, Value};
use mail_rpc::pb::mailbox::v1 as pb;
use mail_types::AccountId;
use pb::fetch_response::Item;
use pop3_proto::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::debug;

/// Runs of a session: one that is sent, and one that comes.
const RUNS: usize = 2;
/// Octets of a run; with what is packed around them an answer has room for them.
const RUN_OCTETS: u64 = 128 * 1024;
/// Messages of the first run, and of those behind it: a client that stops after a few has cost little.
const FIRST_MESSAGES: usize = 16;
const RUN_MESSAGES: usize = 128;
/// Larger messages are streamed by themselves: the store does not pack them.
const LARGEST: u64 = 64 * 1024;

/// Memory for all sessions' runs, in KiB.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Semaphore>);

impl Budget {
    pub(crate) fn new(octets: u64) -> Self {
        let places = usize::try_from(octets / 1024).unwrap_or(usize::MAX);
        Self(Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))))
    }

    /// Room for so many octets, if there is any just now.
    fn take(&self, octets: u64) -> Option<OwnedSemaphorePermit> {
        let places = u32::try_from(octets / 1024 + 1).ok()?;
        self.0.clone().try_acquire_many_owned(places).ok()
    }
}

/// What is read ahead of one session.
#[derive(Debug)]
pub(crate) struct Ahead {
    account: AccountId,
    mailbox: u64,
    budget: Budget,
    runs: VecDeque<Run>,
}

/// Messages that were asked for together.
#[derive(Debug)]
struct Run {
    /// UIDs of the first and the last one.
    first: u32,
    last: u32,
    /// Ends with the answer.
    fetched: Option<Fetched>,
    /// What came last and is not looked at yet.
    packed: Bytes,
    _room: OwnedSemaphorePermit,
}

/// What a run has of a message.
enum Found {
    /// Its octets.
    Content(Bytes),
    /// The message is not in the answer.
    Missing,
    /// The run is at its end.
    End,
}

impl Ahead {
    pub(crate) fn new(account: AccountId, mailbox: u64, budget: Budget) -> Self {
        Self {
            account,
            mailbox,
            budget,
            runs: VecDeque::new(),
        }
    }

    /// The message, if it is among what was read ahead and whole. Messages before it are forgotten.
    /// What is not here has to be read by itself, which tells why.
    pub(crate) async fn take(&mut self, message: Message) -> Option<Bytes> {
        while let Some(run) = self.runs.front_mut() {
            if message.uid < run.first {
                // The client has gone back.
                self.forget();
                return None;
            }
            match run.find(message.uid).await {
                Found::Content(content) => {
                    return (content.len() as u64 == message.size).then_some(content);
                }
                Found::Missing => return None,
                Found::End => {
                    self.runs.pop_front();
                }
            }
        }
        None
    }

    /// Asks for the next run, if there is room, of the messages that the client is about to ask for.
    pub(crate) async fn fill(
        &mut self,
        fetcher: &Fetcher,
        upcoming: impl Iterator<Item = Message>,
    ) {
        if self.runs.len() >= RUNS {
            return;
        }
        let behind = self.runs.back().map_or(0, |run| run.last);
        let most = if self.runs.is_empty() {
            FIRST_MESSAGES
        } else {
            RUN_MESSAGES
        };
        let mut octets = 0;
        let run: Vec<u32> = upcoming
            .skip_while(|message| message.uid <= behind)
            .take(most)
            .take_while(|message| {
                octets += message.size;
                message.size <= LARGEST && octets <= RUN_OCTETS
            })
            .map(|message| message.uid)
            .collect();
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            return;
        };
        let octets = octets.min(RUN_OCTETS);
        let Some(room) = self.budget.take(octets) else {
            return;
        };
        match fetcher.fetch(self.request(&run), octets).await {
            Ok(fetched) => self.runs.push_back(Run {
                first: *first,
                last: *last,
                fetched: Some(fetched),
                packed: Bytes::new(),
                _room: room,
            }),
            // They are asked for again when their turn comes.
            Err(status) => debug!(%status, "cannot read ahead"),
        }
    }

    fn request(&self, uids: &[u32]) -> pb::FetchRequest {
        let mut bounds: Vec<u32> = Vec::new();
        for uid in uids {
            match bounds.last_mut() {
                Some(high) if high.checked_add(1) == Some(*uid) => *high = *uid,
                _ => bounds.extend([*uid, *uid]),
            }
        }
        pb::FetchRequest {
            account_id: self.account.get(),
            mailbox_id: self.mailbox,
            uids: Some(pb::UidSet { bounds }),
            pieces: vec![pb::Piece {
                kind: pb::piece::Kind::Section.into(),
                section: pb::piece::Section::Whole.into(),
                ..pb::Piece::default()
            }],
            ..pb::FetchRequest::default()
        }
    }

    /// Gives the memory back.
    pub(crate) fn forget(&mut self) {
        self.runs = VecDeque::new();
    }
}

impl Run {
    async fn find(&mut self, uid: u32) -> Found {
        if uid > self.last {
            return Found::End;
        }
        loop {
            let mut unpacker = Unpacker::new(&self.packed);
            let mut values = Vec::with_capacity(1);
            match unpacker.next(1, &mut values) {
                Ok(Some(found)) if found > uid => return Found::Missing,
                Ok(Some(found)) => {
                    let content = match values.first() {
                        Some(Value::Octets(octets)) if found == uid => {
                            Some(self.packed.slice_ref(octets))
                        }
                        _ => None,
                    };
                    self.packed = self.packed.slice_ref(unpacker.rest());
                    if found == uid {
                        return content.map_or(Found::Missing, Found::Content);
                    }
                }
                Ok(None) => match self.next_answer().await {
                    Some(packed) => self.packed = packed,
                    None => return Found::End,
                },
                Err(error) => {
                    debug!(%error, "cannot read ahead");
                    self.fetched = None;
                    self.packed = Bytes::new();
                }
            }
        }
    }

    async fn next_answer(&mut self) -> Option<Bytes> {
        loop {
            match self.fetched.as_mut()?.next().await {
                Some(Ok(Item::Packed(packed))) => return Some(packed.data),
                Some(Ok(Item::Summary(_) | Item::Content(_))) => {}
                Some(Ok(Item::Done(_)) | Err(_)) | None => self.fetched = None,
            }
        }
    }
}
