//! How failures of the mailbox service are told to the client (RFC 5530).

use std::error::Error;

use imap_proto::{Code, Condition, Tag, encode};
use mail_rpc::pb::mailbox::v1 as pb;
use pb::failure::Kind;
use tonic::{ConnectError, Status};
use tracing::warn;

/// Why a command is answered with NO.
#[derive(Debug)]
pub(crate) struct No {
    pub(crate) code: Option<Code<'static>>,
    pub(crate) text: String,
}

impl No {
    pub(crate) fn new(code: Option<Code<'static>>, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }

    pub(crate) fn push(&self, out: &mut Vec<u8>, tag: &Tag) {
        encode::push_status(
            out,
            Some(tag.as_str()),
            Condition::No,
            self.code.as_ref(),
            &self.text,
        );
    }
}

impl From<pb::Failure> for No {
    fn from(failure: pb::Failure) -> Self {
        let code = match failure.kind() {
            Kind::NoSuchMailbox => Code::NonExistent,
            Kind::AlreadyExists => Code::AlreadyExists,
            Kind::BadName => Code::Cannot,
            Kind::OverQuota => Code::OverQuota,
            Kind::TooManyKeywords | Kind::Limit => Code::Limit,
            Kind::TooLarge => Code::TooBig,
            Kind::HasChildren => Code::HasChildren,
            Kind::Damaged => Code::ServerBug,
            Kind::Unspecified | Kind::Locked | Kind::Temporary | Kind::BadCharset => {
                Code::Unavailable
            }
        };
        Self::new(Some(code), failure.detail)
    }
}

impl From<Status> for No {
    fn from(status: Status) -> Self {
        warn!(%status, "the mailbox service does not answer");
        Self::new(
            Some(Code::Unavailable),
            "the mail store does not answer at the moment",
        )
    }
}

/// True if the store may have done what it was asked for: the connection broke behind the request. NO
/// would say that nothing was done, and mail would come twice.
pub(crate) fn may_be_done(status: &Status) -> bool {
    let mut source = status.source();
    let is_lost = source.is_some();
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return false;
        }
        source = error.source();
    }
    is_lost
}

/// What a client is told then, before its connection is closed.
pub(crate) const NOT_KNOWN: &str = "the mail store went away; whether it is done is not known";

/// An answer's failure as an error.
pub(crate) fn check(failure: Option<pb::Failure>) -> Result<(), No> {
    failure.map_or(Ok(()), |failure| Err(failure.into()))
}
