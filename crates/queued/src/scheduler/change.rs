//! What operators ask for.

use std::sync::Arc;

use mail_rpc::pb::queue::v1 as pb;
use mail_types::QueueId;
use queue_store::{Op, Progress};
use tracing::info;

use super::action::{Action, Then, Ticket};
use super::entry::{Entry, JobState};
use super::{Pending, Scheduler};
use crate::clock::Now;

/// A change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Remove without telling the sender.
    Drop,
    /// Try at once.
    Flush,
    /// Do not try until released.
    Hold,
    /// End a hold.
    Release,
    /// Resolve the recipients again and try at once.
    Requeue,
}

/// Where a message is, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// With an agent.
    Active,
    /// Waits for another attempt.
    Deferred,
    /// Held by an operator.
    Held,
    /// Waits for its first attempt.
    Incoming,
}

/// How many messages are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// With an agent.
    pub active: u64,
    /// Wait for another attempt.
    pub deferred: u64,
    /// Held.
    pub held: u64,
    /// Wait for their first attempt.
    pub incoming: u64,
    /// Octets of all.
    pub octets: u64,
    /// Unix time in milliseconds at which the oldest was accepted.
    pub oldest: Option<u64>,
}

impl Scheduler {
    /// Changes messages; the ticket's owner hears when it is on disk.
    pub fn change(&mut self, now: Now, verb: Verb, ids: &[QueueId], ticket: &Arc<Ticket>) {
        for id in ids {
            if !self.entries.contains_key(id) {
                ticket.unknown(*id);
            } else if verb == Verb::Flush {
                self.flush(now, *id);
                ticket.changed();
            } else if self.resident.contains_key(id) {
                self.change_resident(now, *id, verb, ticket);
                self.evict(*id);
            } else {
                self.load(*id, Pending::Change(verb, ticket.clone()));
            }
        }
    }

    pub(super) fn change_resident(
        &mut self,
        now: Now,
        id: QueueId,
        verb: Verb,
        ticket: &Arc<Ticket>,
    ) {
        let changed = match verb {
            Verb::Flush => {
                self.flush(now, id);
                Some(Vec::new())
            }
            Verb::Hold => self.set_held(now, id, true).then(Vec::new),
            Verb::Release => self.set_held(now, id, false).then(Vec::new),
            Verb::Requeue => Some(self.requeue(id)),
            Verb::Drop => return self.remove_dropped(id, ticket),
        };
        let Some(changed) = changed else { return };
        ticket.changed();
        info!(qid = %id, ?verb, "msg.changed");
        self.commit_update(id, changed, false, Some(ticket.clone()));
        self.refresh(id, now);
        self.settle(id, now, Vec::new());
    }

    fn set_held(&mut self, now: Now, id: QueueId, held: bool) -> bool {
        let (Some(entry), Some(resident)) = (self.entries.get_mut(&id), self.resident.get_mut(&id))
        else {
            return false;
        };
        if entry.held == held {
            return false;
        }
        entry.held = held;
        Arc::make_mut(&mut resident.message).held = held;
        self.refresh(id, now);
        true
    }

    /// Recipients that are with an agent keep their way: their outcome is on its way already.
    fn requeue(&mut self, id: QueueId) -> Vec<u32> {
        let Some(entry) = self.entries.get_mut(&id) else {
            return Vec::new();
        };
        let mut active = Vec::new();
        for job in &mut entry.jobs {
            match job.state {
                JobState::Active { agent, task } => {
                    if let Some(info) = self.agents.agent(agent).and_then(|a| a.tasks.get(&task)) {
                        active.extend_from_slice(&info.indexes);
                    }
                }
                JobState::Waiting { .. } => job.state = JobState::Idle,
                JobState::Idle | JobState::Loading { .. } | JobState::Ready => {}
            }
        }
        let Some(resident) = self.resident.get_mut(&id) else {
            return Vec::new();
        };
        let message = Arc::make_mut(&mut resident.message);
        let mut changed = Vec::new();
        for (index, recipient) in (0..).zip(&mut message.recipients) {
            if !recipient.is_finished() && !active.contains(&index) {
                recipient.progress = Progress::Unrouted;
                recipient.next_attempt_at = 0;
                changed.push(index);
            }
        }
        changed
    }

    fn flush(&mut self, now: Now, id: QueueId) {
        let Some(entry) = self.entries.get(&id) else {
            return;
        };
        let jobs = entry.jobs.clone();
        for job in jobs {
            if matches!(job.state, JobState::Waiting { .. }) {
                self.set_state(now, id, job.dest, JobState::Ready);
            }
            if let Some(dest) = self.dests.get_mut(&job.dest) {
                dest.down_until = 0;
            }
            self.line_up(now, job.dest);
        }
    }

    fn remove_dropped(&mut self, id: QueueId, ticket: &Arc<Ticket>) {
        let jobs = self.entries.get(&id).map(|entry| entry.jobs.clone());
        for job in jobs.into_iter().flatten() {
            if let JobState::Active { agent, task } = job.state {
                let cancel = pb::TaskCancel { task_id: task };
                let message = Some(pb::queue_message::Message::Cancel(cancel));
                self.actions
                    .push_back(Action::Send(agent, pb::QueueMessage { message }));
            }
        }
        let Some(resident) = self.forget(id) else {
            return;
        };
        ticket.changed();
        info!(qid = %id, verb = ?Verb::Drop, "msg.changed");
        let then = Then {
            ticket: Some(ticket.clone()),
            ..Then::default()
        };
        let remove = vec![Op::Remove(resident.message)];
        self.actions.push_back(Action::Commit(remove, then));
    }

    /// Where a message is, and when its next attempt is due in Unix time; `None` if it is not in
    /// the queue.
    pub fn state(&self, now: Now, id: QueueId) -> Option<(State, Option<u64>)> {
        let entry = self.entries.get(&id)?;
        let next = entry.next_at();
        let wall = |at: u64| now.wall + at.saturating_sub(now.steady);
        Some((state(entry), next.map(wall)))
    }

    /// How many messages are where.
    pub fn count(&self) -> Counts {
        let mut counts = Counts::default();
        for entry in self.entries.values() {
            match state(entry) {
                State::Active => counts.active += 1,
                State::Deferred => counts.deferred += 1,
                State::Held => counts.held += 1,
                State::Incoming => counts.incoming += 1,
            }
            counts.octets += entry.size;
            let oldest = counts.oldest.unwrap_or(u64::MAX);
            counts.oldest = Some(oldest.min(entry.accepted_at));
        }
        self.debug_state();
        counts
    }
}

fn state(entry: &Entry) -> State {
    if entry.is_active() {
        State::Active
    } else if entry.held {
        State::Held
    } else if entry.tried {
        State::Deferred
    } else {
        State::Incoming
    }
}
