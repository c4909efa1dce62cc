//! Connections: how many there may be, and those that wait for another message.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::connection::Connection;
use crate::destination::Destination;

/// All connections.
#[derive(Debug)]
pub(crate) struct Pool {
    destinations: Mutex<HashMap<Destination, Arc<Entry>>>,
    total: Arc<Semaphore>,
    per_destination: usize,
}

#[derive(Debug)]
struct Entry {
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

/// The right to have one connection to a destination.
#[derive(Debug)]
pub(crate) struct Place {
    entry: Arc<Entry>,
    _of_destination: Option<OwnedSemaphorePermit>,
    _of_all: Option<OwnedSemaphorePermit>,
}

impl Pool {
    pub(crate) fn new(total: usize, per_destination: usize) -> Self {
        Self {
            destinations: Mutex::default(),
            total: Arc::new(Semaphore::new(total.clamp(1, Semaphore::MAX_PERMITS))),
            per_destination: per_destination.clamp(1, Semaphore::MAX_PERMITS),
        }
    }

    /// Waits for a place. The destination's own limit comes first, so that one destination's
    /// queue does not take places from others.
    pub(crate) async fn place(&self, destination: &Destination) -> Place {
        let entry = self.entry(destination);
        // The semaphores are never closed.
        let of_destination = entry.permits.clone().acquire_owned().await.ok();
        let of_all = self.total.clone().acquire_owned().await.ok();
        Place {
            entry,
            _of_destination: of_destination,
            _of_all: of_all,
        }
    }

    fn entry(&self, destination: &Destination) -> Arc<Entry> {
        let mut destinations = lock(&self.destinations);
        if let Some(entry) = destinations.get(destination) {
            return entry.clone();
        }
        let entry = Arc::new(Entry {
            permits: Arc::new(Semaphore::new(self.per_destination)),
            idle: Mutex::default(),
        });
        destinations.insert(destination.clone(), entry.clone());
        entry
    }

    /// Takes the connections out that were idle for so long, and forgets destinations without any.
    pub(crate) fn expire(&self, idle_timeout: Duration) -> Vec<Connection> {
        let now = Instant::now();
        let mut expired = Vec::new();
        lock(&self.destinations).retain(|_, entry| {
            let mut idle = lock(&entry.idle);
            expired.extend(
                idle.extract_if(.., |i| now.duration_since(i.since) >= idle_timeout)
                    .map(|i| i.connection),
            );
            // Whoever has or waits for a place holds the entry too.
            !idle.is_empty() || Arc::strong_count(entry) > 1
        });
        expired
    }
}

impl Place {
    /// A connection that waits, the one used last first: the others can then expire.
    pub(crate) async fn take_idle(&self) -> Option<Connection> {
        loop {
            let mut idle = lock(&self.entry.idle).pop()?;
            if idle.connection.is_alive().await {
                return Some(idle.connection);
            }
        }
    }

    pub(crate) fn put_idle(&self, connection: Connection) {
        lock(&self.entry.idle).push(Idle {
            connection,
            since: Instant::now(),
        });
    }
}

/// The data behind these locks is whole between any two statements, so that a panic elsewhere does
/// not matter.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
