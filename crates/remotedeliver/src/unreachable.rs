//! Addresses that did not take a connection lately.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::route::Candidate;

/// How long an address counts as unreachable: short, so that a host that comes back is found soon.
const MEMORY: Duration = Duration::from_mins(1);
/// Addresses that are remembered, some 50 octets each.
const CAPACITY: usize = 10_000;

/// Without this memory each message would wait for the connection to time out anew while the
/// domain's first mail exchanger is down.
#[derive(Debug, Default)]
pub(crate) struct Unreachable(Mutex<HashMap<SocketAddr, Instant>>);

impl Unreachable {
    pub(crate) fn note(&self, address: SocketAddr, now: Instant) {
        let mut known = self.lock();
        if known.len() >= CAPACITY {
            known.retain(|_, since| is_fresh(*since, now));
        }
        if known.len() < CAPACITY {
            known.insert(address, now);
        }
    }

    pub(crate) fn forget(&self, address: SocketAddr) {
        self.lock().remove(&address);
    }

    /// Puts what is unreachable behind the others; the order is otherwise as it was.
    pub(crate) fn put_last(&self, candidates: &mut [Candidate], now: Instant) {
        let known = self.lock();
        candidates.sort_by_key(|candidate| {
            known
                .get(&candidate.address)
                .is_some_and(|since| is_fresh(*since, now))
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Instant>> {
        // Whole between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_fresh(since: Instant, now: Instant) -> bool {
    now.duration_since(since) < MEMORY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreachable_ones_are_tried_last_for_a_while() {
        let candidate = |address: &str| Candidate {
            host: "mx.test".parse().unwrap(),
            address: address.parse().unwrap(),
        };
        let all = [
            candidate("192.0.2.1:25"),
            candidate("192.0.2.2:25"),
            candidate("192.0.2.3:25"),
        ];
        let now = Instant::now();
        let unreachable = Unreachable::default();
        unreachable.note(all[0].address, now);
        let order = |at: Instant| {
            let mut candidates = all.to_vec();
            unreachable.put_last(&mut candidates, at);
            candidates
                .iter()
                .map(|candidate| all.iter().position(|c| c == candidate).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(order(now), [1, 2, 0]);
        assert_eq!(order(now + MEMORY), [0, 1, 2]);
        unreachable.forget(all[0].address);
        assert_eq!(order(now), [0, 1, 2]);
    }
}
