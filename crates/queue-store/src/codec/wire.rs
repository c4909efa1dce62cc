//! The protobuf messages of a record. Fields are only ever added.

use mail_types::{AccountId, Action, EnhancedCode, Outcome, QueueId, ReversePath, StatusClass};
use prost::{Enumeration, Message as ProstMessage, Oneof};

use super::MAX_DIAGNOSTIC;
use crate::message;

#[derive(Clone, PartialEq, ProstMessage)]
pub(super) struct Head {
    /// Empty is the null reverse-path.
    #[prost(string, tag = "1")]
    reverse_path: String,
    #[prost(string, tag = "2")]
    peer: String,
    #[prost(uint64, optional, tag = "3")]
    account_id: Option<u64>,
    #[prost(string, tag = "4")]
    helo: String,
    #[prost(bool, tag = "5")]
    smtputf8: bool,
    #[prost(enumeration = "Body", tag = "6")]
    body: i32,
    #[prost(string, optional, tag = "7")]
    envelope_id: Option<String>,
    #[prost(enumeration = "Return", tag = "8")]
    dsn_return: i32,
    #[prost(string, tag = "9")]
    session_id: String,
    #[prost(uint64, tag = "10")]
    size: u64,
    #[prost(uint64, tag = "11")]
    accepted_at: u64,
    #[prost(bool, tag = "12")]
    held: bool,
    /// Of all pages together.
    #[prost(uint32, tag = "13")]
    pub(super) recipient_count: u32,
    #[prost(message, repeated, tag = "14")]
    recipients: Vec<Recipient>,
}

#[derive(Clone, PartialEq, ProstMessage)]
pub(super) struct Page {
    #[prost(message, repeated, tag = "1")]
    pub(super) recipients: Vec<Recipient>,
}

#[derive(Clone, PartialEq, ProstMessage)]
pub(super) struct Recipient {
    #[prost(string, tag = "1")]
    address: String,
    #[prost(string, optional, tag = "2")]
    original: Option<String>,
    /// 0 default, 1 never, else 8 + success 1, failure 2, delay 4.
    #[prost(uint32, tag = "3")]
    notify: u32,
    #[prost(uint32, optional, tag = "4")]
    parent: Option<u32>,
    #[prost(bool, tag = "5")]
    finished: bool,
    #[prost(oneof = "Route", tags = "6, 7, 8")]
    route: Option<Route>,
    #[prost(uint32, tag = "9")]
    attempts: u32,
    #[prost(uint64, tag = "10")]
    next_attempt_at: u64,
    #[prost(message, optional, tag = "11")]
    last: Option<Last>,
    #[prost(bool, tag = "12")]
    told: bool,
    #[prost(bool, tag = "13")]
    delay_told: bool,
}

#[derive(Clone, PartialEq, Oneof)]
enum Route {
    #[prost(string, tag = "6")]
    Domain(String),
    #[prost(message, tag = "7")]
    Local(Local),
    #[prost(message, tag = "8")]
    SmartHost(SmartHost),
}

#[derive(Clone, Copy, PartialEq, ProstMessage)]
struct Local {
    #[prost(uint64, tag = "1")]
    account_id: u64,
    #[prost(uint64, tag = "2")]
    quota_bytes: u64,
}

#[derive(Clone, PartialEq, ProstMessage)]
struct SmartHost {
    #[prost(string, tag = "1")]
    host: String,
    #[prost(uint32, tag = "2")]
    port: u32,
    #[prost(string, tag = "3")]
    username: String,
    #[prost(string, tag = "4")]
    credentials: String,
    #[prost(bool, tag = "5")]
    implicit_tls: bool,
}

#[derive(Clone, PartialEq, ProstMessage)]
struct Last {
    #[prost(enumeration = "Act", tag = "1")]
    action: i32,
    /// class, subject, detail: c * 1,000,000 + s * 1,000 + d.
    #[prost(uint32, tag = "2")]
    status: u32,
    #[prost(string, tag = "3")]
    diagnostic: String,
    #[prost(string, optional, tag = "4")]
    remote_mta: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
enum Body {
    Unspecified = 0,
    SevenBit = 1,
    EightBitMime = 2,
    BinaryMime = 3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
enum Return {
    Unspecified = 0,
    Full = 1,
    Headers = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
enum Act {
    Delayed = 0,
    Delivered = 1,
    Expanded = 2,
    Failed = 3,
    Relayed = 4,
}

impl Head {
    pub(super) fn new<'a>(
        message: &message::Message,
        recipients: impl Iterator<Item = &'a message::Recipient>,
    ) -> Self {
        let envelope = &message.envelope;
        let body = match envelope.body {
            message::BodyType::Unspecified => Body::Unspecified,
            message::BodyType::SevenBit => Body::SevenBit,
            message::BodyType::EightBitMime => Body::EightBitMime,
            message::BodyType::BinaryMime => Body::BinaryMime,
        };
        let dsn_return = match envelope.dsn_return {
            message::DsnReturn::Unspecified => Return::Unspecified,
            message::DsnReturn::Full => Return::Full,
            message::DsnReturn::Headers => Return::Headers,
        };
        let reverse_path = envelope.reverse_path.address();
        Self {
            reverse_path: reverse_path.map(ToString::to_string).unwrap_or_default(),
            peer: envelope.origin.peer.clone(),
            account_id: envelope.origin.account.map(AccountId::get),
            helo: envelope.origin.helo.clone(),
            smtputf8: envelope.smtputf8,
            body: body.into(),
            envelope_id: envelope.envelope_id.clone(),
            dsn_return: dsn_return.into(),
            session_id: envelope.session_id.clone(),
            size: message.size,
            accepted_at: message.accepted_at,
            held: message.held,
            recipient_count: u32::try_from(message.recipients.len()).unwrap_or(u32::MAX),
            recipients: recipients.map(Into::into).collect(),
        }
    }

    pub(super) fn into_message(self, id: QueueId) -> Option<message::Message> {
        let body = match self.body() {
            Body::Unspecified => message::BodyType::Unspecified,
            Body::SevenBit => message::BodyType::SevenBit,
            Body::EightBitMime => message::BodyType::EightBitMime,
            Body::BinaryMime => message::BodyType::BinaryMime,
        };
        let dsn_return = match self.dsn_return() {
            Return::Unspecified => message::DsnReturn::Unspecified,
            Return::Full => message::DsnReturn::Full,
            Return::Headers => message::DsnReturn::Headers,
        };
        let recipients = self.recipients.into_iter().map(Recipient::into_ours);
        Some(message::Message {
            id,
            envelope: message::Envelope {
                reverse_path: self.reverse_path.parse::<ReversePath>().ok()?,
                origin: message::Origin {
                    peer: self.peer,
                    account: self.account_id.map(AccountId::from),
                    helo: self.helo,
                },
                smtputf8: self.smtputf8,
                body,
                envelope_id: self.envelope_id,
                dsn_return,
                session_id: self.session_id,
            },
            size: self.size,
            accepted_at: self.accepted_at,
            held: self.held,
            recipients: recipients.collect::<Option<_>>()?,
        })
    }
}

impl From<&message::Recipient> for Recipient {
    fn from(recipient: &message::Recipient) -> Self {
        let (finished, route) = match &recipient.progress {
            message::Progress::Finished => (true, None),
            message::Progress::Unrouted => (false, None),
            message::Progress::Waiting(route) => (false, Some(route.into())),
        };
        Self {
            address: recipient.address.to_string(),
            original: recipient.original.clone(),
            notify: notify_bits(recipient.notify),
            parent: recipient.parent,
            finished,
            route,
            attempts: recipient.attempts,
            next_attempt_at: recipient.next_attempt_at,
            last: recipient.last.as_ref().map(Into::into),
            told: recipient.told,
            delay_told: recipient.delay_told,
        }
    }
}

impl Recipient {
    pub(super) fn into_ours(self) -> Option<message::Recipient> {
        let progress = match (self.finished, self.route) {
            (true, _) => message::Progress::Finished,
            (false, None) => message::Progress::Unrouted,
            (false, Some(route)) => message::Progress::Waiting(route.into_ours()?),
        };
        let last = match self.last {
            None => None,
            Some(last) => Some(last.into_ours()?),
        };
        Some(message::Recipient {
            address: self.address.parse().ok()?,
            original: self.original,
            notify: notify(self.notify)?,
            parent: self.parent,
            progress,
            attempts: self.attempts,
            next_attempt_at: self.next_attempt_at,
            last,
            told: self.told,
            delay_told: self.delay_told,
        })
    }
}

fn notify_bits(notify: message::Notify) -> u32 {
    match notify {
        message::Notify::Default => 0,
        message::Notify::Never => 1,
        message::Notify::On {
            success,
            failure,
            delay,
        } => 8 | u32::from(success) | u32::from(failure) << 1 | u32::from(delay) << 2,
    }
}

fn notify(bits: u32) -> Option<message::Notify> {
    match bits {
        0 => Some(message::Notify::Default),
        1 => Some(message::Notify::Never),
        8..16 => Some(message::Notify::On {
            success: bits & 1 != 0,
            failure: bits & 2 != 0,
            delay: bits & 4 != 0,
        }),
        _ => None,
    }
}

impl From<&message::Route> for Route {
    fn from(route: &message::Route) -> Self {
        match route {
            message::Route::Domain(domain) => Self::Domain(domain.to_string()),
            message::Route::Local {
                account,
                quota_bytes,
            } => Self::Local(Local {
                account_id: account.get(),
                quota_bytes: *quota_bytes,
            }),
            message::Route::SmartHost(host) => Self::SmartHost(SmartHost {
                host: host.host.clone(),
                port: host.port.into(),
                username: host.username.clone(),
                credentials: host.credentials.clone(),
                implicit_tls: host.implicit_tls,
            }),
        }
    }
}

impl Route {
    fn into_ours(self) -> Option<message::Route> {
        Some(match self {
            Self::Domain(domain) => message::Route::Domain(domain.parse().ok()?),
            Self::Local(local) => message::Route::Local {
                account: local.account_id.into(),
                quota_bytes: local.quota_bytes,
            },
            Self::SmartHost(host) => message::Route::SmartHost(message::SmartHost {
                host: host.host,
                port: u16::try_from(host.port).ok()?,
                username: host.username,
                credentials: host.credentials,
                implicit_tls: host.implicit_tls,
            }),
        })
    }
}

impl From<&Outcome> for Last {
    fn from(outcome: &Outcome) -> Self {
        let action = match outcome.action {
            Action::Delayed => Act::Delayed,
            Action::Delivered => Act::Delivered,
            Action::Expanded => Act::Expanded,
            Action::Failed => Act::Failed,
            Action::Relayed => Act::Relayed,
        };
        let status = outcome.status;
        let cut = outcome.diagnostic.floor_char_boundary(MAX_DIAGNOSTIC);
        Self {
            action: action.into(),
            status: u32::from(status.class().digit()) * 1_000_000
                + u32::from(status.subject()) * 1000
                + u32::from(status.detail()),
            diagnostic: outcome.diagnostic.get(..cut).unwrap_or_default().to_owned(),
            remote_mta: outcome.remote_mta.as_ref().map(ToString::to_string),
        }
    }
}

impl Last {
    fn into_ours(self) -> Option<Outcome> {
        let action = match self.action() {
            Act::Delayed => Action::Delayed,
            Act::Delivered => Action::Delivered,
            Act::Expanded => Action::Expanded,
            Act::Failed => Action::Failed,
            Act::Relayed => Action::Relayed,
        };
        let class = match self.status / 1_000_000 {
            2 => StatusClass::Success,
            4 => StatusClass::Transient,
            5 => StatusClass::Permanent,
            _ => return None,
        };
        let subject = u16::try_from(self.status / 1000 % 1000).ok()?;
        let detail = u16::try_from(self.status % 1000).ok()?;
        let remote_mta = match self.remote_mta {
            None => None,
            Some(name) => Some(name.parse().ok()?),
        };
        Some(Outcome {
            action,
            status: EnhancedCode::new(class, subject, detail).ok()?,
            diagnostic: self.diagnostic,
            remote_mta,
        })
    }
}
