use mail_types::{Outcome, Secret};

use super::Failure;

/// What the session wants of its owner, or tells it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A step of logging in. Answered by `handle_auth`, but for [`AuthPrompt::Accepted`].
    Auth(AuthPrompt),
    /// The session is over: send what there is to send and close. Without a failure it ended as
    /// asked, by `quit`.
    Closed(Option<Failure>),
    /// Hand in the content by `handle_content`, until its end or [`Event::Finished`].
    Content,
    /// The transaction is over: one outcome for each recipient, in the envelope's order. Another
    /// may begin unless [`Event::Closed`] follows.
    Finished(Vec<Outcome>),
    /// `begin` may be called.
    Ready,
    /// Send what there is to send, do the TLS handshake, then call `handle_tls`.
    StartTls,
    /// The server ended a connection that had been used before without a word on the new
    /// transaction: it can be begun on another connection. [`Event::Closed`] follows.
    Unanswered,
}

/// A step of logging in (RFC 4954 §4).
#[derive(Debug)]
pub enum AuthPrompt {
    /// The server is content. The owner has to see that its mechanism is content too.
    Accepted,
    /// The server's challenge, decoded.
    Challenge(Vec<u8>),
    /// Choose one of these, upper case.
    Mechanisms(Vec<String>),
}

/// The answer to an [`AuthPrompt`].
#[derive(Debug)]
pub enum AuthStep {
    /// Give up: no mechanism fits, or the server's challenge is wrong.
    Cancel,
    /// The answer to a challenge, not yet encoded.
    Response(Secret<Vec<u8>>),
    /// Begin.
    Start {
        /// One of those offered.
        mechanism: String,
        /// Absent is not the same as empty.
        initial_response: Option<Secret<Vec<u8>>>,
    },
}
