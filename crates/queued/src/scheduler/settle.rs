//! What follows when a record changed: the disk is told, the sender is told, the message goes.

use std::sync::Arc;

use mail_types::{Action as Did, EmailAddress, QueueId};
use queue_store::{CHUNK_SIZE, Message, Op, Recipient};
use tracing::{debug, warn};

use super::Scheduler;
use super::action::{Action, Notice, Report, ReportRequest, Then, Ticket};
use super::backoff;
use super::entry::{Accepted, Entry, Job, JobState};
use crate::clock::Now;

impl Scheduler {
    /// Call it when the record in memory changed. The sender is told when nothing is under way
    /// for the message: one report for all recipients of a round.
    pub(super) fn settle(&mut self, id: QueueId, now: Now, changed: Vec<u32>) {
        if !self.is_busy(id, now) {
            return self.settle_now(id, now, changed);
        }
        if let (Some(entry), Some(resident)) = (self.entries.get_mut(&id), self.resident.get(&id)) {
            let mut recipients = resident.message.recipients.iter();
            entry.untold = recipients.any(|recipient| recipient.is_finished() && !recipient.told);
        }
        self.write(id, changed);
    }

    /// An outcome is about to come. What is ready for a destination that is down, or for which
    /// there is no agent, may take long: it holds up no report on the others.
    fn is_busy(&self, id: QueueId, now: Now) -> bool {
        let Some(entry) = self.entries.get(&id) else {
            return false;
        };
        let soon = |job: &Job| {
            job.state == JobState::Ready
                && self.dests.get(&job.dest).is_some_and(|dest| {
                    dest.down_until <= now.steady && self.agents.serve(dest.lane)
                })
        };
        entry.blocked > 0 || entry.is_under_way() || entry.jobs.iter().any(soon)
    }

    /// The same without waiting for what is under way.
    pub(super) fn settle_now(&mut self, id: QueueId, now: Now, mut changed: Vec<u32>) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let Some(resident) = self.resident.get_mut(&id) else {
            return;
        };
        entry.untold = false;
        if !entry.reporting {
            let message = Arc::make_mut(&mut resident.message);
            let teller = Teller {
                delay_warning: backoff::millis(self.settings.delay_warning),
                postmaster: self.settings.postmaster.as_ref(),
                now,
            };
            let told = teller.collect(message, &mut changed);
            if let Some((to, notices)) = told {
                entry.reporting = true;
                let lifetime = backoff::millis(self.settings.lifetime);
                let request = ReportRequest {
                    expires_at: message.accepted_at.saturating_add(lifetime),
                    message: resident.message.clone(),
                    content: resident.content.clone(),
                    to,
                    notices,
                };
                self.actions.push_back(Action::Report(request));
            }
        }
        self.write(id, changed);
    }

    /// The answer to [`Action::Report`]: the report goes into the queue, and that its message's
    /// sender is told goes to the disk with it.
    pub fn reported(&mut self, now: Now, report: Report) {
        let id = report.about;
        let mut ops = vec![Op::Insert {
            message: report.message.clone(),
            put_chunks: 0,
            tail: report.chunks.clone(),
        }];
        let mut then = Then::default();
        let small = report.message.size <= CHUNK_SIZE as u64;
        then.accepted = Some(Accepted {
            message: report.message,
            content: report.chunks.into_iter().next().filter(|_| small),
        });
        if let (Some(entry), Some(resident)) =
            (self.entries.get_mut(&id), self.resident.get_mut(&id))
        {
            entry.reporting = false;
            let message = Arc::make_mut(&mut resident.message);
            let changed = note_told(message, &report.notices);
            if is_done(entry, message) {
                ops.push(Op::Remove(resident.message.clone()));
                self.actions.push_back(Action::Commit(ops, then));
                self.gone(id);
                return;
            }
            resident.commits += 1;
            then.updated = Some(id);
            let message = resident.message.clone();
            ops.push(Op::Update { message, changed });
            self.actions.push_back(Action::Commit(ops, then));
            // What came to its end meanwhile.
            self.settle(id, now, Vec::new());
            self.evict(id);
        }
        // Else an operator dropped the message while its report was written: then nobody is told.
    }

    /// Sends the record's change to the disk, or the message's removal.
    fn write(&mut self, id: QueueId, changed: Vec<u32>) {
        let (Some(entry), Some(resident)) = (self.entries.get(&id), self.resident.get(&id)) else {
            return;
        };
        if is_done(entry, &resident.message) {
            let message = resident.message.clone();
            let remove = vec![Op::Remove(message)];
            self.actions
                .push_back(Action::Commit(remove, Then::default()));
            self.gone(id);
        } else if !changed.is_empty() {
            self.commit_update(id, changed, false, None);
        }
    }

    pub(super) fn commit_update(
        &mut self,
        id: QueueId,
        changed: Vec<u32>,
        unblocks: bool,
        ticket: Option<Arc<Ticket>>,
    ) {
        let Some(resident) = self.resident.get_mut(&id) else {
            return;
        };
        resident.commits += 1;
        let message = resident.message.clone();
        let then = Then {
            updated: Some(id),
            unblocks,
            accepted: None,
            ticket,
        };
        let update = vec![Op::Update { message, changed }];
        self.actions.push_back(Action::Commit(update, then));
    }

    fn gone(&mut self, id: QueueId) {
        debug!(qid = %id, "msg.removed");
        self.forget(id);
    }
}

/// Each recipient is finished and the sender knows what he has to.
fn is_done(entry: &Entry, message: &Message) -> bool {
    let done = |recipient: &Recipient| recipient.is_finished() && recipient.told;
    !entry.reporting && message.recipients.iter().all(done)
}

fn note_told(message: &mut Message, notices: &[Notice]) -> Vec<u32> {
    let mut changed = Vec::with_capacity(notices.len());
    for notice in notices {
        let Some(recipient) = message.recipients.get_mut(notice.index as usize) else {
            continue;
        };
        if notice.outcome.action == Did::Delayed {
            recipient.delay_told = true;
        } else {
            recipient.told = true;
        }
        changed.push(notice.index);
    }
    changed
}

/// Finds what the sender is to be told (RFC 3461 §4.1, §5.2).
struct Teller<'a> {
    /// In milliseconds; 0 is never.
    delay_warning: u64,
    postmaster: Option<&'a EmailAddress>,
    now: Now,
}

enum Due {
    /// Nobody needs to know: note that.
    Noted,
    Nothing,
    Tell(Notice),
}

impl Teller<'_> {
    /// Whom to tell what. Marks what need not be told, and adds it to `changed`.
    fn collect(
        &self,
        message: &mut Message,
        changed: &mut Vec<u32>,
    ) -> Option<(EmailAddress, Vec<Notice>)> {
        let sender = message.envelope.reverse_path.address().cloned();
        let to = match &sender {
            Some(sender) => Some(sender.clone()),
            None => self.postmaster_for(message).cloned(),
        };
        let late = self.delay_warning > 0
            && self.now.wall.saturating_sub(message.accepted_at) >= self.delay_warning;
        let id = message.id;
        let mut notices = Vec::new();
        for (index, recipient) in (0..).zip(&mut message.recipients) {
            match due(id, index, recipient, sender.is_some(), to.is_some(), late) {
                Due::Nothing => {}
                Due::Noted => changed.push(index),
                Due::Tell(notice) => notices.push(notice),
            }
        }
        to.filter(|_| !notices.is_empty()).map(|to| (to, notices))
    }

    /// Who gets the failures of mail without a sender (RFC 5321 §6.1: not a sender, since there is
    /// none). Mail to the postmaster himself ends here: reports must not go round.
    fn postmaster_for(&self, message: &Message) -> Option<&EmailAddress> {
        self.postmaster.filter(|postmaster| {
            let folded = postmaster.folded();
            let mut recipients = message.recipients.iter();
            !recipients.any(|recipient| recipient.address.folded() == folded)
        })
    }
}

fn due(
    id: QueueId,
    index: u32,
    recipient: &mut Recipient,
    has_sender: bool,
    has_reader: bool,
    late: bool,
) -> Due {
    let notice = |outcome: &mail_types::Outcome| {
        let outcome = outcome.clone();
        Due::Tell(Notice { index, outcome })
    };
    let Some(outcome) = &recipient.last else {
        return Due::Nothing;
    };
    if !recipient.is_finished() {
        if !late || recipient.delay_told {
            return Due::Nothing;
        }
        if has_sender && recipient.notify.delay() {
            return notice(outcome);
        }
        recipient.delay_told = true;
        return Due::Noted;
    }
    if recipient.told {
        return Due::Nothing;
    }
    let wanted = match outcome.action {
        Did::Failed if has_sender => recipient.notify.failure(),
        Did::Failed => has_reader,
        Did::Delivered | Did::Relayed => has_sender && recipient.notify.success(),
        Did::Delayed | Did::Expanded => false,
    };
    if wanted {
        return notice(outcome);
    }
    if outcome.action == Did::Failed {
        let to = &recipient.address;
        warn!(qid = %id, %to, status = %outcome.status, "msg.dropped");
    }
    recipient.told = true;
    Due::Noted
}
