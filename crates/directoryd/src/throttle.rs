//! Limits on guessing: delays for whoever fails, never a lock for an account's owner.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;
use mail_config::Directoryd;

/// Who failed how often. Memory is bounded: what failed longest ago is forgotten first.
#[derive(Debug)]
pub(crate) struct Throttle {
    clients: Mutex<LruCache<IpAddr, Bucket>>,
    accounts: Mutex<LruCache<String, Bucket>>,
}

/// A count that decays: one failure is forgotten in each `failure_decay`.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    level: f64,
    at: Instant,
}

impl Throttle {
    pub(crate) fn new(config: &Directoryd) -> Self {
        let capacity = NonZeroUsize::new(config.max_tracked_failures).unwrap_or(NonZeroUsize::MIN);
        Self {
            clients: Mutex::new(LruCache::new(capacity)),
            accounts: Mutex::new(LruCache::new(capacity)),
        }
    }

    /// True if the client may try at all.
    pub(crate) fn admits(&self, peer: IpAddr, config: &Directoryd, now: Instant) -> bool {
        let Some(client) = client_key(peer) else {
            return true;
        };
        let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.peek(&client).is_none_or(|bucket| {
            bucket.now(config, now).ceil() < f64::from(config.max_failures_per_ip)
        })
    }

    /// Counts a failure and says how long its answer has to wait.
    pub(crate) fn failed(
        &self,
        peer: IpAddr,
        account: &str,
        config: &Directoryd,
        now: Instant,
    ) -> Duration {
        let by_client = client_key(peer).map_or(0.0, |client| {
            let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            count(&mut clients, client, config, now)
        });
        let by_account = {
            let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
            count(&mut accounts, account.to_owned(), config, now)
        };
        let doublings = by_client.max(by_account).max(1.0) - 1.0;
        let delay = config.failure_delay.as_secs_f64() * doublings.min(30.0).exp2();
        let longest = *config.max_failure_delay;
        Duration::try_from_secs_f64(delay).map_or(longest, |delay| delay.min(longest))
    }

    /// A login worked: the account's failures are forgotten, so that its owner's next slip is a
    /// first one again. The client's are not, since a guesser may have an account of his own.
    pub(crate) fn succeeded(&self, account: &str) {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.pop(account);
    }
}

impl Bucket {
    fn now(self, config: &Directoryd, now: Instant) -> f64 {
        let decay = config.failure_decay.as_secs_f64().max(0.001);
        let forgotten = now.saturating_duration_since(self.at).as_secs_f64() / decay;
        (self.level - forgotten).max(0.0)
    }
}

fn count<K: std::hash::Hash + Eq>(
    buckets: &mut LruCache<K, Bucket>,
    key: K,
    config: &Directoryd,
    now: Instant,
) -> f64 {
    let before = buckets
        .peek(&key)
        .map_or(0.0, |bucket| bucket.now(config, now));
    let level = before + 1.0;
    buckets.put(key, Bucket { level, at: now });
    level
}

/// One customer's addresses are one client: an IPv4 address or an IPv6 /64. Loopback is none: a
/// webmail server's failures are its users'.
fn client_key(peer: IpAddr) -> Option<IpAddr> {
    let peer = peer.to_canonical();
    if peer.is_loopback() {
        return None;
    }
    Some(match peer {
        IpAddr::V6(ip) => {
            let network = u128::from(ip) & !u128::from(u64::MAX);
            Ipv6Addr::from(network).into()
        }
        IpAddr::V4(_) => peer,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Directoryd {
        Directoryd {
            max_failures_per_ip: 3,
            max_tracked_failures: 2,
            ..Directoryd::default()
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_client_that_fails_too_often_waits_and_is_let_in_again() {
        let (config, now) = (config(), Instant::now());
        let throttle = Throttle::new(&config);
        for (n, delay) in [1, 2, 4].into_iter().enumerate() {
            assert!(throttle.admits(ip("2001:db8::1"), &config, now), "{n}");
            let waits = throttle.failed(ip("2001:db8::1"), &n.to_string(), &config, now);
            assert_eq!(waits, Duration::from_secs(delay));
        }
        assert!(!throttle.admits(ip("2001:db8::2"), &config, now));
        assert!(throttle.admits(ip("2001:db8:0:1::2"), &config, now));
        assert!(throttle.admits(ip("2001:db8::2"), &config, now + *config.failure_decay));
    }

    #[test]
    fn an_account_is_delayed_but_never_locked() {
        let (config, now) = (config(), Instant::now());
        let throttle = Throttle::new(&config);
        let mut last = Duration::ZERO;
        for n in 0..1000 {
            let peer = ip(&format!("192.0.2.{}", n % 250));
            last = throttle.failed(peer, "ana@aula.test", &config, now);
        }
        assert_eq!(last, *config.max_failure_delay);
        assert!(throttle.admits(ip("198.51.100.1"), &config, now));
        throttle.succeeded("ana@aula.test");
        let first = throttle.failed(ip("198.51.100.1"), "ana@aula.test", &config, now);
        assert_eq!(first, *config.failure_delay);
        assert!(throttle.clients.lock().unwrap().len() <= 2);
    }

    #[test]
    fn loopback_is_never_refused() {
        let (config, now) = (config(), Instant::now());
        let throttle = Throttle::new(&config);
        for _ in 0..10 {
            throttle.failed(ip("::ffff:127.0.0.1"), "x", &config, now);
        }
        assert!(throttle.admits(ip("127.0.0.1"), &config, now));
    }
}
