use mail_types::{Action, Outcome};
use queue_store::{Message, Notify, Progress, Recipient, Route};
use tracing::info;

/// How long a recipient waits that the directory could not resolve, in milliseconds. That is
/// trouble of our own, which is over as soon as the daemon is back.
const UNAVAILABLE_WAIT: u64 = 10_000;

/// What routing found for a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// By the recipients' places.
    pub changes: Vec<(u32, Change)>,
    /// What aliases added; goes behind the last recipient.
    pub added: Vec<Recipient>,
}

/// What becomes of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Its end.
    Finish(Outcome),
    /// It stands for another one that wants this told as well.
    Notify(Notify),
    /// Its way.
    Route(Route),
    /// The directory could not say.
    Unavailable(Outcome),
}

impl Resolved {
    /// Puts it into the record. Answers the places that changed.
    pub fn apply(self, message: &mut Message, wall: u64) -> Vec<u32> {
        let mut changed = Vec::with_capacity(self.changes.len() + self.added.len());
        let id = message.id;
        let start = message.recipients.len();
        message.recipients.extend(self.added);
        let end = message.recipients.len();
        changed.extend((start..end).filter_map(|index| u32::try_from(index).ok()));
        for (index, change) in self.changes {
            let Some(recipient) = message.recipients.get_mut(index as usize) else {
                continue;
            };
            match change {
                Change::Notify(notify) => recipient.notify = recipient.notify.or(notify),
                // Meanwhile it came to its end.
                _ if recipient.is_finished() => continue,
                Change::Finish(outcome) => {
                    if outcome.action == Action::Failed {
                        let to = &recipient.address;
                        let diagnostic = &outcome.diagnostic;
                        info!(qid = %id, index, %to, status = %outcome.status, diagnostic, "msg.failed");
                    }
                    recipient.finish(outcome);
                }
                Change::Route(route) => recipient.progress = Progress::Waiting(route),
                Change::Unavailable(outcome) => {
                    recipient.next_attempt_at = wall.saturating_add(UNAVAILABLE_WAIT);
                    recipient.last = Some(outcome);
                }
            }
            changed.push(index);
        }
        changed
    }
}
