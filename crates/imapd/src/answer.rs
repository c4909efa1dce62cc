//! How failures of the mailbox service are told to the client (RFC 5530).

use imap_proto::{Code, Condition, Tag, encode};
use mail_rpc::pb::mailbox::v1 as pb;
use pb::failure::Kind;
use tonic::Status;
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

/// An answer's failure as an error.
pub(crate) fn check(failure: Option<pb::Failure>) -> Result<(), No> {
    failure.map_or(Ok(()), |failure| Err(failure.into()))
}
