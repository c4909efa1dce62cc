//! What all sessions share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mail_rpc::auth::Authenticator;
use mail_rpc::directory::Directory;
use tokio::sync::{Semaphore, watch};
use tracing::warn;

use crate::live::Live;
use crate::submit::Submitter;

/// Clients of the other daemons, and the memory budget.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) live: watch::Receiver<Arc<Live>>,
    pub(crate) directory: Directory,
    pub(crate) authenticator: Authenticator,
    pub(crate) mechanisms: Mechanisms,
    pub(crate) submitter: Submitter,
    /// One permit is [`PAGE`] octets of messages that are coming in.
    pub(crate) memory: Arc<Semaphore>,
}

/// The unit in which messages' memory is counted, in octets.
pub(crate) const PAGE: usize = 4096;

/// How long a list of mechanisms is used before directoryd is asked again: it changes by
/// configuration only.
const MECHANISMS_AGE: Duration = Duration::from_mins(1);

/// The mechanisms that directoryd offers, remembered for a while.
#[derive(Debug, Default)]
pub(crate) struct Mechanisms(Mutex<Known>);

/// By encryption and loopback.
type Known = HashMap<(bool, bool), (Instant, Arc<[String]>)>;

impl Mechanisms {
    /// Where directoryd cannot say, what it said last, or else what it usually offers: a login is
    /// then refused for now, while a mechanism that is not offered is refused for good.
    pub(crate) async fn offer(
        &self,
        authenticator: &Authenticator,
        encrypted: bool,
        loopback: bool,
    ) -> Arc<[String]> {
        let key = (encrypted, loopback);
        if let Some(known) = self.known(key) {
            return known;
        }
        match authenticator.mechanisms(encrypted, loopback).await {
            Ok(names) => {
                let names: Arc<[String]> = names.into();
                self.lock().insert(key, (Instant::now(), names.clone()));
                names
            }
            Err(error) => {
                warn!(%error, "no list of login mechanisms");
                let last = self.lock().get(&key).map(|(_, names)| names.clone());
                last.unwrap_or_else(|| usual(encrypted || loopback))
            }
        }
    }

    /// The list, unless it is too old.
    fn known(&self, key: (bool, bool)) -> Option<Arc<[String]>> {
        let known = self.lock();
        let (at, names) = known.get(&key)?;
        (at.elapsed() < MECHANISMS_AGE).then(|| names.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        // A cache is as good after a panic elsewhere as before.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What directoryd offers where it is not configured otherwise.
fn usual(may_send_passwords: bool) -> Arc<[String]> {
    let names: &[&str] = if may_send_passwords {
        &["SCRAM-SHA-256", "PLAIN", "LOGIN"]
    } else {
        &["SCRAM-SHA-256"]
    };
    names.iter().map(|name| (*name).to_owned()).collect()
}
