//! Content on its way in: DATA (RFC 5321 §4.1.1.4) and BDAT (RFC 3030).

use std::time::Instant;

use mail_types::QueueId;

use super::{Session, State, Transaction};
use crate::server::content::{Content, Progress};
use crate::server::{BodyType, Event};
use crate::{Refusal, Reply};

/// A message whose content comes.
#[derive(Debug)]
pub(super) struct Incoming {
    content: Content,
    /// Octets so far, without what the owner put in front.
    size: u64,
    /// Set once the message cannot be taken any more; its content is read and forgotten.
    refused: Option<Refusal>,
    /// When all of it must be there.
    pub(super) ends: Instant,
}

/// The command that begins a message's content.
#[derive(Debug, Clone, Copy)]
pub(super) enum Start {
    Data,
    Chunk { size: u64, last: bool },
}

/// The octets of a BDAT that was refused.
#[derive(Debug)]
pub(super) struct Skip {
    left: u64,
    then: State,
    reply: Reply,
    /// When all of them must be there.
    pub(super) ends: Instant,
}

impl Skip {
    pub(super) fn new(left: u64, then: State, reply: Reply, ends: Instant) -> Self {
        Self {
            left,
            then,
            reply,
            ends,
        }
    }
}

impl Session {
    pub(super) fn begin_verdict(
        &mut self,
        now: Instant,
        transaction: Transaction,
        start: Start,
        verdict: Result<(), Refusal>,
    ) {
        let bare = self.settings.bare_newlines;
        let ends = now + self.settings.limits.message_timeout;
        let incoming = |content| Incoming {
            content,
            size: 0,
            refused: None,
            ends,
        };
        match (start, verdict) {
            (Start::Data, Ok(())) => {
                self.state = State::Data(incoming(Content::dotted(bare)));
                self.reply(&Reply::start_input());
            }
            (Start::Data, Err(refusal)) => {
                self.transaction_over();
                self.reply(&Reply::from(&refusal));
            }
            (Start::Chunk { size, last }, Ok(())) => {
                let binary = transaction.body == BodyType::BinaryMime;
                let incoming = incoming(Content::chunked(bare, binary));
                self.begin_chunk(now, incoming, size, last);
            }
            (Start::Chunk { size, .. }, Err(refusal)) => {
                self.transaction_over();
                self.skip(Skip::new(size, State::Ready, Reply::from(&refusal), ends));
            }
        }
    }

    fn transaction_over(&mut self) {
        self.state = State::Ready;
        self.content.clear();
        self.events.push_back(Event::Reset);
    }

    pub(super) fn data_input(&mut self, now: Instant, input: &[u8]) -> usize {
        let State::Data(incoming) = &mut self.state else {
            return input.len();
        };
        let progress = incoming.push(input, &mut self.content);
        self.check_size();
        match progress {
            Progress::More => {
                self.expect_command(now);
                input.len()
            }
            Progress::End(taken) => {
                self.complete(now);
                taken
            }
        }
    }

    pub(super) fn begin_chunk(
        &mut self,
        now: Instant,
        mut incoming: Incoming,
        size: u64,
        last: bool,
    ) {
        // What is announced as too large need not be waited for to be called so.
        let limit = self.settings.limits.message_size;
        if incoming.refused.is_none() && incoming.size.saturating_add(size) > limit {
            incoming.refused = Some(Refusal::TooLarge);
            self.content.clear();
            self.events.push_back(Event::Discard);
        }
        self.state = State::Chunk {
            incoming,
            left: size,
            last,
        };
        if size == 0 {
            self.chunk_over(now);
        }
    }

    pub(super) fn chunk_input(&mut self, now: Instant, input: &[u8]) -> usize {
        let State::Chunk { incoming, left, .. } = &mut self.state else {
            return input.len();
        };
        let piece = head(input, *left);
        incoming.push(piece, &mut self.content);
        *left -= piece.len() as u64;
        let over = *left == 0;
        self.check_size();
        if over {
            self.chunk_over(now);
        } else {
            self.expect_command(now);
        }
        piece.len()
    }

    fn chunk_over(&mut self, now: Instant) {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Chunk {
                mut incoming,
                last: true,
                ..
            } => {
                if incoming.refused.is_none() {
                    incoming.content.finish(&mut self.content);
                }
                self.state = State::Data(incoming);
                self.complete(now);
            }
            State::Chunk { incoming, .. } => {
                let reply = match &incoming.refused {
                    Some(refusal) => Reply::from(refusal),
                    None => Reply::chunk_received(),
                };
                self.state = State::Between(incoming);
                self.reply(&reply);
                self.expect_command(now);
            }
            other => self.state = other,
        }
    }

    /// Drops the content of a message that grew too large or must be refused.
    fn check_size(&mut self) {
        let limit = self.settings.limits.message_size;
        let (State::Data(incoming) | State::Chunk { incoming, .. }) = &mut self.state else {
            return;
        };
        if incoming.refused.is_some() {
            self.content.clear();
            return;
        }
        if incoming.size > limit {
            incoming.refused = Some(Refusal::TooLarge);
        } else if incoming.content.is_refused() {
            incoming.refused = Some(Refusal::BadContent);
        }
        if incoming.refused.is_some() {
            self.content.clear();
            self.events.push_back(Event::Discard);
        }
    }

    /// Refuses the message whose content is coming in, for a reason that has come up: the rest of it
    /// is read and forgotten, and answered by this.
    pub fn refuse_content(&mut self, refusal: Refusal) {
        let (State::Data(incoming) | State::Chunk { incoming, .. } | State::Between(incoming)) =
            &mut self.state
        else {
            return;
        };
        self.content.clear();
        incoming.refused.get_or_insert(refusal);
    }

    /// All content is there.
    fn complete(&mut self, now: Instant) {
        self.idle_commands = 0;
        let refused = match &mut self.state {
            State::Data(incoming) => incoming.refused.take(),
            _ => None,
        };
        if let Some(refusal) = refused {
            self.transaction_over();
            self.reply(&Reply::from(&refusal));
        } else {
            self.state = State::AskStored;
            self.events.push_back(Event::Complete);
        }
        self.expect_command(now);
    }

    /// The answer to [`Event::Complete`]: the queue answers for the message, or it does not.
    pub fn handle_stored(&mut self, now: Instant, stored: Result<QueueId, Refusal>) {
        if !matches!(self.state, State::AskStored) {
            return;
        }
        self.transaction_over();
        match stored {
            Ok(id) => self.reply(&Reply::queued(id)),
            Err(refusal) => self.reply(&Reply::from(&refusal)),
        }
        self.expect_command(now);
    }

    pub(super) fn skip(&mut self, skip: Skip) {
        if skip.left == 0 {
            self.state = skip.then;
            self.reply(&skip.reply);
        } else {
            self.state = State::Skip(Box::new(skip));
        }
    }

    pub(super) fn skip_input(&mut self, now: Instant, input: &[u8]) -> usize {
        let State::Skip(skip) = std::mem::replace(&mut self.state, State::Closed) else {
            return input.len();
        };
        let mut skip = *skip;
        let taken = head(input, skip.left).len();
        skip.left -= taken as u64;
        self.skip(skip);
        self.expect_command(now);
        taken
    }
}

impl Incoming {
    fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Progress {
        let before = out.len();
        let progress = self.content.push(input, out);
        self.size += (out.len() - before) as u64;
        progress
    }
}

fn head(input: &[u8], most: u64) -> &[u8] {
    let most = usize::try_from(most).unwrap_or(usize::MAX).min(input.len());
    input.get(..most).unwrap_or(input)
}
