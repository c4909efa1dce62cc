//! Writing delivery status notifications (RFC 3464), which then are mail like any other.

use std::sync::Arc;

use bytes::Bytes;
use mail_message::MailDate;
use mail_message::dsn::{Dsn, DsnRecipient, ReturnedContent};
use mail_types::{Action, QueueId, ReversePath};
use queue_store::{
    BodyType, CHUNK_SIZE, DsnReturn, Envelope, Message, Notify, Origin, Recipient, StoreError,
    chunk_count,
};
use tracing::{error, info, warn};

use crate::driver::Event;
use crate::queue::Queue;
use crate::scheduler::{Report, ReportRequest};

/// Writes a report and gives it to the driver.
pub(crate) async fn write(queue: Queue, request: ReportRequest) {
    let about = request.message.id;
    let store = queue.store.clone();
    let settings = queue.settings();
    let now = queue.clock.now().wall;
    let rendering = tokio::task::spawn_blocking(move || {
        let id = store.new_id()?;
        let content = returned(&*store, &request, settings.report_content);
        let text = render(&request, &settings, id, now, &content);
        Ok::<_, StoreError>((id, request, text))
    });
    let (id, request, text) = match rendering.await {
        Ok(Ok(rendered)) => rendered,
        Ok(Err(failure)) => {
            error!(qid = %about, %failure, "cannot write a report");
            if failure.is_fatal() {
                queue.shutdown.cancel();
            }
            return;
        }
        Err(failure) => return error!(qid = %about, %failure, "cannot write a report"),
    };
    let mut message = as_message(id, &request, text.len() as u64, now);
    let resolved = queue.router.resolve(&message).await;
    resolved.apply(&mut message, now);
    let told = request.notices.len();
    metrics::counter!("queued_reports_total").increment(1);
    info!(qid = %about, report = %id, to = %request.to, recipients = told, "msg.bounced");
    queue.tell(Event::Reported(Report {
        about,
        notices: request.notices,
        message: Arc::new(message),
        chunks: chunks(text),
    }));
}

/// As much of the message as goes back. A message that cannot be read is reported all the same.
fn returned(store: &dyn queue_store::QueueStore, request: &ReportRequest, limit: usize) -> Vec<u8> {
    if let Some(content) = &request.content {
        return content.to_vec();
    }
    let message = &request.message;
    let all = if wants_all(request) && message.size <= limit as u64 {
        chunk_count(message.size)
    } else {
        // The header; what there is of it beyond 64 KiB is not worth returning.
        chunk_count(message.size).min(1)
    };
    let mut content = Vec::new();
    for chunk in 0..all {
        match store.read_chunk(message.id, chunk) {
            Ok(Some(data)) => content.extend_from_slice(&data),
            Ok(None) => break,
            Err(failure) => {
                warn!(qid = %message.id, %failure, "cannot read what is to be returned");
                break;
            }
        }
    }
    content
}

/// RFC 3461 §4.3: RET is about failures; without it, small messages go back whole.
fn wants_all(request: &ReportRequest) -> bool {
    let failed = |notice: &crate::scheduler::Notice| notice.outcome.action == Action::Failed;
    request.message.envelope.dsn_return != DsnReturn::Headers && request.notices.iter().any(failed)
}

fn render(
    request: &ReportRequest,
    settings: &crate::settings::Settings,
    id: QueueId,
    now: u64,
    content: &[u8],
) -> Vec<u8> {
    let message = &request.message;
    let recipients: Vec<_> = request
        .notices
        .iter()
        .filter_map(|notice| {
            let recipient = message.recipients.get(notice.index as usize)?;
            let delayed = notice.outcome.action == Action::Delayed;
            Some(DsnRecipient {
                original: recipient.original.as_deref(),
                address: &recipient.address,
                outcome: &notice.outcome,
                last_attempt: (recipient.attempts > 0).then(|| date(now)),
                will_retry_until: delayed.then(|| date(request.expires_at)),
            })
        })
        .collect();
    let whole = wants_all(request) && content.len() as u64 == message.size;
    let dsn = Dsn {
        to: &request.to,
        reporting_mta: &settings.hostname,
        envelope_id: message.envelope.envelope_id.as_deref(),
        arrived: date(message.accepted_at),
        now: date(now),
        unique: &id.to_string(),
        recipients: &recipients,
        content: if whole {
            ReturnedContent::Full {
                limit: settings.report_content,
            }
        } else {
            ReturnedContent::Headers
        },
    };
    dsn.render(content)
}

fn date(millis: u64) -> MailDate {
    MailDate::utc(i64::try_from(millis / 1000).unwrap_or(i64::MAX))
}

/// The report as a message: from nobody, and nobody is to be told what becomes of it
/// (RFC 3461 §5.2.8).
fn as_message(id: QueueId, request: &ReportRequest, size: u64, now: u64) -> Message {
    Message {
        id,
        envelope: Envelope {
            reverse_path: ReversePath::Null,
            origin: Origin::default(),
            smtputf8: request.message.envelope.smtputf8 || !request.to.is_ascii(),
            body: BodyType::EightBitMime,
            envelope_id: None,
            dsn_return: DsnReturn::Unspecified,
            session_id: request.message.envelope.session_id.clone(),
        },
        size,
        accepted_at: now,
        held: false,
        recipients: vec![Recipient::new(request.to.clone(), None, Notify::Never)],
    }
}

fn chunks(text: Vec<u8>) -> Vec<Bytes> {
    let mut rest = Bytes::from(text);
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        chunks.push(rest.split_to(rest.len().min(CHUNK_SIZE)));
    }
    chunks
}
