//! Queue control.

mod print;
mod select;

use std::io::{self, Write};

use mail_config::Config;
use mail_rpc::pb::queue::v1 as pb;
use mail_types::QueueId;
use pb::change_request::Verb;
use pb::queue_admin_service_client::QueueAdminServiceClient;
use serde_json::json;
use tonic::Status;
use tonic::transport::Channel;

use crate::cli::QueueVerb;
use crate::failure::Failure;
use crate::output::{Output, confirm, size};
use crate::suite::{call_failed, channel};
pub(crate) use print::{outcome_json, transport};
use select::{Selection, ids};

/// The daemon.
pub(crate) const NAME: &str = "queued";

type Admin = QueueAdminServiceClient<Channel>;

pub(crate) async fn run(verb: QueueVerb, config: &Config, out: Output) -> Result<(), Failure> {
    let mut admin =
        QueueAdminServiceClient::new(channel(config, NAME, &config.rpc.queue_admin).await?);
    let admin = &mut admin;
    match verb {
        QueueVerb::List { which, limit } => {
            list(admin, Selection::of(which)?.selector, limit, out).await
        }
        QueueVerb::Show { ids: names } => show(admin, &ids(&names)?, out).await,
        QueueVerb::Cat { id } => cat(admin, &ids(&[id])?).await,
        QueueVerb::Count { which } => count(admin, Selection::of(which)?.selector, out).await,
        QueueVerb::Hold { which } => {
            change(admin, Verb::Hold, "held", Selection::named(which)?, out).await
        }
        QueueVerb::Release { which } => {
            change(
                admin,
                Verb::Release,
                "released",
                Selection::named(which)?,
                out,
            )
            .await
        }
        QueueVerb::Requeue { which } => {
            change(
                admin,
                Verb::Requeue,
                "requeued",
                Selection::named(which)?,
                out,
            )
            .await
        }
        QueueVerb::Flush { which } => {
            let everything = Selection::of(which)?;
            change(admin, Verb::Flush, "to be tried at once", everything, out).await
        }
        QueueVerb::Drop { which, yes } => {
            drop_messages(admin, Selection::named(which)?, yes, out).await
        }
    }
}

async fn list(
    admin: &mut Admin,
    selector: pb::Selector,
    limit: u64,
    out: Output,
) -> Result<(), Failure> {
    let request = pb::ListRequest {
        selector: Some(selector),
        limit,
    };
    let mut entries = admin.list(request).await.map_err(failed)?.into_inner();
    let (mut messages, mut octets) = (0_u64, 0_u64);
    while let Some(entry) = entries.message().await.map_err(failed)? {
        if messages == 0 {
            out.say(print::HEADS)?;
        }
        messages += 1;
        octets += entry.size;
        out.both(print::rows(&entry), &print::entry_json(&entry))?;
    }
    match messages {
        0 => out.say("the queue is empty, or holds nothing like that"),
        _ => out.say(format!("{}, {}", number(messages), size(octets))),
    }
}

async fn show(admin: &mut Admin, ids: &[QueueId], out: Output) -> Result<(), Failure> {
    for id in ids {
        let request = pb::ShowRequest { queue_id: id.get() };
        let shown = admin.show(request).await.map_err(failed)?.into_inner();
        if shown.entry.is_none() {
            return Err(unknown(&[*id]));
        }
        out.both(print::details(&shown), &print::details_json(&shown))?;
    }
    Ok(())
}

async fn cat(admin: &mut Admin, ids: &[QueueId]) -> Result<(), Failure> {
    let mut stdout = io::stdout();
    for id in ids {
        let request = pb::CatRequest { queue_id: id.get() };
        let absent = |status: Status| match status.code() {
            tonic::Code::NotFound => unknown(&[*id]),
            _ => failed(status),
        };
        let mut chunks = admin.cat(request).await.map_err(absent)?.into_inner();
        while let Some(chunk) = chunks.message().await.map_err(absent)? {
            stdout.write_all(&chunk.data)?;
        }
    }
    stdout.flush()?;
    Ok(())
}

async fn count(admin: &mut Admin, selector: pb::Selector, out: Output) -> Result<(), Failure> {
    let counts = counted(admin, selector).await?;
    let pb::CountResponse {
        incoming,
        active,
        deferred,
        held,
        bytes,
    } = counts;
    let all = total(&counts);
    out.both(
        format!(
            "{}, {}: {incoming} incoming, {active} active, {deferred} deferred, {held} held",
            number(all),
            size(bytes)
        ),
        &json!({
            "messages": all, "incoming": incoming, "active": active, "deferred": deferred,
            "held": held, "bytes": bytes,
        }),
    )
}

async fn counted(admin: &mut Admin, selector: pb::Selector) -> Result<pb::CountResponse, Failure> {
    let request = pb::CountRequest {
        selector: Some(selector),
    };
    Ok(admin.count(request).await.map_err(failed)?.into_inner())
}

fn total(counts: &pb::CountResponse) -> u64 {
    counts.incoming + counts.active + counts.deferred + counts.held
}

async fn drop_messages(
    admin: &mut Admin,
    selection: Selection,
    yes: bool,
    out: Output,
) -> Result<(), Failure> {
    // Who names each message has said which ones; a pattern can hold more than one thinks.
    if !yes && !selection.by_id {
        let counts = counted(admin, selection.selector.clone()).await?;
        let question = format!(
            "Remove {} ({}) without telling who sent that?",
            number(total(&counts)),
            size(counts.bytes)
        );
        if !confirm(&question)? {
            return out.say("nothing is removed");
        }
    }
    change(admin, Verb::Drop, "removed", selection, out).await
}

async fn change(
    admin: &mut Admin,
    verb: Verb,
    done: &str,
    selection: Selection,
    out: Output,
) -> Result<(), Failure> {
    let request = pb::ChangeRequest {
        verb: verb.into(),
        selector: Some(selection.selector),
    };
    let response = admin.change(request).await.map_err(failed)?.into_inner();
    let strangers: Vec<QueueId> = response
        .unknown
        .iter()
        .copied()
        .map(QueueId::from)
        .collect();
    let names: Vec<String> = strangers.iter().map(ToString::to_string).collect();
    out.both(
        format!("{} {done}", number(response.changed)),
        &json!({ "changed": response.changed, "unknown": names }),
    )?;
    if strangers.is_empty() {
        Ok(())
    } else {
        Err(unknown(&strangers))
    }
}

fn number(messages: u64) -> String {
    match messages {
        1 => "1 message".to_owned(),
        _ => format!("{messages} messages"),
    }
}

fn unknown(ids: &[QueueId]) -> Failure {
    let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
    Failure::Refused(format!(
        "not in the queue (delivered, bounced or removed?): {}",
        names.join(", ")
    ))
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of map_err")]
fn failed(status: Status) -> Failure {
    call_failed(NAME, &status)
}
