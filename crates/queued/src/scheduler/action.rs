use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use mail_rpc::pb::queue::v1 as pb;
use mail_types::{EmailAddress, Outcome, QueueId};
use queue_store::{Message, Op};
use tokio::sync::oneshot;

use super::agent::AgentId;
use super::entry::Accepted;

/// What the scheduler wants done.
#[derive(Debug)]
pub enum Action {
    /// Make it durable, all or nothing, and then say so.
    Commit(Vec<Op>, Then),
    /// Read the record, and the content if it is one chunk.
    Load(QueueId),
    /// Write a report and say what it is.
    Report(ReportRequest),
    /// Ask the directory about the recipients without a way.
    Resolve {
        /// The task to name in the answer.
        task: u64,
        /// With its recipients.
        message: Arc<Message>,
    },
    /// Tell an agent.
    Send(AgentId, pb::QueueMessage),
}

/// What goes on when changes are on disk.
#[derive(Debug, Default)]
pub struct Then {
    /// This message's record is as it is in memory.
    pub(super) updated: Option<QueueId>,
    /// And it may be sent now.
    pub(super) unblocks: bool,
    /// This message is in the queue.
    pub(super) accepted: Option<Accepted>,
    /// Somebody waits.
    pub(super) ticket: Option<Arc<Ticket>>,
}

impl Then {
    /// Something goes on only when the changes are on disk.
    pub fn is_urgent(&self) -> bool {
        self.unblocks || self.accepted.is_some() || self.ticket.is_some()
    }
}

/// A report to write.
#[derive(Debug)]
pub struct ReportRequest {
    /// About this message.
    pub message: Arc<Message>,
    /// Its content if it is in memory.
    pub content: Option<Bytes>,
    /// Whom to tell.
    pub to: EmailAddress,
    /// What to tell.
    pub notices: Vec<Notice>,
    /// Unix time in milliseconds at which the queue gives up.
    pub expires_at: u64,
}

/// What to tell about one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Its place.
    pub index: u32,
    /// What became of it.
    pub outcome: Outcome,
}

/// A report that was written. It goes into the queue together with the note that it did.
#[derive(Debug)]
pub struct Report {
    /// About this message.
    pub about: QueueId,
    /// What it tells.
    pub notices: Vec<Notice>,
    /// The report as a message of its own.
    pub message: Arc<Message>,
    /// Its content in chunks.
    pub chunks: Vec<Bytes>,
}

/// How many messages an operator's change changed; tells when the last of them is on disk.
#[derive(Debug)]
pub struct Ticket {
    reply: Mutex<Option<oneshot::Sender<ChangeCount>>>,
    count: Mutex<ChangeCount>,
}

/// What came of a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeCount {
    /// Messages that were changed.
    pub changed: u64,
    /// Ids that are not in the queue.
    pub unknown: Vec<QueueId>,
}

impl Ticket {
    /// A ticket; the answer comes when its last clone is gone.
    pub fn new(reply: oneshot::Sender<ChangeCount>) -> Arc<Self> {
        Arc::new(Self {
            reply: Mutex::new(Some(reply)),
            count: Mutex::default(),
        })
    }

    pub(super) fn changed(&self) {
        self.count
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .changed += 1;
    }

    pub(super) fn unknown(&self, id: QueueId) {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        count.unknown.push(id);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let reply = self.reply.get_mut().unwrap_or_else(PoisonError::into_inner);
        let count = self.count.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(reply) = reply.take() {
            // Nobody waits any more: fine.
            let _ = reply.send(std::mem::take(count));
        }
    }
}
