//! A task of queued in domain types.

use mail_rpc::convert::ConvertError;
use mail_rpc::pb::queue::v1 as pb;
use mail_rpc::pb::queue::v1::delivery_agent_service_client::DeliveryAgentServiceClient;
use mail_types::{QueueId, ReversePath};
use smtp_proto::client::{Envelope, Recipient};
use smtp_proto::server::{BodyType, DsnReturn, Notify};
use tonic::transport::Channel;

use crate::content::Content;
use crate::destination::Destination;

/// One message for one or more recipients of one destination.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) queue_id: QueueId,
    pub(crate) destination: Destination,
    /// The recipients' places in the message, in the order of the envelope's.
    pub(crate) indices: Vec<u32>,
    pub(crate) envelope: Envelope,
    pub(crate) content: Content,
    pub(crate) attempt: u32,
    /// Unix time in milliseconds.
    pub(crate) accepted_at: u64,
}

impl Job {
    /// Takes a task; `queue` is asked for content that it does not carry.
    pub(crate) async fn new(
        task: pb::Task,
        queue: &DeliveryAgentServiceClient<Channel>,
    ) -> Result<Self, ConvertError> {
        let content = match task.content.clone() {
            Some(data) => Content::Inline(data),
            None => Content::Queued {
                queue_id: task.queue_id,
                queue: queue.clone(),
            },
        };
        let recipients = task.recipients.iter().map(recipient);
        let envelope = Envelope {
            reverse_path: match task.reverse_path.clone() {
                Some(path) => path.try_into()?,
                None => ReversePath::Null,
            },
            recipients: recipients.collect::<Result<_, _>>()?,
            size: match &content {
                Content::Inline(data) => data.len() as u64,
                Content::Queued { .. } => task.size,
            },
            body: match task.body() {
                pb::BodyType::Unspecified | pb::BodyType::BodyType7bit => BodyType::SevenBit,
                pb::BodyType::BodyType8bitmime => BodyType::EightBitMime,
                pb::BodyType::Binarymime => BodyType::BinaryMime,
            },
            // Clients that ask for SMTPUTF8 with each message would else reach nobody without it.
            // The session looks at the addresses itself.
            smtputf8: task.smtputf8 && content.may_have_utf8_header().await,
            envelope_id: task.envelope_id.clone(),
            dsn_return: match task.dsn_return() {
                pb::DsnReturn::Unspecified => None,
                pb::DsnReturn::Full => Some(DsnReturn::Full),
                pb::DsnReturn::Headers => Some(DsnReturn::Headers),
            },
        };
        Ok(Self {
            queue_id: task.queue_id.into(),
            indices: task.recipients.iter().map(|r| r.index).collect(),
            destination: task
                .destination
                .ok_or(ConvertError::new("destination"))?
                .try_into()?,
            envelope,
            content,
            attempt: task.attempt,
            accepted_at: task.accepted_at,
        })
    }

    /// The envelope for some of the recipients, by their places in [`Self::envelope`].
    pub(crate) fn envelope_for(&self, places: &[usize]) -> Envelope {
        let recipients = places
            .iter()
            .filter_map(|place| self.envelope.recipients.get(*place))
            .cloned();
        Envelope {
            recipients: recipients.collect(),
            reverse_path: self.envelope.reverse_path.clone(),
            envelope_id: self.envelope.envelope_id.clone(),
            ..self.envelope
        }
    }
}

fn recipient(recipient: &pb::TaskRecipient) -> Result<Recipient, ConvertError> {
    let address = recipient.address.parse();
    Ok(Recipient {
        address: address.map_err(|_| ConvertError::new("recipient"))?,
        original: recipient.original.clone(),
        notify: recipient.notify.and_then(notify),
    })
}

fn notify(notify: pb::Notify) -> Option<Notify> {
    let pb::Notify {
        never,
        success,
        failure,
        delay,
    } = notify;
    if never {
        Some(Notify::Never)
    } else if success || failure || delay {
        Some(Notify::On {
            success,
            failure,
            delay,
        })
    } else {
        None
    }
}
