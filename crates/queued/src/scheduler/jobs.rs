//! Jobs: making them from a record, lining them up, giving them to agents, taking them back.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use mail_types::QueueId;
use queue_store::{CHUNK_SIZE, Progress, Recipient, Route};

use super::agent::{AgentId, Lane, RESOLVER, TaskInfo};
use super::backoff;
use super::destination::{DestId, Destination, LOCAL, ROUTER};
use super::entry::{Job, JobState};
use super::{Pending, Scheduler, Timer};
use crate::clock::Now;

/// How often an agent may go away with a job before that job has to wait like a failed one: a
/// message that kills agents must not do so all the time.
const MAX_RETURNED: u8 = 3;

impl Scheduler {
    /// Makes the jobs what the record says. Jobs that are under way or in line stay as they are.
    pub(super) fn refresh(&mut self, id: QueueId, now: Now) {
        let Some(resident) = self.resident.get(&id) else {
            return;
        };
        let message = resident.message.clone();
        // Destination to the earliest time.
        let mut wanted = BTreeMap::<DestId, u64>::new();
        for recipient in message.recipients.iter().filter(|r| !r.is_finished()) {
            let dest = self.dest_of(recipient);
            let at = wanted.entry(dest).or_insert(u64::MAX);
            *at = (*at).min(recipient.next_attempt_at);
        }
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let idle = entry.held || entry.blocked > 0;
        let old = std::mem::take(&mut entry.jobs);
        let mut jobs = Vec::with_capacity(wanted.len());
        for job in old {
            let still = wanted.remove_entry(&job.dest);
            match still {
                _ if job.state.is_under_way() => jobs.push((job, None)),
                None => self.job_gone(job.dest),
                Some(_) if job.state == JobState::Ready && !idle => jobs.push((job, None)),
                Some((_, at)) => jobs.push((job, Some(at))),
            }
        }
        for (dest, at) in wanted {
            self.job_new(dest);
            let job = Job {
                dest,
                returned: 0,
                state: JobState::Idle,
            };
            jobs.push((job, Some(at)));
        }
        jobs.sort_unstable_by_key(|(job, _)| job.dest);
        let mut due = Vec::new();
        let jobs = jobs.into_iter().map(|(mut job, at)| {
            if let Some(at) = at {
                job.state = self.state_at(now, at, idle);
                due.push((job.dest, job.state));
            }
            job
        });
        let jobs = jobs.collect();
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.jobs = jobs;
        }
        for (dest, state) in due {
            self.enter(now, id, dest, state);
        }
    }

    /// `at` is Unix time in milliseconds. A clock that jumped back must not make anything wait
    /// longer than the longest wait.
    fn state_at(&self, now: Now, at: u64, idle: bool) -> JobState {
        if idle {
            return JobState::Idle;
        }
        let longest = backoff::millis(self.settings.retry_max).saturating_mul(5) / 4;
        match at.saturating_sub(now.wall).min(longest) {
            0 => JobState::Ready,
            wait => JobState::Waiting {
                at: now.steady + wait,
            },
        }
    }

    /// Puts a job where its state says.
    fn enter(&mut self, now: Now, id: QueueId, dest: DestId, state: JobState) {
        match state {
            JobState::Ready => {
                let sender = self.entries.get(&id).map_or(0, |entry| entry.sender);
                if let Some(destination) = self.dests.get_mut(&dest) {
                    destination.push(sender, id);
                }
                self.line_up(now, dest);
            }
            JobState::Waiting { at } => self.timers.push(Reverse((at, Timer::Job(id, dest)))),
            JobState::Active { .. } | JobState::Idle | JobState::Loading { .. } => {}
        }
    }

    pub(super) fn set_state(&mut self, now: Now, id: QueueId, dest: DestId, state: JobState) {
        let Some(job) = self.entries.get_mut(&id).and_then(|e| e.job(dest)) else {
            return;
        };
        job.state = state;
        self.enter(now, id, dest, state);
    }

    pub(super) fn job_due(&mut self, now: Now, id: QueueId, dest: DestId, at: u64) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let waits = entry
            .job(dest)
            .is_some_and(|job| job.state == JobState::Waiting { at });
        if waits {
            self.set_state(now, id, dest, JobState::Ready);
        }
    }

    /// Puts a destination in its lane's line if it may begin a task.
    pub(super) fn line_up(&mut self, now: Now, dest: DestId) {
        if let Some(destination) = self.dests.get_mut(&dest)
            && !destination.in_line
            && destination.may_begin(now.steady)
        {
            destination.in_line = true;
            let line = self.lines.entry(destination.lane).or_default();
            line.push_back(dest);
        }
    }

    /// Gives ready jobs to agents with room.
    pub(super) fn dispatch(&mut self, now: Now) {
        for lane in Lane::ALL {
            while let Some(dest) = self.lines.get(&lane).and_then(|line| line.front()).copied() {
                let Some(agent) = self.agents.pick(lane) else {
                    break;
                };
                if let Some(line) = self.lines.get_mut(&lane) {
                    line.pop_front();
                }
                let Some(destination) = self.dests.get_mut(&dest) else {
                    continue;
                };
                destination.in_line = false;
                let id = destination
                    .may_begin(now.steady)
                    .then(|| destination.pop())
                    .flatten();
                if let Some(id) = id {
                    self.begin(now, id, dest, agent);
                }
                self.line_up(now, dest);
            }
        }
    }

    fn begin(&mut self, now: Now, id: QueueId, dest: DestId, agent: AgentId) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let idle = entry.held || entry.blocked > 0;
        let size = entry.size;
        let Some(job) = entry.job(dest) else { return };
        if job.state != JobState::Ready {
            return;
        }
        if idle {
            job.state = JobState::Idle;
            return;
        }
        if let Some(destination) = self.dests.get_mut(&dest) {
            destination.active += 1;
        }
        let needs_content = agent != RESOLVER && size <= CHUNK_SIZE as u64;
        let in_memory = self
            .resident
            .get(&id)
            .is_some_and(|resident| !needs_content || resident.content.is_some());
        if in_memory {
            return self.send(now, id, dest, agent);
        }
        let octets = if needs_content {
            Self::inline_octets(size)
        } else {
            0
        };
        if let Some(job) = self.entries.get_mut(&id).and_then(|e| e.job(dest)) {
            job.state = JobState::Loading { agent, octets };
        }
        if let Some(agent) = self.agents.agent(agent) {
            agent.reserve(octets);
        }
        self.load(id, Pending::Send(dest));
    }

    /// The message of a job in state `Loading` is there.
    pub(super) fn loaded_for_agent(&mut self, now: Now, id: QueueId, dest: DestId) {
        let Some(job) = self.entries.get_mut(&id).and_then(|e| e.job(dest)) else {
            return;
        };
        let JobState::Loading { agent, octets } = job.state else {
            return;
        };
        let held = self.entries.get(&id).is_some_and(|entry| entry.held);
        let slot = self.agents.agent(agent);
        let there = slot.map(|slot| slot.release(octets)).is_some();
        if there && !held {
            return self.send(now, id, dest, agent);
        }
        // The agent went, or an operator held the message, while it was read.
        self.dest_freed(now, dest);
        let state = if held {
            JobState::Idle
        } else {
            JobState::Ready
        };
        self.set_state(now, id, dest, state);
    }

    /// A task came to its end: the agent and the destination have room again.
    pub(super) fn end_task(&mut self, now: Now, agent: AgentId, task: u64) -> Option<TaskInfo> {
        let info = self.agents.agent(agent)?.end(task)?;
        self.dest_freed(now, info.dest);
        let job = self
            .entries
            .get_mut(&info.id)
            .and_then(|e| e.job(info.dest))?;
        job.state = JobState::Idle;
        job.returned = 0;
        Some(info)
    }

    /// A task comes back undone.
    pub(super) fn give_back(&mut self, now: Now, id: QueueId, dest: DestId) {
        let Some(job) = self.entries.get_mut(&id).and_then(|e| e.job(dest)) else {
            return;
        };
        job.returned = job.returned.saturating_add(1);
        let returned = job.returned;
        let state = if returned < MAX_RETURNED {
            JobState::Ready
        } else {
            let wait = backoff::wait(&self.settings, returned.into(), id.get());
            JobState::Waiting {
                at: now.steady + wait,
            }
        };
        self.set_state(now, id, dest, state);
    }

    pub(super) fn dest_freed(&mut self, now: Now, dest: DestId) {
        if let Some(destination) = self.dests.get_mut(&dest) {
            destination.active = destination.active.saturating_sub(1);
        }
        self.forget_destination(dest);
        self.line_up(now, dest);
    }

    fn job_new(&mut self, dest: DestId) {
        if let Some(destination) = self.dests.get_mut(&dest) {
            destination.jobs += 1;
        }
    }

    pub(super) fn job_gone(&mut self, dest: DestId) {
        if let Some(destination) = self.dests.get_mut(&dest) {
            destination.jobs = destination.jobs.saturating_sub(1);
        }
        self.forget_destination(dest);
    }

    fn forget_destination(&mut self, dest: DestId) {
        if self
            .dests
            .get(&dest)
            .is_some_and(Destination::is_forgettable)
            && let Some(gone) = self.dests.remove(&dest)
            && let Some(route) = gone.route
        {
            self.dest_ids.remove(&route);
        }
    }

    fn dest_of(&mut self, recipient: &Recipient) -> DestId {
        let route = match &recipient.progress {
            Progress::Finished | Progress::Unrouted => return ROUTER,
            Progress::Waiting(Route::Local { .. }) => return LOCAL,
            Progress::Waiting(route) => route,
        };
        if let Some(id) = self.dest_ids.get(route) {
            return *id;
        }
        let id = self.next_dest;
        self.next_dest += 1;
        let limit = self.settings.destination_limit;
        let destination = Destination::new(Lane::Smtp, Some(route.clone()), limit);
        self.dests.insert(id, destination);
        self.dest_ids.insert(route.clone(), id);
        id
    }
}

/// True if the recipient goes to that destination.
pub(super) fn goes_to(recipient: &Recipient, dest: &Destination) -> bool {
    match (&recipient.progress, &dest.route) {
        (Progress::Waiting(Route::Local { .. }), None) => dest.lane == Lane::Local,
        (Progress::Waiting(route), Some(other)) => route == other,
        _ => false,
    }
}
