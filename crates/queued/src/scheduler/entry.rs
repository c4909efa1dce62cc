use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use mail_types::QueueId;
use queue_store::Message;

use super::agent::AgentId;
use super::destination::DestId;

/// What is in memory of each message in the queue; a million of them must fit.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, not states of one machine"
)]
pub(super) struct Entry {
    /// Whose turn it is: a hash of the sender.
    pub(super) sender: u64,
    /// Unix time in milliseconds.
    pub(super) accepted_at: u64,
    pub(super) size: u64,
    /// One a destination, in the order of their numbers.
    pub(super) jobs: Vec<Job>,
    pub(super) held: bool,
    /// An attempt was made.
    pub(super) tried: bool,
    /// Its sender was told of the delay, or need not be.
    pub(super) reviewed: bool,
    /// Its sender is to be told of an end as soon as nothing else is about to come.
    pub(super) untold: bool,
    /// A report to its sender is being written.
    pub(super) reporting: bool,
    /// Changes that must be on disk before anything is sent.
    pub(super) blocked: u16,
}

/// What is to be done for one message at one destination.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub(super) dest: DestId,
    /// How often in a row an agent went away with it.
    pub(super) returned: u8,
    pub(super) state: JobState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JobState {
    /// With an agent.
    Active { agent: AgentId, task: u64 },
    /// Not to be done for now: held, or blocked, or about to be looked at.
    Idle,
    /// A place at an agent is kept while the message is read.
    Loading { agent: AgentId, octets: usize },
    /// In the destination's line.
    Ready,
    /// For its time, on the steady clock.
    Waiting { at: u64 },
}

impl JobState {
    /// It is under way, and somebody will tell its end.
    pub(super) fn is_under_way(self) -> bool {
        matches!(self, Self::Active { .. } | Self::Loading { .. })
    }
}

impl Entry {
    pub(super) fn new(message: &Message) -> Self {
        Self {
            sender: sender(message),
            accepted_at: message.accepted_at,
            size: message.size,
            jobs: Vec::new(),
            held: message.held,
            tried: message.recipients.iter().any(|r| r.attempts > 0),
            reviewed: false,
            untold: false,
            reporting: false,
            blocked: 0,
        }
    }

    pub(super) fn job(&mut self, dest: DestId) -> Option<&mut Job> {
        let at = self.jobs.binary_search_by_key(&dest, |job| job.dest).ok()?;
        self.jobs.get_mut(at)
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.jobs.iter().any(|job| job.state.is_under_way())
    }

    pub(super) fn is_ready(&self) -> bool {
        self.jobs.iter().any(|job| job.state == JobState::Ready)
    }

    /// An agent has it.
    pub(super) fn is_active(&self) -> bool {
        let active = |job: &Job| matches!(job.state, JobState::Active { .. });
        self.jobs.iter().any(active)
    }

    /// When the next attempt is due on the steady clock, if it waits for one.
    pub(super) fn next_at(&self) -> Option<u64> {
        let times = self.jobs.iter().filter_map(|job| match job.state {
            JobState::Waiting { at } => Some(at),
            _ => None,
        });
        times.min()
    }
}

/// The account, or the reverse-path, or for reports the client.
fn sender(message: &Message) -> u64 {
    let mut hasher = DefaultHasher::new();
    let origin = &message.envelope.origin;
    match (origin.account, &message.envelope.reverse_path) {
        (Some(account), _) => account.hash(&mut hasher),
        (None, path) if path.address().is_some() => path.hash(&mut hasher),
        (None, _) => origin.peer.hash(&mut hasher),
    }
    hasher.finish()
}

/// A message that is in memory whole.
#[derive(Debug)]
pub(super) struct Resident {
    /// The record as it is now; what is on disk may be behind.
    pub(super) message: Arc<Message>,
    /// Content of at most one chunk.
    pub(super) content: Option<Bytes>,
    /// Changes on their way to the disk.
    pub(super) commits: u32,
}

impl Resident {
    pub(super) fn weight(&self) -> usize {
        let content = self.content.as_ref().map_or(0, Bytes::len);
        content + 256 * (1 + self.message.recipients.len())
    }
}

/// A message that is in the queue for sure, with its content if it is small.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The record.
    pub message: Arc<Message>,
    /// Content of at most one chunk.
    pub content: Option<Bytes>,
}

impl Accepted {
    /// The id.
    pub fn id(&self) -> QueueId {
        self.message.id
    }
}
