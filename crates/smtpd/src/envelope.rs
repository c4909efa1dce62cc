//! From what MAIL and RCPT said to the queue's contract.

use mail_rpc::pb::queue::v1 as pb;
use smtp_proto::server::{BodyType, DsnReturn, MailFrom, Notify, RcptTo};

/// Sender and recipients of a transaction.
#[derive(Debug)]
pub(crate) struct Envelope {
    pub(crate) mail: MailFrom,
    pub(crate) recipients: Vec<RcptTo>,
}

impl Envelope {
    pub(crate) fn new(mail: MailFrom) -> Self {
        Self {
            mail,
            recipients: Vec::new(),
        }
    }

    /// Turns into the contract's form.
    pub(crate) fn to_message(&self, origin: pb::Origin, session_id: &str) -> pb::Envelope {
        let mail = &self.mail;
        pb::Envelope {
            reverse_path: Some((&mail.path).into()),
            recipients: self.recipients.iter().map(recipient).collect(),
            origin: Some(origin),
            smtputf8: mail.smtputf8,
            body: body(mail.body).into(),
            envelope_id: mail.envelope_id.clone(),
            dsn_return: dsn_return(mail.dsn_return).into(),
            session_id: session_id.to_owned(),
        }
    }
}

fn recipient(rcpt: &RcptTo) -> pb::Recipient {
    pb::Recipient {
        address: rcpt.address.to_string(),
        original: rcpt.original.clone(),
        notify: rcpt.notify.map(notify),
    }
}

fn notify(notify: Notify) -> pb::Notify {
    match notify {
        Notify::Never => pb::Notify {
            never: true,
            ..pb::Notify::default()
        },
        Notify::On {
            success,
            failure,
            delay,
        } => pb::Notify {
            never: false,
            success,
            failure,
            delay,
        },
    }
}

fn body(body: BodyType) -> pb::BodyType {
    match body {
        BodyType::BinaryMime => pb::BodyType::Binarymime,
        BodyType::EightBitMime => pb::BodyType::BodyType8bitmime,
        BodyType::SevenBit => pb::BodyType::BodyType7bit,
    }
}

fn dsn_return(dsn_return: Option<DsnReturn>) -> pb::DsnReturn {
    match dsn_return {
        None => pb::DsnReturn::Unspecified,
        Some(DsnReturn::Full) => pb::DsnReturn::Full,
        Some(DsnReturn::Headers) => pb::DsnReturn::Headers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost() {
        let mail = MailFrom {
            path: "<ana@aula.test>".parse().unwrap(),
            unqualified: false,
            size: None,
            body: BodyType::EightBitMime,
            smtputf8: true,
            dsn_return: Some(DsnReturn::Headers),
            envelope_id: Some("e1".to_owned()),
        };
        let mut envelope = Envelope::new(mail);
        envelope.recipients.push(RcptTo {
            address: "\"a b\"@x.test".parse().unwrap(),
            unqualified: false,
            original: Some("rfc822;x".to_owned()),
            notify: Some(Notify::On {
                success: true,
                failure: false,
                delay: true,
            }),
        });
        let message = envelope.to_message(pb::Origin::default(), "s1");
        let path = message.reverse_path.clone().unwrap();
        assert_eq!(path.address.as_deref(), Some("ana@aula.test"));
        assert_eq!(message.body(), pb::BodyType::BodyType8bitmime);
        assert_eq!(message.dsn_return(), pb::DsnReturn::Headers);
        assert_eq!(message.envelope_id.as_deref(), Some("e1"));
        assert!(message.smtputf8);
        let recipient = &message.recipients[0];
        assert_eq!(recipient.address, "\"a b\"@x.test");
        assert_eq!(recipient.original.as_deref(), Some("rfc822;x"));
        let notify = recipient.notify.unwrap();
        assert!(notify.success && notify.delay && !notify.failure && !notify.never);
    }
}
