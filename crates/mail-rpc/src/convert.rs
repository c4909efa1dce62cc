//! Conversions between messages of the contracts and `mail-types`.

use mail_types::{
    Action, Domain, EnhancedCode, Flags, Outcome, ReversePath, StatusClass, SystemFlag, Uid, UidSet,
};

use crate::pb::common::v1 as common;
use crate::pb::mailbox::v1 as mailbox;

/// A message that does not mean what its type promises: the peer has a bug or another version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a peer daemon sent an invalid {what}")]
pub struct ConvertError {
    what: &'static str,
}

impl ConvertError {
    /// Names the field or message that is wrong.
    pub fn new(what: &'static str) -> Self {
        Self { what }
    }
}

impl From<ConvertError> for tonic::Status {
    fn from(error: ConvertError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

impl From<EnhancedCode> for common::EnhancedStatus {
    fn from(code: EnhancedCode) -> Self {
        Self {
            class: code.class().digit().into(),
            subject: code.subject().into(),
            detail: code.detail().into(),
        }
    }
}

impl TryFrom<common::EnhancedStatus> for EnhancedCode {
    type Error = ConvertError;

    fn try_from(status: common::EnhancedStatus) -> Result<Self, ConvertError> {
        let wrong = || ConvertError::new("enhanced status");
        let class = match status.class {
            2 => StatusClass::Success,
            4 => StatusClass::Transient,
            5 => StatusClass::Permanent,
            _ => return Err(wrong()),
        };
        let subject = u16::try_from(status.subject).map_err(|_| wrong())?;
        let detail = u16::try_from(status.detail).map_err(|_| wrong())?;
        Self::new(class, subject, detail).map_err(|_| wrong())
    }
}

impl From<&ReversePath> for common::ReversePath {
    fn from(path: &ReversePath) -> Self {
        Self {
            address: path.address().map(ToString::to_string),
        }
    }
}

impl TryFrom<common::ReversePath> for ReversePath {
    type Error = ConvertError;

    fn try_from(path: common::ReversePath) -> Result<Self, ConvertError> {
        match path.address {
            None => Ok(Self::Null),
            Some(address) => address
                .parse()
                .map(Self::Address)
                .map_err(|_| ConvertError::new("reverse-path")),
        }
    }
}

impl From<&Outcome> for common::Outcome {
    fn from(outcome: &Outcome) -> Self {
        let action = match outcome.action {
            Action::Delayed => common::outcome::Action::Delayed,
            Action::Delivered => common::outcome::Action::Delivered,
            Action::Expanded => common::outcome::Action::Expanded,
            Action::Failed => common::outcome::Action::Failed,
            Action::Relayed => common::outcome::Action::Relayed,
        };
        Self {
            action: action.into(),
            status: Some(outcome.status.into()),
            diagnostic: outcome.diagnostic.clone(),
            remote_mta: outcome.remote_mta.as_ref().map(ToString::to_string),
        }
    }
}

impl TryFrom<common::Outcome> for Outcome {
    type Error = ConvertError;

    fn try_from(outcome: common::Outcome) -> Result<Self, ConvertError> {
        let action = match outcome.action() {
            common::outcome::Action::Unspecified => return Err(ConvertError::new("outcome")),
            common::outcome::Action::Delayed => Action::Delayed,
            common::outcome::Action::Delivered => Action::Delivered,
            common::outcome::Action::Expanded => Action::Expanded,
            common::outcome::Action::Failed => Action::Failed,
            common::outcome::Action::Relayed => Action::Relayed,
        };
        let status = outcome
            .status
            .ok_or(ConvertError::new("outcome"))?
            .try_into()?;
        let remote_mta = match outcome.remote_mta {
            None => None,
            Some(name) => Some(
                name.parse::<Domain>()
                    .map_err(|_| ConvertError::new("remote MTA"))?,
            ),
        };
        Ok(Self {
            action,
            status,
            diagnostic: outcome.diagnostic,
            remote_mta,
        })
    }
}

impl From<&UidSet> for mailbox::UidSet {
    fn from(set: &UidSet) -> Self {
        let ends = set
            .ranges()
            .iter()
            .flat_map(|(low, high)| [low.get(), high.get()]);
        Self {
            bounds: ends.collect(),
        }
    }
}

impl TryFrom<&mailbox::UidSet> for UidSet {
    type Error = ConvertError;

    fn try_from(set: &mailbox::UidSet) -> Result<Self, ConvertError> {
        let wrong = || ConvertError::new("UID set");
        let mut out = Self::new();
        for range in set.bounds.chunks(2) {
            let [low, high] = range else {
                return Err(wrong());
            };
            let low = Uid::new(*low).ok_or_else(wrong)?;
            let high = Uid::new(*high)
                .filter(|high| *high >= low)
                .ok_or_else(wrong)?;
            out.insert_range(low, high);
        }
        Ok(out)
    }
}

/// Reads an optional set; an absent one is empty.
pub fn uid_set(set: Option<&mailbox::UidSet>) -> Result<UidSet, ConvertError> {
    set.map_or_else(|| Ok(UidSet::new()), TryInto::try_into)
}

/// Splits flag names of a client into the stored bits and keywords; `\Recent` is left out, since
/// no client can set it (RFC 3501 §2.3.2).
pub fn flag_names<'a>(names: impl IntoIterator<Item = &'a str>) -> mailbox::FlagNames {
    let mut system = Flags::NONE;
    let mut keywords = Vec::new();
    for name in names {
        if let Some(flag) = SystemFlag::from_name(name) {
            system = system | flag.into();
        } else if !name.starts_with('\\') {
            keywords.push(name.to_owned());
        }
    }
    mailbox::FlagNames {
        system: system.bits(),
        keywords,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_round_trip() {
        let mut outcome = Outcome::local(EnhancedCode::NO_SUCH_USER, "no such user");
        outcome.remote_mta = Some("mx.aula.test".parse().unwrap());
        assert_eq!(
            Outcome::try_from(common::Outcome::from(&outcome)).unwrap(),
            outcome
        );
        assert!(Outcome::try_from(common::Outcome::default()).is_err());
    }

    #[test]
    fn uid_sets_round_trip() {
        let set: UidSet = [1, 2, 5].into_iter().filter_map(Uid::new).collect();
        let message = mailbox::UidSet::from(&set);
        assert_eq!(message.bounds, [1, 2, 5, 5]);
        assert_eq!(UidSet::try_from(&message).unwrap(), set);
        for bad in [vec![1], vec![0, 1], vec![2, 1]] {
            assert!(UidSet::try_from(&mailbox::UidSet { bounds: bad }).is_err());
        }
    }

    #[test]
    fn flag_names_leave_recent_out() {
        let names = flag_names(["\\seen", "\\Recent", "$Forwarded"]);
        assert_eq!(
            (names.system, names.keywords),
            (1, vec!["$Forwarded".to_owned()])
        );
    }
}
