use std::io::{self, BufRead};

use mail_rpc::pb::queue::v1 as pb;
use mail_types::QueueId;

use crate::cli::{State, Which};
use crate::failure::Failure;

/// All messages; in capitals, so that nobody types it by accident.
const ALL: &str = "ALL";

/// Which messages are meant.
#[derive(Debug)]
pub(super) struct Selection {
    pub(super) selector: pb::Selector,
    /// Each message was named.
    pub(super) by_id: bool,
}

impl Selection {
    /// Nothing said is all messages.
    pub(super) fn of(which: Which) -> Result<Self, Failure> {
        let mut names = which.ids;
        let all = names.iter().any(|name| name == ALL);
        names.retain(|name| name != ALL);
        names.extend(which.id);
        if all && !names.is_empty() {
            return Err(Failure::Usage(format!("{ALL} and ids exclude each other")));
        }
        let ids = ids(&names)?;
        let selector = pb::Selector {
            queue_ids: ids.iter().map(|id| id.get()).collect(),
            from: which.from.unwrap_or_default(),
            to: which.to.unwrap_or_default(),
            state: state(which.state).into(),
            min_age_seconds: which.min_age.map_or(0, |age| age.as_secs()),
            min_size: which.min_size.map_or(0, mail_config::Size::bytes),
        };
        // An empty list on standard input must not become all messages.
        if !names.is_empty() && ids.is_empty() {
            return Err(Failure::Usage(
                "there are no ids on standard input".to_owned(),
            ));
        }
        Ok(Self {
            by_id: !ids.is_empty(),
            selector,
        })
    }

    /// Nothing said is an error.
    pub(super) fn named(which: Which) -> Result<Self, Failure> {
        let all = which.ids.iter().any(|name| name == ALL);
        let selection = Self::of(which)?;
        if !all && selection.selector == pb::Selector::default() {
            return Err(Failure::Usage(format!(
                "say which messages: ids, --from, --to, --state, --min-age, --min-size, or {ALL}"
            )));
        }
        Ok(selection)
    }
}

/// Reads queue ids; `-` stands for those on standard input.
pub(super) fn ids(names: &[String]) -> Result<Vec<QueueId>, Failure> {
    let mut ids = Vec::new();
    for name in names {
        if name == "-" {
            for line in io::stdin().lock().lines() {
                for word in line?.split_whitespace() {
                    ids.push(id(word)?);
                }
            }
        } else {
            ids.push(id(name)?);
        }
    }
    Ok(ids)
}

fn id(text: &str) -> Result<QueueId, Failure> {
    text.parse().map_err(|_| {
        let all = if text.eq_ignore_ascii_case(ALL) {
            "; for all messages write ALL in capitals"
        } else {
            ""
        };
        Failure::Usage(format!(
            "{text:?} is no queue id: it has 13 letters and digits, as in `correo queue list`{all}"
        ))
    })
}

fn state(state: Option<State>) -> pb::State {
    match state {
        None => pb::State::Unspecified,
        Some(State::Incoming) => pb::State::Incoming,
        Some(State::Active) => pb::State::Active,
        Some(State::Deferred) => pb::State::Deferred,
        Some(State::Held) => pb::State::Held,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn which(ids: &[&str]) -> Which {
        Which {
            ids: ids.iter().map(ToString::to_string).collect(),
            ..Which::default()
        }
    }

    #[test]
    fn all_is_said_in_capitals() {
        let id = QueueId::from(5).to_string();
        assert!(Selection::named(which(&[])).is_err());
        assert!(!Selection::named(which(&["ALL"])).unwrap().by_id);
        assert!(Selection::named(which(&[&id])).unwrap().by_id);
        assert!(Selection::named(which(&["ALL", &id])).is_err());
        let error = Selection::named(which(&["all"])).unwrap_err().to_string();
        assert!(error.contains("ALL in capitals"), "{error}");
        let from = Which {
            from: Some("@aula.test".into()),
            ..Which::default()
        };
        assert!(!Selection::named(from).unwrap().by_id);
    }
}
