//! Why something is refused, and the reply that follows from it: the only place where a cause
//! becomes codes and words.

use mail_types::{EnhancedCode, StatusClass};

use super::{Reply, ReplyCode};

/// Why a sender, a recipient or a message is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The client has to authenticate first (RFC 4954 §6).
    AuthRequired,
    /// The message breaks a rule of RFC 5322 or RFC 5321 §2.3.8 that this server insists on.
    BadContent,
    /// The directory cannot say who lives here.
    DirectoryUnavailable,
    /// The domain is ours, the user is not there.
    NoSuchUser,
    /// The server has no room or time for more sessions or messages; the session ends.
    Overloaded,
    /// The queue said no, with its own status and words.
    Queue {
        /// Transient or permanent, and why. Success would make no sense and counts as transient.
        status: EnhancedCode,
        /// One line.
        text: String,
    },
    /// The queue cannot store the message.
    QueueFull,
    /// The queue cannot be reached.
    QueueUnavailable,
    /// The recipient is in a domain that is not ours, and the client has no right to relay.
    RelayDenied,
    /// The message has gone through too many hosts (RFC 5321 §6.3).
    RoutingLoop,
    /// The address is not one that this user may send from.
    SenderNotOwned,
    /// The message is larger than what is taken (RFC 1870 §6.2).
    TooLarge,
    /// The message has as many recipients as it may have (RFC 5321 §4.5.3.1.10).
    TooManyRecipients,
}

impl From<&Refusal> for Reply {
    fn from(refusal: &Refusal) -> Self {
        use EnhancedCode as E;
        use ReplyCode as C;
        let (code, enhanced, text) = match refusal {
            Refusal::AuthRequired => (
                C::AUTH_REQUIRED,
                E::AUTH_REQUIRED,
                "Authentication required",
            ),
            Refusal::BadContent => (C::FAILED, E::BAD_CONTENT, "The message is malformed"),
            Refusal::DirectoryUnavailable => (
                C::LOCAL_ERROR,
                E::DIRECTORY_FAILURE,
                "The directory does not answer; try again later",
            ),
            Refusal::NoSuchUser => (C::REFUSED, E::NO_SUCH_USER, "No such user here"),
            Refusal::Overloaded => (
                C::NOT_AVAILABLE,
                E::SHUTTING_DOWN,
                "Too busy; try again later",
            ),
            Refusal::Queue { status, text } => return queue_reply(*status, text),
            Refusal::QueueFull => (C::NO_ROOM, E::SYSTEM_FULL, "No room to store the message"),
            Refusal::QueueUnavailable => (
                C::LOCAL_ERROR,
                E::SYSTEM_TROUBLE,
                "The queue does not answer; try again later",
            ),
            Refusal::RelayDenied => (C::REFUSED, E::NOT_ALLOWED, "Relaying denied"),
            Refusal::RoutingLoop => (
                C::FAILED,
                E::ROUTING_LOOP,
                "Too many hops: the message goes in a circle",
            ),
            Refusal::SenderNotOwned => (
                C::REFUSED,
                E::NOT_ALLOWED,
                "You may not send from this address",
            ),
            Refusal::TooLarge => (
                C::TOO_LARGE,
                E::MESSAGE_TOO_LARGE,
                "The message is larger than this server takes",
            ),
            Refusal::TooManyRecipients => (
                C::NO_ROOM,
                E::TOO_MANY_RECIPIENTS,
                "Too many recipients in one message",
            ),
        };
        Self::fixed(code, enhanced, text)
    }
}

fn queue_reply(status: EnhancedCode, text: &str) -> Reply {
    let full = status.with_class(StatusClass::Transient) == EnhancedCode::SYSTEM_FULL;
    let too_large = status == EnhancedCode::MESSAGE_TOO_LARGE;
    let (code, status) = match status.class() {
        StatusClass::Permanent if too_large => (ReplyCode::TOO_LARGE, status),
        StatusClass::Permanent => (ReplyCode::FAILED, status),
        StatusClass::Transient if full => (ReplyCode::NO_ROOM, status),
        StatusClass::Transient => (ReplyCode::LOCAL_ERROR, status),
        StatusClass::Success => (ReplyCode::LOCAL_ERROR, EnhancedCode::SYSTEM_TROUBLE),
    };
    Reply::new(code, Some(status), text.to_owned())
}

/// Why an AUTH exchange failed (RFC 4954 §4 and §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthFailure {
    /// Unknown name or wrong password; which one is not told.
    BadCredentials,
    /// The client's message does not parse.
    BadExchange,
    /// The client cancelled.
    Cancelled,
    /// The mechanism sends a password in the clear and there is no TLS.
    EncryptionRequired,
    /// Something of ours does not work.
    Temporary,
    /// Too many failures from there.
    TooManyFailures,
    /// No such mechanism.
    UnknownMechanism,
}

impl From<AuthFailure> for Reply {
    fn from(failure: AuthFailure) -> Self {
        use EnhancedCode as E;
        use ReplyCode as C;
        let (code, enhanced, text) = match failure {
            AuthFailure::BadCredentials => (
                C::BAD_CREDENTIALS,
                E::BAD_CREDENTIALS,
                "Authentication credentials invalid",
            ),
            AuthFailure::BadExchange => (
                C::BAD_ARGUMENTS,
                E::SYNTAX_ERROR,
                "The authentication exchange does not parse",
            ),
            AuthFailure::Cancelled => (
                C::BAD_ARGUMENTS,
                E::AUTH_REQUIRED,
                "Authentication cancelled",
            ),
            AuthFailure::EncryptionRequired => (
                C::ENCRYPTION_REQUIRED,
                E::ENCRYPTION_REQUIRED,
                "This mechanism needs encryption; use STARTTLS first",
            ),
            AuthFailure::Temporary => (
                C::TEMPORARY_AUTH,
                E::POLICY_FOR_NOW,
                "Authentication not possible at the moment; try again later",
            ),
            AuthFailure::TooManyFailures => (
                C::TEMPORARY_AUTH,
                E::POLICY_FOR_NOW,
                "Too many failed logins; try again later",
            ),
            AuthFailure::UnknownMechanism => (
                C::BAD_ARGUMENT_VALUE,
                E::INVALID_ARGUMENTS,
                "Authentication mechanism not supported",
            ),
        };
        Self::fixed(code, enhanced, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queues_status_picks_the_code() {
        for (status, code) in [
            (EnhancedCode::SYSTEM_FULL, 452),
            (EnhancedCode::SYSTEM_TROUBLE, 451),
            (EnhancedCode::MESSAGE_TOO_LARGE, 552),
            (EnhancedCode::ROUTING_LOOP, 554),
            (EnhancedCode::OK, 451),
        ] {
            let refusal = Refusal::Queue {
                status,
                text: "x".into(),
            };
            assert_eq!(Reply::from(&refusal).code().get(), code, "{status}");
        }
    }

    #[test]
    fn what_the_contract_promises() {
        for (refusal, start) in [
            (Refusal::NoSuchUser, "550 5.1.1 "),
            (Refusal::RelayDenied, "550 5.7.1 "),
            (Refusal::TooLarge, "552 5.3.4 "),
            (Refusal::QueueFull, "452 4.3.1 "),
            (Refusal::QueueUnavailable, "451 4.3.0 "),
            (Refusal::RoutingLoop, "554 5.4.6 "),
            (Refusal::TooManyRecipients, "452 4.5.3 "),
        ] {
            assert!(
                Reply::from(&refusal).to_string().starts_with(start),
                "{refusal:?}"
            );
        }
    }
}
