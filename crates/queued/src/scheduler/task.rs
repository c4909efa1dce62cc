//! Tasks as agents get them.

use mail_rpc::pb::queue::v1 as pb;
use mail_types::QueueId;
use queue_store::{Message, Progress, Recipient, Route};

use super::agent::{AgentId, RESOLVER, TaskInfo};
use super::destination::DestId;
use super::entry::JobState;
use super::jobs::goes_to;
use super::{Action, Scheduler};
use crate::clock::Now;
use crate::convert;

impl Scheduler {
    /// Gives a job to an agent. The message is in memory, and the destination counts the task.
    pub(super) fn send(&mut self, now: Now, id: QueueId, dest: DestId, agent: AgentId) {
        let (Some(resident), Some(destination)) = (self.resident.get(&id), self.dests.get(&dest))
        else {
            return self.dest_freed(now, dest);
        };
        let task = self.next_task;
        self.next_task += 1;
        let message = &resident.message;
        let recipients = (0_u32..).zip(&message.recipients);
        let mine: Vec<_> = if agent == RESOLVER {
            Vec::new()
        } else {
            let mine = recipients.filter(|(_, recipient)| goes_to(recipient, destination));
            mine.take(self.settings.task_recipients).collect()
        };
        let indexes: Vec<u32> = mine.iter().map(|(index, _)| *index).collect();
        let mut octets = 0;
        if agent == RESOLVER {
            let message = message.clone();
            self.actions.push_back(Action::Resolve { task, message });
        } else if mine.is_empty() {
            // The record changed while the job was in line.
            self.dest_freed(now, dest);
            self.set_state(now, id, dest, JobState::Idle);
            return self.refresh(id, now);
        } else {
            let content = resident.content.clone();
            octets = content.as_ref().map_or(0, bytes::Bytes::len);
            let first = mine.first().map(|(_, recipient)| *recipient);
            let task = pb::Task {
                task_id: task,
                recipients: mine.iter().map(|(i, r)| task_recipient(*i, r)).collect(),
                destination: destination.route.as_ref().and_then(smtp_destination),
                content,
                attempt: first.map_or(0, |recipient| recipient.attempts) + 1,
                ..task_of(message)
            };
            let message = pb::queue_message::Message::Task(task);
            let message = Some(message);
            self.actions
                .push_back(Action::Send(agent, pb::QueueMessage { message }));
        }
        let info = TaskInfo {
            id,
            dest,
            indexes,
            octets,
            begun: now.steady,
        };
        if let Some(agent) = self.agents.agent(agent) {
            agent.begin(task, info);
        }
        if let Some(job) = self.entries.get_mut(&id).and_then(|e| e.job(dest)) {
            job.state = JobState::Active { agent, task };
        }
    }
}

fn task_of(message: &Message) -> pb::Task {
    let envelope = &message.envelope;
    pb::Task {
        queue_id: message.id.get(),
        reverse_path: Some((&envelope.reverse_path).into()),
        size: message.size,
        smtputf8: envelope.smtputf8,
        body: convert::body_to_pb(envelope.body).into(),
        envelope_id: envelope.envelope_id.clone(),
        dsn_return: convert::dsn_return_to_pb(envelope.dsn_return).into(),
        accepted_at: message.accepted_at,
        ..pb::Task::default()
    }
}

fn task_recipient(index: u32, recipient: &Recipient) -> pb::TaskRecipient {
    let (account_id, quota_bytes) = match &recipient.progress {
        Progress::Waiting(Route::Local {
            account,
            quota_bytes,
        }) => (account.get(), *quota_bytes),
        _ => (0, 0),
    };
    pb::TaskRecipient {
        index,
        address: recipient.address.to_string(),
        account_id,
        quota_bytes,
        original: recipient.original.clone(),
        notify: convert::notify_to_pb(recipient.notify),
    }
}

fn smtp_destination(route: &Route) -> Option<pb::SmtpDestination> {
    use pb::smtp_destination::Target;
    let target = match route {
        Route::Local { .. } => return None,
        Route::Domain(domain) => Target::Domain(domain.to_string()),
        Route::SmartHost(host) => Target::SmartHost(pb::SmartHost {
            host: host.host.clone(),
            port: host.port.into(),
            username: host.username.clone(),
            credentials: host.credentials.clone(),
            implicit_tls: host.implicit_tls,
        }),
    };
    Some(pb::SmtpDestination {
        target: Some(target),
    })
}
