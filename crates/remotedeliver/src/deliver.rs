//! One message to one destination: which connection, which server, which outcome.

use std::time::Instant;

use arc_swap::ArcSwap;
use mail_types::{Action, EnhancedCode, Outcome};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection::{Connection, OpenError, Sent};
use crate::destination::Destination;
use crate::job::Job;
use crate::ledger::Ledger;
use crate::live::Live;
use crate::pool::{Place, Pool};
use crate::route::{self, Candidate};
use crate::unreachable::Unreachable;

/// Delivers messages. Shared by all tasks.
#[derive(Debug)]
pub(crate) struct Deliverer {
    pub(crate) live: ArcSwap<Live>,
    pub(crate) pool: Pool,
    pub(crate) ledger: Ledger,
    pub(crate) unreachable: Unreachable,
    pub(crate) tracker: TaskTracker,
}

/// The result of an attempt.
#[derive(Debug, PartialEq)]
pub(crate) struct Delivery {
    /// One for each recipient, in the job's order.
    pub(crate) attempts: Vec<Attempt>,
    /// No server of the destination could be reached.
    pub(crate) down: bool,
}

/// What became of one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) outcome: Outcome,
    /// The server that took it reports to the sender by itself (RFC 3461 §5.2.1).
    pub(crate) reports_passed_on: bool,
}

impl Attempt {
    /// `dsn`: the server has what the sender asked for by way of reports.
    pub(crate) fn new(outcome: Outcome, dsn: bool) -> Self {
        Self {
            reports_passed_on: dsn && outcome.action == Action::Relayed,
            outcome,
        }
    }
}

/// Of no server.
impl From<Outcome> for Attempt {
    fn from(outcome: Outcome) -> Self {
        Self::new(outcome, false)
    }
}

/// Where an attempt stands before its transaction.
enum Ready {
    Connected(Box<Connection>),
    /// No server will do.
    Undeliverable {
        outcome: Outcome,
        down: bool,
    },
}

impl Deliverer {
    /// Attempts to deliver. None where `stop` came before the transaction began: the message is
    /// queued's again.
    pub(crate) async fn deliver(&self, job: &Job, stop: &CancellationToken) -> Option<Delivery> {
        let claim = stop
            .run_until_cancelled(
                self.ledger
                    .claim(job.queue_id, job.accepted_at, &job.indices),
            )
            .await?;
        let mut attempts = claim.known();
        let open: Vec<usize> = places_where(&attempts, Option::is_none);
        let mut down = false;
        if !open.is_empty() {
            let delivery = self.attempt(job, &open, stop).await?;
            down = delivery.down;
            for (place, attempt) in open.iter().zip(delivery.attempts) {
                if let Some(slot) = attempts.get_mut(*place) {
                    *slot = Some(attempt);
                }
            }
        }
        let missing = || Outcome::local(EnhancedCode::SYSTEM_TROUBLE, "no outcome").into();
        let attempts: Vec<_> = attempts
            .into_iter()
            .map(|attempt| attempt.unwrap_or_else(missing))
            .collect();
        claim.note(&attempts);
        Some(Delivery { attempts, down })
    }

    async fn attempt(
        &self,
        job: &Job,
        recipients: &[usize],
        stop: &CancellationToken,
    ) -> Option<Delivery> {
        let place = stop
            .run_until_cancelled(self.pool.place(&job.destination))
            .await?;
        let live = self.live.load_full();
        while let Some(mut connection) = stop.run_until_cancelled(place.take_idle()).await? {
            let attempts = transact(&mut connection, job, recipients).await;
            self.put_back(&live, &place, connection);
            if let Some(attempts) = attempts {
                return Some(Delivery {
                    attempts,
                    down: false,
                });
            }
        }
        let ready = stop
            .run_until_cancelled(self.connect(&live, &job.destination))
            .await?;
        match ready {
            Ready::Connected(mut connection) => {
                let attempts = transact(&mut connection, job, recipients).await;
                self.put_back(&live, &place, *connection);
                Some(Delivery {
                    attempts: attempts.unwrap_or_else(|| vec![lost().into(); recipients.len()]),
                    down: false,
                })
            }
            Ready::Undeliverable { outcome, down } => Some(Delivery {
                attempts: vec![outcome.into(); recipients.len()],
                down,
            }),
        }
    }

    /// Tries the destination's servers one after another, until one is ready for a message.
    async fn connect(&self, live: &Live, destination: &Destination) -> Ready {
        let found = route::find(destination, &live.dns, &live.own, live.smtp_port).await;
        let mut candidates = match found {
            Ok(candidates) => candidates,
            Err(outcome) => {
                let down = outcome.action == Action::Delayed;
                return Ready::Undeliverable { outcome, down };
            }
        };
        self.unreachable.put_last(&mut candidates, Instant::now());
        let mut last = None;
        for candidate in &candidates {
            match self.open(live, destination, candidate).await {
                Ok(connection) => return Ready::Connected(Box::new(connection)),
                Err(outcome) => last = Some(outcome),
            }
        }
        Ready::Undeliverable {
            outcome: last.unwrap_or_else(lost),
            down: true,
        }
    }

    async fn open(
        &self,
        live: &Live,
        destination: &Destination,
        candidate: &Candidate,
    ) -> Result<Connection, Outcome> {
        let plan = live.plan(destination, candidate)?;
        let opened = live.opener.open(candidate, &plan).await;
        match &opened {
            Err(OpenError::Connect(..)) => {
                self.unreachable.note(candidate.address, Instant::now());
            }
            _ => self.unreachable.forget(candidate.address),
        }
        let connection = opened.map_err(|error: OpenError| {
            metrics::counter!("correo_remote_connections_failed_total").increment(1);
            tracing::debug!(%destination, host = %candidate, %error, "no session");
            error.outcome()
        })?;
        metrics::counter!("correo_remote_connections_total").increment(1);
        if let Destination::Domain(domain) = destination
            && connection.is_with(&live.own)
        {
            self.tracker.spawn(connection.quit());
            return Err(route::loops(domain));
        }
        Ok(connection)
    }

    /// Keeps a connection for the next message, or closes it without anybody waiting for that.
    fn put_back(&self, live: &Live, place: &Place, connection: Connection) {
        let limit = live.connection_messages;
        let worn = limit > 0 && connection.messages >= limit;
        if connection.is_usable() && !worn && !live.idle_timeout.is_zero() {
            place.put_idle(connection);
        } else {
            self.tracker.spawn(connection.quit());
        }
    }
}

/// Sends the message over the connection, in several transactions where the server takes fewer
/// recipients in one (RFC 5321 §4.5.3.1.10). None if the server had gone before it knew of the
/// message.
async fn transact(
    connection: &mut Connection,
    job: &Job,
    recipients: &[usize],
) -> Option<Vec<Attempt>> {
    let mut results: Vec<Option<Attempt>> = vec![None; recipients.len()];
    loop {
        let open = places_where(&results, |result| {
            result.as_ref().is_none_or(|one| is_too_many(&one.outcome))
        });
        let places: Vec<usize> = open
            .iter()
            .filter_map(|at| recipients.get(*at))
            .copied()
            .collect();
        let sent = connection
            .send(job.envelope_for(&places), &job.content)
            .await;
        let Sent::Outcomes(outcomes) = sent else {
            if open.len() == recipients.len() {
                return None;
            }
            break;
        };
        let left = outcomes
            .iter()
            .filter(|outcome| is_too_many(outcome))
            .count();
        for (at, outcome) in open.iter().zip(outcomes) {
            if let Some(slot) = results.get_mut(*at) {
                *slot = Some(Attempt::new(outcome, connection.has_dsn()));
            }
        }
        if left == 0 || left == open.len() || !connection.is_usable() {
            break;
        }
    }
    Some(
        results
            .into_iter()
            .map(|result| result.unwrap_or_else(|| lost().into()))
            .collect(),
    )
}

fn is_too_many(outcome: &Outcome) -> bool {
    outcome.status == EnhancedCode::TOO_MANY_RECIPIENTS
}

fn places_where<T>(list: &[T], wanted: impl Fn(&T) -> bool) -> Vec<usize> {
    let places = list.iter().enumerate().filter(|(_, item)| wanted(item));
    places.map(|(place, _)| place).collect()
}

fn lost() -> Outcome {
    Outcome::local(
        EnhancedCode::BAD_CONNECTION,
        "the server closed the connection before it took the message",
    )
}
