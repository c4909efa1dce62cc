//! One task of the queue: a message for one or more accounts.

use std::sync::Arc;

use bytes::Bytes;
use mail_message::{Summary, trace};
use mail_rpc::convert::ConvertError;
use mail_rpc::pb::common::v1 as common;
use mail_rpc::pb::queue::v1 as queue;
use mail_types::{AccountId, EmailAddress, EnhancedCode, Outcome, QueueId, ReversePath};
use mailbox_store::{
    Applied, ApplyError, Deliver, DeliveryKey, FlagNames, MailboxName, StoreError, Target,
};
use tracing::{info, warn};

use crate::stores::{StoreResult, Stores, now};

/// Octets of a message that take some ten microseconds to look through.
const QUICKLY: usize = 64 * 1024;

/// What is the same for all recipients.
#[derive(Clone, Debug)]
pub(crate) struct Mail {
    pub(crate) queue_id: u64,
    pub(crate) reverse_path: ReversePath,
    pub(crate) content: Bytes,
    pub(crate) bounce_over_quota: bool,
}

/// One recipient.
#[derive(Debug)]
pub(crate) struct Recipient {
    index: u32,
    address: EmailAddress,
    account: AccountId,
    quota: u64,
}

impl TryFrom<queue::TaskRecipient> for Recipient {
    type Error = ConvertError;

    fn try_from(recipient: queue::TaskRecipient) -> Result<Self, ConvertError> {
        let wrong = |_| ConvertError::new("recipient");
        Ok(Self {
            index: recipient.index,
            address: recipient.address.parse().map_err(wrong)?,
            account: AccountId::from(recipient.account_id),
            quota: recipient.quota_bytes,
        })
    }
}

/// Delivers to one recipient; the outcome is true to the disk.
pub(crate) async fn deliver(
    stores: &Stores,
    mail: &Mail,
    recipient: &Recipient,
) -> queue::RecipientOutcome {
    let outcome = store(stores, mail, recipient).await;
    let outcome = outcome_of(&outcome, mail.bounce_over_quota);
    let qid = QueueId::from(mail.queue_id);
    let status = outcome.status;
    match outcome.action {
        mail_types::Action::Delivered => {
            info!(%qid, recipient = %recipient.address, account = %recipient.account, "msg.delivered");
        }
        mail_types::Action::Failed => {
            warn!(%qid, recipient = %recipient.address, %status, reason = outcome.diagnostic, "msg.failed");
        }
        _ => {
            warn!(%qid, recipient = %recipient.address, %status, reason = outcome.diagnostic, "msg.deferred");
        }
    }
    metrics::counter!("correo_deliveries_total", "status" => status.to_string()).increment(1);
    let outcome = Some(common::Outcome::from(&outcome));
    queue::RecipientOutcome {
        index: recipient.index,
        outcome,
        ..queue::RecipientOutcome::default()
    }
}

async fn store(
    stores: &Stores,
    mail: &Mail,
    recipient: &Recipient,
) -> StoreResult<Result<Applied, ApplyError>> {
    let return_path = trace::return_path(&mail.reverse_path);
    let delivered_to = trace::delivered_to(&recipient.address);
    let prefix = return_path.len() + delivered_to.len();
    // One piece, since the summary's offsets count from the first octet.
    let mut content = Vec::with_capacity(prefix + mail.content.len());
    content.extend(return_path.as_bytes());
    content.extend(delivered_to.as_bytes());
    content.extend(&mail.content);
    let content = Bytes::from(content);
    let summary = Arc::new(summary_of(content.clone()).await?);
    let deliver = Deliver {
        key: Some(DeliveryKey {
            queue_id: mail.queue_id,
            index: recipient.index,
        }),
        mailbox: Target::Name(MailboxName::inbox()),
        uid: None,
        flags: FlagNames::default(),
        internal_date: now(),
        internal_offset: 0,
        content: vec![content],
        summary,
        quota: recipient.quota,
    };
    stores.deliver(recipient.account, deliver).await
}

/// What a message says of itself. That of a large one takes too long for a thread on which others
/// wait.
async fn summary_of(content: Bytes) -> StoreResult<Summary> {
    if content.len() <= QUICKLY {
        return Ok(mail_message::summarize(&content));
    }
    let summary = tokio::task::spawn_blocking(move || mail_message::summarize(&content));
    let panicked = |panic| {
        let what = format!("a message cannot be summarized: {panic}");
        Arc::new(StoreError::Engine(what))
    };
    summary.await.map_err(panicked)
}

fn outcome_of(
    result: &StoreResult<Result<Applied, ApplyError>>,
    bounce_over_quota: bool,
) -> Outcome {
    match result {
        Ok(Ok(_)) => Outcome::local(EnhancedCode::RECIPIENT_OK, "delivered to mailbox"),
        Ok(Err(ApplyError::OverQuota)) => {
            let status = if bounce_over_quota {
                EnhancedCode::MAILBOX_FULL
            } else {
                EnhancedCode::MAILBOX_FULL_FOR_NOW
            };
            Outcome::local(status, "the mailbox is full")
        }
        Ok(Err(refused)) => Outcome::local(EnhancedCode::MAILBOX_BUSY, refused.to_string()),
        Err(error) if matches!(**error, StoreError::Full) => {
            Outcome::local(EnhancedCode::SYSTEM_FULL, "no room to store mail")
        }
        Err(_) => Outcome::local(
            EnhancedCode::SYSTEM_TROUBLE,
            "the mail store does not work just now",
        ),
    }
}
