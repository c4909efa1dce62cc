//! Which messages an operator means.

use mail_rpc::pb::queue::v1 as pb;
use mail_types::{EmailAddress, QueueId};
use queue_store::Message;
use tonic::Status;

use crate::scheduler::State;

#[derive(Debug, Default)]
pub(super) struct Selection {
    ids: Vec<QueueId>,
    from: Option<Pattern>,
    to: Option<Pattern>,
    state: Option<State>,
    min_age_seconds: u64,
    min_size: u64,
}

#[derive(Debug)]
enum Pattern {
    /// The null reverse-path.
    Nobody,
    Address(String),
    /// Without the `@`.
    Domain(String),
}

impl Selection {
    pub(super) fn new(selector: Option<pb::Selector>) -> Result<Self, Status> {
        let Some(selector) = selector else {
            return Ok(Self::default());
        };
        let state = match selector.state() {
            pb::State::Active => Some(State::Active),
            pb::State::Deferred => Some(State::Deferred),
            pb::State::Held => Some(State::Held),
            pb::State::Incoming => Some(State::Incoming),
            pb::State::Unspecified => None,
        };
        Ok(Self {
            ids: selector.queue_ids.into_iter().map(QueueId::from).collect(),
            from: pattern(&selector.from)?,
            to: pattern(&selector.to)?,
            state,
            min_age_seconds: selector.min_age_seconds,
            min_size: selector.min_size,
        })
    }

    pub(super) fn is_all(&self) -> bool {
        self.ids.is_empty() && !self.has_conditions()
    }

    /// The ids, if nothing else is asked for.
    pub(super) fn only_ids(&self) -> Option<&[QueueId]> {
        (!self.ids.is_empty() && !self.has_conditions()).then_some(self.ids.as_slice())
    }

    /// The ids, whatever else is asked for.
    pub(super) fn only_these(&self) -> Option<&[QueueId]> {
        (!self.ids.is_empty()).then_some(self.ids.as_slice())
    }

    fn has_conditions(&self) -> bool {
        self.from.is_some()
            || self.to.is_some()
            || self.state.is_some()
            || self.min_age_seconds > 0
            || self.min_size > 0
    }

    /// All but the state.
    pub(super) fn matches(&self, message: &Message, now: u64) -> bool {
        let sender = message.envelope.reverse_path.address();
        let age = now.saturating_sub(message.accepted_at) / 1000;
        let from = self.from.as_ref().is_none_or(|p| p.matches(sender));
        let mut recipients = message.recipients.iter();
        let to = self
            .to
            .as_ref()
            .is_none_or(|p| recipients.any(|r| p.matches(Some(&r.address))));
        from && to && age >= self.min_age_seconds && message.size >= self.min_size
    }

    pub(super) fn matches_state(&self, state: State) -> bool {
        self.state.is_none_or(|wanted| wanted == state)
    }
}

impl Pattern {
    fn matches(&self, address: Option<&EmailAddress>) -> bool {
        match (self, address) {
            (Self::Nobody, None) => true,
            (Self::Address(wanted), Some(address)) => address.folded() == *wanted,
            (Self::Domain(wanted), Some(address)) => address.domain.to_string() == *wanted,
            _ => false,
        }
    }
}

fn pattern(text: &str) -> Result<Option<Pattern>, Status> {
    let wrong =
        |error: &dyn std::fmt::Display| Status::invalid_argument(format!("{text}: {error}"));
    if text.is_empty() {
        return Ok(None);
    }
    if text == "<>" {
        return Ok(Some(Pattern::Nobody));
    }
    if let Some(domain) = text.strip_prefix('@') {
        let domain: mail_types::Domain = domain.parse().map_err(|error| wrong(&error))?;
        return Ok(Some(Pattern::Domain(domain.to_string())));
    }
    let address: EmailAddress = text.parse().map_err(|error| wrong(&error))?;
    Ok(Some(Pattern::Address(address.folded())))
}

pub(super) fn state_to_pb(state: State) -> pb::State {
    match state {
        State::Active => pb::State::Active,
        State::Deferred => pb::State::Deferred,
        State::Held => pb::State::Held,
        State::Incoming => pb::State::Incoming,
    }
}
