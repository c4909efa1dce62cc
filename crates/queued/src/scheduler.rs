//! The scheduler: which message goes where, when and with whom. No I/O and no clock of its own.
//!
//! A message has one *job* for each destination that some of its recipients share. A job is ready,
//! waits for its time, or is with an agent; the recipients' own state is in the message's record.
//! Asking the directory is a job as well, for the destination `ROUTER`.
//!
//! In: [`Scheduler::accept`], [`Scheduler::restore`], the answers to actions, agents and their
//! reports, operators' changes, time. Out, until it is empty: [`Scheduler::poll_action`].
//!
//! Rules. The record in memory is the truth while it is *resident*; every change to it is sent to
//! the disk in order, and it stays resident until the disk has it. Nothing is sent for recipients
//! that the disk does not know yet. A message leaves the queue only when each recipient is
//! finished and the sender was told what is due, and the note that he was told is in the same
//! transaction as the report.

mod action;
mod agent;
mod backoff;
mod change;
mod destination;
mod entry;
mod jobs;
mod outcome;
mod settle;
mod task;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use mail_types::{Outcome, QueueId};
use queue_store::{CHUNK_SIZE, Message, Route};
use tracing::{debug, error, info};

pub use action::{Action, ChangeCount, Notice, Report, ReportRequest, Then, Ticket};
pub use agent::{AgentId, Lane};
pub use change::{Counts, State, Verb};
pub use entry::Accepted;
pub use outcome::Attempt;

use crate::clock::Now;
use crate::router::Resolved;
use crate::settings::Settings;
use agent::{Agent, Agents, RESOLVER};
use destination::{DestId, Destination, LOCAL, ROUTER};
use entry::{Entry, JobState, Resident};

/// The scheduler's whole state.
#[derive(Debug)]
pub struct Scheduler {
    settings: Arc<Settings>,
    entries: HashMap<QueueId, Entry>,
    resident: HashMap<QueueId, Resident>,
    resident_octets: usize,
    /// What waits for a message to be read.
    loading: HashMap<QueueId, Vec<Pending>>,
    dests: HashMap<DestId, Destination>,
    dest_ids: HashMap<Route, DestId>,
    next_dest: DestId,
    /// Destinations that may begin a task, in turn.
    lines: HashMap<Lane, VecDeque<DestId>>,
    agents: Agents,
    next_agent: AgentId,
    next_task: u64,
    timers: BinaryHeap<Reverse<(u64, Timer)>>,
    actions: VecDeque<Action>,
    draining: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Destination(DestId),
    Job(QueueId, DestId),
}

#[derive(Debug)]
enum Pending {
    Change(Verb, Arc<Ticket>),
    Review(DestId),
    Send(DestId),
}

/// What was read.
#[derive(Debug)]
pub enum Loaded {
    /// It cannot be read; an operator has to look.
    Damaged(String),
    /// The record, and the content if it is one chunk.
    Message(Box<Message>, Option<Bytes>),
    /// It is not there.
    Missing,
}

impl Scheduler {
    /// An empty queue.
    pub fn new(settings: Arc<Settings>) -> Self {
        let mut agents = Agents::default();
        let resolver = Agent::new(
            Lane::Router,
            "resolver".into(),
            settings.routing_limit,
            usize::MAX,
        );
        agents.insert(RESOLVER, resolver);
        let router = Destination::new(Lane::Router, None, settings.routing_limit);
        let local = Destination::new(Lane::Local, None, settings.local_limit);
        Self {
            settings,
            entries: HashMap::new(),
            resident: HashMap::new(),
            resident_octets: 0,
            loading: HashMap::new(),
            dests: HashMap::from([(ROUTER, router), (LOCAL, local)]),
            dest_ids: HashMap::new(),
            next_dest: LOCAL + 1,
            lines: HashMap::new(),
            agents,
            next_agent: RESOLVER + 1,
            next_task: 1,
            timers: BinaryHeap::new(),
            actions: VecDeque::new(),
            draining: false,
        }
    }

    /// Changes the settings. Waits that have begun stay as they are.
    pub fn configure(&mut self, now: Now, settings: Arc<Settings>) {
        for (id, dest) in &mut self.dests {
            dest.limit = match *id {
                ROUTER => settings.routing_limit,
                LOCAL => settings.local_limit,
                _ => settings.destination_limit,
            };
        }
        self.settings = settings;
        let ids: Vec<DestId> = self.dests.keys().copied().collect();
        for id in ids {
            self.line_up(now, id);
        }
    }

    /// A message is on disk and starts its way.
    pub fn accept(&mut self, now: Now, accepted: Accepted) {
        let id = accepted.id();
        debug_assert!(!self.entries.contains_key(&id), "an id is given out once");
        self.entries.insert(id, Entry::new(&accepted.message));
        self.keep(id, accepted.message, accepted.content);
        self.refresh(id, now);
        self.settle(id, now, Vec::new());
        self.evict(id);
    }

    /// A message was on disk when the process started.
    pub fn restore(&mut self, now: Now, message: Message) {
        self.accept(
            now,
            Accepted {
                message: Arc::new(message),
                content: None,
            },
        );
    }

    /// The answer to [`Action::Load`].
    pub fn loaded(&mut self, now: Now, id: QueueId, loaded: Loaded) {
        let pending = self.loading.remove(&id).unwrap_or_default();
        if !self.entries.contains_key(&id) {
            return;
        }
        match loaded {
            Loaded::Message(message, content) => {
                self.keep(id, Arc::new(*message), content);
                for pending in pending {
                    self.go_on(now, id, pending);
                }
            }
            Loaded::Missing => self.lose(id, "its record is not there"),
            Loaded::Damaged(reason) => self.lose(id, &reason),
        }
        self.evict(id);
    }

    /// The answer to [`Action::Resolve`].
    pub fn resolved(&mut self, now: Now, task: u64, resolved: Resolved) {
        let Some(info) = self.end_task(now, RESOLVER, task) else {
            return;
        };
        let id = info.id;
        let Some(resident) = self.resident.get_mut(&id) else {
            return;
        };
        let added = !resolved.added.is_empty();
        let message = Arc::make_mut(&mut resident.message);
        let changed = resolved.apply(message, now.wall);
        if added && let Some(entry) = self.entries.get_mut(&id) {
            entry.blocked += 1;
        }
        self.refresh(id, now);
        if added {
            self.commit_update(id, changed, true, None);
            self.settle(id, now, Vec::new());
        } else {
            self.settle(id, now, changed);
        }
        self.evict(id);
    }

    /// The changes of an [`Action::Commit`] are on disk.
    pub fn committed(&mut self, now: Now, then: Then) {
        if let Some(id) = then.updated {
            if let Some(resident) = self.resident.get_mut(&id) {
                resident.commits = resident.commits.saturating_sub(1);
            }
            if then.unblocks
                && let Some(entry) = self.entries.get_mut(&id)
            {
                entry.blocked = entry.blocked.saturating_sub(1);
                self.refresh(id, now);
                self.settle(id, now, Vec::new());
            }
            self.evict(id);
        }
        if let Some(accepted) = then.accepted {
            self.accept(now, accepted);
        }
        // Whoever waits for this change and others hears of it with the last of them.
        drop(then.ticket);
    }

    /// An agent came.
    pub fn attach(
        &mut self,
        lane: Lane,
        name: &str,
        max_tasks: usize,
        max_octets: usize,
    ) -> AgentId {
        let id = self.next_agent;
        self.next_agent += 1;
        info!(
            agent = id,
            name,
            ?lane,
            max_tasks,
            max_octets,
            "agent.attached"
        );
        let agent = Agent::new(lane, name.to_owned(), max_tasks, max_octets);
        self.agents.insert(id, agent);
        id
    }

    /// An agent went; its tasks are ready again.
    pub fn detach(&mut self, now: Now, id: AgentId) {
        let Some(mut agent) = self.agents.remove(id) else {
            return;
        };
        let tasks: Vec<_> = agent.tasks.drain().map(|(_, info)| info).collect();
        info!(
            agent = id,
            name = agent.name,
            tasks = tasks.len(),
            "agent.detached"
        );
        for info in tasks {
            self.dest_freed(now, info.dest);
            self.give_back(now, info.id, info.dest);
            self.evict(info.id);
        }
    }

    /// Takes no new tasks from here on.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Tasks with agents.
    pub fn tasks(&self) -> usize {
        self.agents.tasks()
    }

    /// When [`Self::handle_timeout`] is to be called next, on the steady clock.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(Reverse((at, timer))) = self.timers.peek().copied() {
            if at > now.steady {
                return;
            }
            self.timers.pop();
            match timer {
                Timer::Destination(dest) => self.line_up(now, dest),
                Timer::Job(id, dest) => self.job_due(now, id, dest, at),
            }
        }
    }

    /// The next thing to do. Agents get tasks here, as far as they have room.
    pub fn poll_action(&mut self, now: Now) -> Option<Action> {
        if self.actions.is_empty() && !self.draining {
            self.dispatch(now);
        }
        self.actions.pop_front()
    }

    fn keep(&mut self, id: QueueId, message: Arc<Message>, content: Option<Bytes>) {
        if let Some(resident) = self.resident.get_mut(&id) {
            // What is in memory is newer than what was read.
            if resident.content.is_none() {
                self.resident_octets += content.as_ref().map_or(0, Bytes::len);
                resident.content = content;
            }
            return;
        }
        let resident = Resident {
            message,
            content,
            commits: 0,
        };
        self.resident_octets += resident.weight();
        self.resident.insert(id, resident);
    }

    /// Forgets what can be read again and is not needed now.
    fn evict(&mut self, id: QueueId) {
        let Some(resident) = self.resident.get(&id) else {
            return;
        };
        let needed = self.entries.get(&id).is_some_and(|entry| {
            let soon = entry.is_ready() && self.resident_octets <= self.settings.memory;
            resident.commits > 0
                || entry.reporting
                || entry.blocked > 0
                || entry.is_under_way()
                || self.loading.contains_key(&id)
                || soon
        });
        if !needed {
            self.drop_resident(id);
        }
    }

    fn drop_resident(&mut self, id: QueueId) -> Option<Resident> {
        let resident = self.resident.remove(&id)?;
        self.resident_octets = self.resident_octets.saturating_sub(resident.weight());
        Some(resident)
    }

    fn load(&mut self, id: QueueId, pending: Pending) {
        let waiting = self.loading.entry(id).or_default();
        if waiting.is_empty() {
            self.actions.push_back(Action::Load(id));
        }
        waiting.push(pending);
    }

    fn go_on(&mut self, now: Now, id: QueueId, pending: Pending) {
        match pending {
            Pending::Change(verb, ticket) => self.change_resident(now, id, verb, &ticket),
            Pending::Review(dest) => self.review(now, id, dest),
            Pending::Send(dest) => self.loaded_for_agent(now, id, dest),
        }
    }

    /// Takes a message that cannot be read out of the schedule; on disk it stays as it is.
    fn lose(&mut self, id: QueueId, reason: &str) {
        error!(qid = %id, reason, "msg.damaged");
        self.forget(id);
    }

    /// The message is no longer in memory at all.
    fn forget(&mut self, id: QueueId) -> Option<Resident> {
        if let Some(entry) = self.entries.remove(&id) {
            for job in entry.jobs {
                if let JobState::Loading { agent, octets } = job.state {
                    if let Some(agent) = self.agents.agent(agent) {
                        agent.release(octets);
                    }
                    if let Some(dest) = self.dests.get_mut(&job.dest) {
                        dest.active = dest.active.saturating_sub(1);
                    }
                }
                self.job_gone(job.dest);
            }
        }
        self.drop_resident(id)
    }

    fn dest_outcome(&mut self, dest: DestId, outcome: &Outcome) {
        if let Some(dest) = self.dests.get_mut(&dest) {
            dest.last = Some(outcome.clone());
        }
    }

    fn inline_octets(size: u64) -> usize {
        usize::try_from(size).map_or(0, |size| if size <= CHUNK_SIZE { size } else { 0 })
    }

    fn debug_state(&self) {
        debug!(
            messages = self.entries.len(),
            resident = self.resident.len(),
            octets = self.resident_octets,
            destinations = self.dests.len(),
            "schedule"
        );
    }
}
