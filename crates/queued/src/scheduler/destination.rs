use std::collections::{HashMap, VecDeque};

use mail_types::{Outcome, QueueId};
use queue_store::Route;

use super::agent::Lane;

/// A destination's number; it is used again when a destination is forgotten.
pub(super) type DestId = u32;

/// The directory: where messages with unknown addresses go first.
pub(super) const ROUTER: DestId = 0;
/// The mailboxes here.
pub(super) const LOCAL: DestId = 1;

/// Where messages go: one domain or host, or all mailboxes here.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) lane: Lane,
    /// The way there; `None` for the router and the mailboxes.
    pub(super) route: Option<Route>,
    /// Tasks at once.
    pub(super) limit: usize,
    /// Tasks under way.
    pub(super) active: usize,
    /// Messages that have a job here.
    pub(super) jobs: usize,
    /// It is in the lane's line.
    pub(super) in_line: bool,
    /// How often in a row nobody could be reached.
    pub(super) failures: u32,
    /// No attempt before, on the steady clock.
    pub(super) down_until: u64,
    /// The last outcome that was about the destination as a whole.
    pub(super) last: Option<Outcome>,
    ready: FairQueue,
}

impl Destination {
    pub(super) fn new(lane: Lane, route: Option<Route>, limit: usize) -> Self {
        Self {
            lane,
            route,
            limit,
            active: 0,
            jobs: 0,
            in_line: false,
            failures: 0,
            down_until: 0,
            last: None,
            ready: FairQueue::default(),
        }
    }

    /// True if a task may be taken from it now. One that could not be reached is tried with one
    /// task first.
    pub(super) fn may_begin(&self, now: u64) -> bool {
        let limit = if self.failures > 0 { 1 } else { self.limit };
        !self.ready.is_empty() && self.active < limit && self.down_until <= now
    }

    pub(super) fn push(&mut self, sender: u64, id: QueueId) {
        self.ready.push(sender, id);
    }

    pub(super) fn pop(&mut self) -> Option<QueueId> {
        self.ready.pop()
    }

    pub(super) fn ready(&self) -> impl Iterator<Item = QueueId> + '_ {
        self.ready.queues.values().flatten().copied()
    }

    /// Nothing refers to it.
    pub(super) fn is_forgettable(&self) -> bool {
        self.jobs == 0 && self.active == 0 && self.route.is_some()
    }
}

/// Takes from the senders in turn: one with a thousand messages does not hold up one with one.
#[derive(Debug, Default)]
struct FairQueue {
    turns: VecDeque<u64>,
    queues: HashMap<u64, VecDeque<QueueId>>,
}

impl FairQueue {
    fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    fn push(&mut self, sender: u64, id: QueueId) {
        let queue = self.queues.entry(sender).or_default();
        if queue.is_empty() {
            self.turns.push_back(sender);
        }
        queue.push_back(id);
    }

    fn pop(&mut self) -> Option<QueueId> {
        let sender = self.turns.pop_front()?;
        let queue = self.queues.get_mut(&sender)?;
        let id = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&sender);
        } else {
            self.turns.push_back(sender);
        }
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_take_turns() {
        let mut queue = FairQueue::default();
        for n in 0..4 {
            queue.push(1, n.into());
        }
        queue.push(2, 10.into());
        queue.push(3, 20.into());
        let order: Vec<u64> = std::iter::from_fn(|| queue.pop())
            .map(QueueId::get)
            .collect();
        assert_eq!(order, [0, 10, 20, 1, 2, 3]);
        assert!(queue.is_empty() && queue.queues.is_empty());
    }
}
