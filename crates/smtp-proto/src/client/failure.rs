use mail_types::{Action, Domain, EnhancedCode, Outcome, StatusClass};

use super::ReplyError;
use crate::Reply;

/// Octets of a diagnostic; a report has no use for more.
const MAX_DIAGNOSTIC: usize = 1000;

/// Why a session ended otherwise than by QUIT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// How far it had come.
    pub stage: Stage,
    /// What happened.
    pub cause: Cause,
}

/// How far a session had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Waiting for the greeting.
    Greeting,
    /// EHLO or HELO was sent.
    Hello,
    /// STARTTLS was sent, or would have been.
    Tls,
    /// Logging in.
    Auth,
    /// No transaction.
    Idle,
    /// In a transaction. Its outcomes say more.
    Transaction,
}

/// What ended a session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The owner gave up: no mechanism fits, or the server failed to prove itself.
    #[error("logging in was given up")]
    AuthCancelled,
    /// The server does not let anybody log in.
    #[error("the server does not offer AUTH")]
    AuthNotOffered,
    /// The content could not be handed in, or not as much of it as was announced.
    #[error("the message's content is not available")]
    Content,
    /// The connection broke.
    #[error("the server closed the connection")]
    Lost,
    /// The server does not keep to the protocol.
    #[error("{0}")]
    Protocol(#[from] ReplyError),
    /// The server refused.
    #[error("{0}")]
    Refused(Reply),
    /// The server was silent for too long.
    #[error("the server did not answer in time")]
    Timeout,
    /// TLS is required and not to be had.
    #[error("TLS is required, and the server does not offer it")]
    TlsNotOffered,
    /// A reply that nothing had asked for.
    #[error("the server sent a reply out of turn: {0}")]
    Unsolicited(Reply),
}

impl Failure {
    /// What it means for a message that was to go this way, when no other way is left. Transient:
    /// the trouble is the host's, and may pass, except where the host says that it never takes
    /// mail (RFC 7504 §2).
    pub fn outcome(&self, peer: &Domain) -> Outcome {
        let status = match (&self.cause, self.stage) {
            (Cause::Refused(reply), Stage::Greeting | Stage::Hello)
                if reply.code().get() == 521 =>
            {
                return refused(reply, None, peer);
            }
            (Cause::Refused(reply), Stage::Auth) => reply
                .enhanced()
                .unwrap_or(EnhancedCode::BAD_CREDENTIALS)
                .with_class(StatusClass::Transient),
            (Cause::Refused(reply), _) => reply
                .enhanced()
                .unwrap_or(EnhancedCode::SHUTTING_DOWN)
                .with_class(StatusClass::Transient),
            (Cause::Lost | Cause::Timeout, _) => EnhancedCode::BAD_CONNECTION,
            (Cause::Content, _) => EnhancedCode::SYSTEM_TROUBLE,
            (Cause::TlsNotOffered | Cause::AuthCancelled | Cause::AuthNotOffered, _) => {
                EnhancedCode::POLICY_FOR_NOW
            }
            (Cause::Protocol(_) | Cause::Unsolicited(_), _) => {
                EnhancedCode::SYNTAX_ERROR.with_class(StatusClass::Transient)
            }
        };
        Outcome {
            remote_mta: self.said_by_peer().then(|| peer.clone()),
            ..Outcome::local(status, bounded(self.to_string()))
        }
    }

    fn said_by_peer(&self) -> bool {
        matches!(self.cause, Cause::Refused(_) | Cause::Unsolicited(_))
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = match self.stage {
            Stage::Greeting => "waiting for the greeting",
            Stage::Hello => "after EHLO",
            Stage::Tls => "at STARTTLS",
            Stage::Auth => "while logging in",
            Stage::Idle => "between messages",
            Stage::Transaction => "in the transaction",
        };
        match &self.cause {
            Cause::Refused(reply) => write!(f, "{reply}"),
            cause => write!(f, "{cause} ({place})"),
        }
    }
}

/// The outcome of a recipient whose message the server took.
pub(super) fn relayed(reply: &Reply, peer: &Domain) -> Outcome {
    Outcome {
        action: Action::Relayed,
        status: reply.enhanced().unwrap_or(EnhancedCode::OK),
        diagnostic: bounded(reply.to_string()),
        remote_mta: Some(peer.clone()),
    }
}

/// The outcome that a negative reply means; `status` if the reply's own code is not to count.
pub(super) fn refused(reply: &Reply, status: Option<EnhancedCode>, peer: &Domain) -> Outcome {
    let class = match reply.code().class() {
        // Neither a success nor a failure where it came: a confused server.
        StatusClass::Success => StatusClass::Transient,
        class => class,
    };
    let general = EnhancedCode::UNDEFINED_FAILURE.with_class(class);
    let status = status.or(reply.enhanced()).unwrap_or(general);
    let status = if status.class() == StatusClass::Success {
        general
    } else {
        status
    };
    Outcome {
        remote_mta: Some(peer.clone()),
        ..Outcome::local(status, bounded(reply.to_string()))
    }
}

fn bounded(mut text: String) -> String {
    if text.len() > MAX_DIAGNOSTIC {
        let end = (0..=MAX_DIAGNOSTIC)
            .rev()
            .find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
    }
    text
}
