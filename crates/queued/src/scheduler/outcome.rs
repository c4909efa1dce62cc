//! What agents report, and what follows for recipients and destinations.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use mail_types::{Action, EnhancedCode, Outcome, QueueId};
use queue_store::{Message, Recipient};
use tracing::{info, warn};

use super::agent::{AgentId, TaskInfo};
use super::backoff;
use super::destination::DestId;
use super::jobs::goes_to;
use super::{Pending, Scheduler, Timer};
use crate::clock::Now;
use crate::settings::Settings;

/// A destination that cannot be reached is tried at least so often, in milliseconds: it may come
/// back long before a message's own next attempt.
const LONGEST_DOWN: u64 = 30 * 60 * 1000;
/// How many messages are looked at again each time a destination cannot be reached.
const REVIEWS: usize = 1000;

/// What an agent says of one recipient.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Which recipient of the message.
    pub index: u32,
    /// What became of it.
    pub outcome: Outcome,
    /// The MTA that took it reports by itself (RFC 3461 §5.2.1).
    pub reports_passed_on: bool,
}

impl Attempt {
    fn unknown(index: u32) -> Self {
        let what = "the delivery agent did not say";
        Self {
            index,
            outcome: Outcome::local(EnhancedCode::SYSTEM_TROUBLE, what),
            reports_passed_on: false,
        }
    }
}

impl Scheduler {
    /// An agent's report. Recipients that it leaves out count as delayed.
    pub fn report(
        &mut self,
        now: Now,
        agent: AgentId,
        task: u64,
        attempts: Vec<Attempt>,
        destination_down: bool,
    ) {
        let Some(info) = self.end_task(now, agent, task) else {
            return;
        };
        if destination_down {
            self.dest_down(now, &info, attempts.first().map(|one| &one.outcome));
        } else {
            self.dest_up(now, info.dest);
        }
        let failures = self.dests.get(&info.dest).map_or(0, |dest| dest.failures);
        let id = info.id;
        let Some(resident) = self.resident.get_mut(&id) else {
            return;
        };
        let message = Arc::make_mut(&mut resident.message);
        let by_index = attempts.into_iter().map(|one| (one.index, one));
        let mut attempts: HashMap<u32, Attempt> = by_index.collect();
        for index in &info.indexes {
            let attempt = attempts.remove(index);
            let attempt = attempt.unwrap_or_else(|| Attempt::unknown(*index));
            let took = now.steady.saturating_sub(info.begun);
            attempted(&self.settings, now, message, attempt, failures, took);
        }
        if !attempts.is_empty() {
            warn!(qid = %id, agent, "report on recipients that were not in the task");
        }
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.tried = true;
        }
        self.refresh(id, now);
        self.settle(id, now, info.indexes);
        self.evict(id);
    }

    fn dest_up(&mut self, now: Now, dest: DestId) {
        if let Some(destination) = self.dests.get_mut(&dest)
            && destination.failures > 0
        {
            destination.failures = 0;
            destination.down_until = 0;
            destination.last = None;
            self.line_up(now, dest);
        }
    }

    fn dest_down(&mut self, now: Now, info: &TaskInfo, outcome: Option<&Outcome>) {
        let dest = info.dest;
        if let Some(outcome) = outcome {
            self.dest_outcome(dest, outcome);
        }
        let Some(destination) = self.dests.get_mut(&dest) else {
            return;
        };
        destination.failures += 1;
        let wait = backoff::wait(&self.settings, destination.failures, dest.into());
        destination.down_until = now.steady + wait.min(LONGEST_DOWN);
        let at = destination.down_until;
        let failures = destination.failures;
        self.timers.push(Reverse((at, Timer::Destination(dest))));
        info!(qid = %info.id, failures, "destination.down");
        self.review_ready(now, dest, failures);
    }

    /// Messages that wait behind a destination that is down are not attempted one by one, but
    /// their senders are told in time.
    fn review_ready(&mut self, now: Now, dest: DestId, failures: u32) {
        let Some(destination) = self.dests.get(&dest) else {
            return;
        };
        let lifetime = backoff::millis(self.settings.lifetime);
        let warning = backoff::millis(self.settings.delay_warning);
        let due = destination.ready().filter(|id| {
            self.entries.get(id).is_some_and(|entry| {
                let age = now.wall.saturating_sub(entry.accepted_at);
                let expired = age >= lifetime && failures >= self.settings.min_attempts;
                expired || entry.untold || (warning > 0 && age >= warning && !entry.reviewed)
            })
        });
        let due: Vec<_> = due.take(REVIEWS).collect();
        for id in due {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.reviewed = true;
            }
            if self.resident.contains_key(&id) {
                self.review(now, id, dest);
                self.evict(id);
            } else {
                self.load(id, Pending::Review(dest));
            }
        }
    }

    /// Applies to a message what is known of its destination, and tells the sender what is due.
    pub(super) fn review(&mut self, now: Now, id: QueueId, dest: DestId) {
        let (Some(resident), Some(destination)) =
            (self.resident.get_mut(&id), self.dests.get(&dest))
        else {
            return;
        };
        let Some(outcome) = destination.last.clone() else {
            return;
        };
        let message = Arc::make_mut(&mut resident.message);
        let accepted_at = message.accepted_at;
        let mut changed = Vec::new();
        for (index, recipient) in (0..).zip(&mut message.recipients) {
            if !goes_to(recipient, destination) {
                continue;
            }
            let outcome = recipient
                .last
                .get_or_insert_with(|| outcome.clone())
                .clone();
            let attempts = recipient.attempts.max(destination.failures);
            if is_expired(&self.settings, now, accepted_at, attempts) {
                fail_expired(id, recipient, &outcome);
            }
            changed.push(index);
        }
        self.refresh(id, now);
        self.settle_now(id, now, changed);
    }
}

/// One attempt for one recipient came to an end.
fn attempted(
    settings: &Settings,
    now: Now,
    message: &mut Message,
    attempt: Attempt,
    failures: u32,
    took: u64,
) {
    let Attempt { index, outcome, .. } = attempt;
    let id = message.id;
    let accepted_at = message.accepted_at;
    let Some(recipient) = message.recipients.get_mut(index as usize) else {
        return;
    };
    if recipient.is_finished() {
        return;
    }
    recipient.attempts = recipient.attempts.saturating_add(1);
    let to = &recipient.address;
    let status = outcome.status;
    match outcome.action {
        Action::Delivered | Action::Expanded | Action::Relayed => {
            let delay = now.wall.saturating_sub(accepted_at);
            metrics::counter!("queued_delivered_total").increment(1);
            info!(
                qid = %id, index, %to, %status, delay_ms = delay, took_ms = took,
                attempt = recipient.attempts, diagnostic = outcome.diagnostic, "msg.delivered"
            );
            // Or the sender would get two reports on one delivery.
            recipient.told |= outcome.action == Action::Relayed && attempt.reports_passed_on;
            recipient.finish(outcome);
        }
        Action::Failed => {
            metrics::counter!("queued_failed_total").increment(1);
            info!(qid = %id, index, %to, %status, diagnostic = outcome.diagnostic, "msg.failed");
            recipient.finish(outcome);
        }
        Action::Delayed => {
            let attempts = recipient.attempts.max(failures);
            if is_expired(settings, now, accepted_at, attempts) {
                return fail_expired(id, recipient, &outcome);
            }
            let wait = backoff::wait(settings, recipient.attempts, id.get());
            // The last attempt comes with the end of the lifetime, not hours behind it.
            let expires = accepted_at.saturating_add(backoff::millis(settings.lifetime));
            let left = expires.saturating_sub(now.wall);
            let wait = if left == 0 {
                wait
            } else {
                wait.min(left.max(1000))
            };
            metrics::counter!("queued_deferred_total").increment(1);
            info!(
                qid = %id, index, %to, %status, attempt = recipient.attempts, wait_ms = wait,
                diagnostic = outcome.diagnostic, "msg.deferred"
            );
            recipient.next_attempt_at = now.wall.saturating_add(wait);
            recipient.last = Some(outcome);
        }
    }
}

fn is_expired(settings: &Settings, now: Now, accepted_at: u64, attempts: u32) -> bool {
    let age = if accepted_at > now.wall {
        // Accepted in what the clock now calls the future: count what was waited for sure.
        backoff::waited(settings, attempts)
    } else {
        now.wall - accepted_at
    };
    age >= backoff::millis(settings.lifetime) && attempts >= settings.min_attempts
}

fn fail_expired(id: QueueId, recipient: &mut Recipient, last: &Outcome) {
    let outcome = Outcome {
        action: Action::Failed,
        status: EnhancedCode::EXPIRED,
        diagnostic: format!(
            "not delivered in time; last: {} {}",
            last.status, last.diagnostic
        ),
        remote_mta: last.remote_mta.clone(),
    };
    let to = &recipient.address;
    metrics::counter!("queued_failed_total").increment(1);
    info!(qid = %id, %to, status = %outcome.status, diagnostic = outcome.diagnostic, "msg.failed");
    recipient.finish(outcome);
}
