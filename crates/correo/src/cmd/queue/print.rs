use mail_rpc::pb::common::v1 as common;
use mail_rpc::pb::queue::v1 as pb;
use mail_types::QueueId;
use serde_json::{Value, json};

use crate::output::{now_millis, size, span, time};

/// The head of the list.
pub(super) const HEADS: &str =
    "ID             STATE     AGE       SIZE  NEXT   SENDER AND RECIPIENTS";

/// A message's lines in the list, as `mailq` has them.
pub(super) fn rows(entry: &pb::QueueEntry) -> String {
    let first = format!(
        "{:<13}  {:<8}  {:<4}  {:>8}  {:<5}  {}",
        QueueId::from(entry.queue_id).to_string(),
        state(entry.state()),
        age(entry.accepted_at),
        size(entry.size),
        until(entry.next_attempt_at),
        sender(entry.reverse_path.as_ref()),
    );
    let mut lines = vec![first];
    let unfinished = |recipient: &&pb::RecipientEntry| !recipient.finished;
    for recipient in entry.recipients.iter().filter(unfinished) {
        lines.push(format!("{:47}→ {}", "", recipient.address));
        lines.extend(
            recipient
                .last
                .as_ref()
                .map(|last| format!("{:49}{}", "", outcome(last))),
        );
    }
    lines.join("\n")
}

/// All that is known of a message.
pub(super) fn details(shown: &pb::ShowResponse) -> String {
    let Some(entry) = &shown.entry else {
        return String::new();
    };
    let mut lines = vec![
        format!("id          {}", QueueId::from(entry.queue_id)),
        format!("state       {}", state(entry.state())),
        format!("sender      {}", sender(entry.reverse_path.as_ref())),
        format!("size        {} ({} octets)", size(entry.size), entry.size),
        format!(
            "accepted    {} ({} ago)",
            stamp(entry.accepted_at),
            age(entry.accepted_at)
        ),
        format!("gives up    {}", stamp(shown.expires_at)),
        format!("next try    {}", stamp(entry.next_attempt_at)),
    ];
    if let Some(origin) = &shown.origin {
        lines.push(format!(
            "came from   {} (HELO {})",
            origin.peer, origin.helo
        ));
    }
    for recipient in &entry.recipients {
        lines.push(format!("recipient   {}", recipient.address));
        if let Some(original) = &recipient.original {
            lines.push(format!("  for       {original}"));
        }
        let done = if recipient.finished {
            "finished"
        } else {
            "waits"
        };
        lines.push(format!(
            "  by        {} to {}, {} attempts, {done}",
            transport(recipient.transport()),
            recipient.destination,
            recipient.attempts
        ));
        if let Some(last) = &recipient.last {
            lines.push(format!("  last      {}", outcome(last)));
        }
    }
    lines.join("\n")
}

/// The same for programs.
pub(super) fn entry_json(entry: &pb::QueueEntry) -> Value {
    let recipients: Vec<Value> = entry.recipients.iter().map(recipient_json).collect();
    json!({
        "id": QueueId::from(entry.queue_id).to_string(),
        "state": state(entry.state()),
        "sender": entry.reverse_path.as_ref().and_then(|path| path.address.clone()),
        "size": entry.size,
        "accepted_at": time(entry.accepted_at),
        "next_attempt_at": time(entry.next_attempt_at),
        "recipients": recipients,
    })
}

pub(super) fn details_json(shown: &pb::ShowResponse) -> Value {
    let mut object = shown.entry.as_ref().map(entry_json).unwrap_or_default();
    if let Value::Object(fields) = &mut object {
        fields.insert("expires_at".to_owned(), time(shown.expires_at).into());
        if let Some(origin) = &shown.origin {
            let origin = json!({ "peer": origin.peer, "helo": origin.helo });
            fields.insert("origin".to_owned(), origin);
        }
    }
    object
}

fn recipient_json(recipient: &pb::RecipientEntry) -> Value {
    json!({
        "address": recipient.address,
        "original": recipient.original,
        "transport": transport(recipient.transport()),
        "destination": recipient.destination,
        "attempts": recipient.attempts,
        "next_attempt_at": time(recipient.next_attempt_at),
        "finished": recipient.finished,
        "last": recipient.last.as_ref().map(outcome_json),
    })
}

/// What became of an attempt, for programs.
pub(crate) fn outcome_json(outcome: &common::Outcome) -> Value {
    json!({
        "action": action(outcome),
        "status": code(outcome),
        "diagnostic": outcome.diagnostic,
        "remote_mta": outcome.remote_mta,
    })
}

fn outcome(outcome: &common::Outcome) -> String {
    let mta = outcome.remote_mta.as_ref();
    let from = mta.map(|mta| format!(" ({mta})")).unwrap_or_default();
    format!(
        "{}: {} {}{from}",
        action(outcome),
        code(outcome),
        outcome.diagnostic
    )
}

fn action(outcome: &common::Outcome) -> &'static str {
    match outcome.action() {
        common::outcome::Action::Unspecified => "unknown",
        common::outcome::Action::Delayed => "delayed",
        common::outcome::Action::Delivered => "delivered",
        common::outcome::Action::Expanded => "expanded",
        common::outcome::Action::Failed => "failed",
        common::outcome::Action::Relayed => "relayed",
    }
}

fn code(outcome: &common::Outcome) -> String {
    outcome.status.as_ref().map_or_else(String::new, |status| {
        format!("{}.{}.{}", status.class, status.subject, status.detail)
    })
}

/// How a recipient is reached.
pub(crate) fn transport(transport: pb::Transport) -> &'static str {
    match transport {
        pb::Transport::Unspecified => "unknown",
        pb::Transport::Local => "local",
        pb::Transport::Smtp => "smtp",
    }
}

fn state(state: pb::State) -> &'static str {
    match state {
        pb::State::Unspecified => "unknown",
        pb::State::Incoming => "incoming",
        pb::State::Active => "active",
        pb::State::Deferred => "deferred",
        pb::State::Held => "held",
    }
}

fn sender(path: Option<&common::ReversePath>) -> String {
    path.and_then(|path| path.address.clone())
        .unwrap_or_else(|| "<>".to_owned())
}

fn stamp(millis: u64) -> String {
    time(millis).unwrap_or_else(|| "-".to_owned())
}

fn age(millis: u64) -> String {
    span(now_millis().saturating_sub(millis) / 1000)
}

fn until(millis: u64) -> String {
    match millis {
        0 => "-".to_owned(),
        _ => span(millis.saturating_sub(now_millis()) / 1000),
    }
}
