use crate::{Domain, EnhancedCode, StatusClass};

/// What became of a recipient (the `Action` field of RFC 3464 §2.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Not yet delivered; it will be tried again.
    Delayed,
    /// In the recipient's mailbox.
    Delivered,
    /// Turned into other recipients.
    Expanded,
    /// Given up.
    Failed,
    /// Handed to another MTA.
    Relayed,
}

/// One attempt's result for one recipient: data, never a text to be read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What became of it.
    pub action: Action,
    /// The status code.
    pub status: EnhancedCode,
    /// The peer's reply or our own words, one line, for people and for `Diagnostic-Code`.
    pub diagnostic: String,
    /// The MTA that said it, or `None` where it was this one.
    pub remote_mta: Option<Domain>,
}

impl Outcome {
    /// An outcome of this MTA's own: the action follows from the status class.
    pub fn local(status: EnhancedCode, diagnostic: impl Into<String>) -> Self {
        let action = match status.class() {
            StatusClass::Success => Action::Delivered,
            StatusClass::Transient => Action::Delayed,
            StatusClass::Permanent => Action::Failed,
        };
        Self {
            action,
            status,
            diagnostic: diagnostic.into(),
            remote_mta: None,
        }
    }
}
