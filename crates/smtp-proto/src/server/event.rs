use mail_types::Secret;

use super::{MailFrom, RcptTo};

/// What the session wants of its owner. Those marked as questions stop it until they are answered.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A step of an AUTH exchange. Answered by `handle_auth`, but for [`AuthStep::Cancel`].
    Auth(AuthStep),
    /// The exchange that last answered with success is complete: the client is authenticated.
    Authenticated,
    /// Question: content is about to come for the message of the last sender and recipients.
    /// Answered by `handle_verdict`; until then the owner may put trace fields into
    /// `content_mut`.
    Begin,
    /// The session is over. Send what there is to send and close.
    Closed(CloseReason),
    /// Question: the content is complete, and what `content_mut` has is its last piece. Answered
    /// by `handle_stored`.
    Complete,
    /// Content that came in is to be forgotten, the message is refused; more of it may still be
    /// read, but is not handed out.
    Discard,
    /// Question: may this recipient be added? Answered by `handle_verdict`.
    Recipient(RcptTo),
    /// There is no transaction any more: sender and recipients are to be forgotten.
    Reset,
    /// Question: may this sender begin a transaction? Answered by `handle_verdict`.
    Sender(MailFrom),
    /// Send what there is to send, do the TLS handshake, then call `handle_tls`. All that is known
    /// of the client, a login too, is to be forgotten (RFC 3207 §4.2).
    StartTls,
}

/// What the client did in an AUTH exchange (RFC 4954 §4), decoded.
#[derive(Debug)]
pub enum AuthStep {
    /// It gave up or made an error; the exchange is over. Not a question.
    Cancel,
    /// It answered the last challenge.
    Response(Secret<Vec<u8>>),
    /// It began.
    Start {
        /// One of the names offered.
        mechanism: String,
        /// Absent is not the same as empty.
        initial_response: Option<Secret<Vec<u8>>>,
    },
}

/// The answer to an [`AuthStep`].
#[derive(Debug)]
pub enum AuthAnswer {
    /// Send this, not yet encoded, and wait for a response.
    Challenge(Vec<u8>),
    /// It failed.
    Failure(crate::AuthFailure),
    /// The client is who it says. Data that the mechanism sends along goes as a last challenge,
    /// which the client answers by an empty line (RFC 4954 §4).
    Success(Option<Vec<u8>>),
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// Too many errors or commands that lead nowhere.
    Errors,
    /// The client said QUIT.
    Quit,
    /// A verdict asked for it: too busy.
    Refused,
    /// The server stops.
    Shutdown,
    /// The client was silent for too long.
    Timeout,
}

impl CloseReason {
    /// A word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Quit => "quit",
            Self::Refused => "refused",
            Self::Shutdown => "shutdown",
            Self::Timeout => "timeout",
        }
    }
}
