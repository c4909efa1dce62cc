//! Messages of the contract to and from the store's values.

use mail_rpc::convert::ConvertError;
use mail_rpc::pb::queue::v1 as pb;
use mail_types::{AccountId, QueueId};
use queue_store::{BodyType, DsnReturn, Envelope, Message, Notify, Origin, Recipient, Route};

pub(crate) fn body_to_pb(body: BodyType) -> pb::BodyType {
    match body {
        BodyType::BinaryMime => pb::BodyType::Binarymime,
        BodyType::EightBitMime => pb::BodyType::BodyType8bitmime,
        BodyType::SevenBit => pb::BodyType::BodyType7bit,
        BodyType::Unspecified => pb::BodyType::Unspecified,
    }
}

fn body(body: pb::BodyType) -> BodyType {
    match body {
        pb::BodyType::Binarymime => BodyType::BinaryMime,
        pb::BodyType::BodyType8bitmime => BodyType::EightBitMime,
        pb::BodyType::BodyType7bit => BodyType::SevenBit,
        pb::BodyType::Unspecified => BodyType::Unspecified,
    }
}

pub(crate) fn dsn_return_to_pb(dsn_return: DsnReturn) -> pb::DsnReturn {
    match dsn_return {
        DsnReturn::Full => pb::DsnReturn::Full,
        DsnReturn::Headers => pb::DsnReturn::Headers,
        DsnReturn::Unspecified => pb::DsnReturn::Unspecified,
    }
}

fn dsn_return(dsn_return: pb::DsnReturn) -> DsnReturn {
    match dsn_return {
        pb::DsnReturn::Full => DsnReturn::Full,
        pb::DsnReturn::Headers => DsnReturn::Headers,
        pb::DsnReturn::Unspecified => DsnReturn::Unspecified,
    }
}

pub(crate) fn notify_to_pb(notify: Notify) -> Option<pb::Notify> {
    match notify {
        Notify::Default => None,
        Notify::Never => Some(pb::Notify {
            never: true,
            ..pb::Notify::default()
        }),
        Notify::On {
            success,
            failure,
            delay,
        } => Some(pb::Notify {
            never: false,
            success,
            failure,
            delay,
        }),
    }
}

fn notify(notify: Option<&pb::Notify>) -> Notify {
    match notify {
        Some(notify) if notify.never => Notify::Never,
        Some(notify) if notify.success || notify.failure || notify.delay => Notify::On {
            success: notify.success,
            failure: notify.failure,
            delay: notify.delay,
        },
        Some(_) | None => Notify::Default,
    }
}

pub(crate) fn origin_to_pb(origin: &Origin) -> pb::Origin {
    pb::Origin {
        peer: origin.peer.clone(),
        account_id: origin.account.map_or(0, AccountId::get),
        helo: origin.helo.clone(),
    }
}

/// A message as a front end submits it. Size and time of acceptance are still to come.
pub(crate) fn message(id: QueueId, envelope: pb::Envelope) -> Result<Message, ConvertError> {
    let body = body(envelope.body());
    let dsn_return = dsn_return(envelope.dsn_return());
    let reverse_path = envelope
        .reverse_path
        .ok_or(ConvertError::new("envelope"))?
        .try_into()?;
    let recipients = envelope.recipients.into_iter().map(|recipient| {
        let notify = notify(recipient.notify.as_ref());
        let address = recipient.address.parse();
        let address = address.map_err(|_| ConvertError::new("recipient"))?;
        Ok(Recipient::new(address, recipient.original, notify))
    });
    let recipients: Vec<_> = recipients.collect::<Result<_, ConvertError>>()?;
    if recipients.is_empty() {
        return Err(ConvertError::new("envelope without recipients"));
    }
    let origin = envelope.origin.unwrap_or_default();
    Ok(Message {
        id,
        envelope: Envelope {
            reverse_path,
            origin: Origin {
                peer: origin.peer,
                account: (origin.account_id != 0).then(|| origin.account_id.into()),
                helo: origin.helo,
            },
            smtputf8: envelope.smtputf8,
            body,
            envelope_id: envelope.envelope_id,
            dsn_return,
            session_id: envelope.session_id,
        },
        size: 0,
        accepted_at: 0,
        held: false,
        recipients,
    })
}

/// The transport and the destination's name, for people.
pub(crate) fn destination(route: &Route) -> (pb::Transport, String) {
    match route {
        Route::Domain(domain) => (pb::Transport::Smtp, domain.to_string()),
        Route::Local { account, .. } => (pb::Transport::Local, account.to_string()),
        Route::SmartHost(host) => (pb::Transport::Smtp, host.to_string()),
    }
}
