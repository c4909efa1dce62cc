//! How many connections a daemon takes, in all and from one client.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Upper bounds; shared by all listeners of a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Connections at once.
    pub total: usize,
    /// Connections at once from one IPv4 address or one IPv6 /64, which is what one customer gets;
    /// 0 is no limit. Loopback has none, since a webmail server connects from there.
    pub per_ip: usize,
}

/// Counts connections.
#[derive(Debug)]
pub(crate) struct Limiter {
    limits: ConnectionLimits,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    per_ip: HashMap<IpAddr, usize>,
}

/// A connection's place; dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    limiter: Arc<Limiter>,
    key: Option<IpAddr>,
}

/// Which limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    ForClient,
    ForAll,
}

impl Limiter {
    pub(crate) fn new(limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            counts: Mutex::default(),
        })
    }

    pub(crate) fn admit(self: &Arc<Self>, peer: IpAddr) -> Result<ConnectionPermit, Full> {
        let key = (self.limits.per_ip > 0).then(|| client_key(peer)).flatten();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.total >= self.limits.total {
            return Err(Full::ForAll);
        }
        if let Some(key) = key {
            let count = counts.per_ip.entry(key).or_insert(0);
            if *count >= self.limits.per_ip {
                return Err(Full::ForClient);
            }
            *count += 1;
        }
        counts.total += 1;
        Ok(ConnectionPermit {
            limiter: self.clone(),
            key,
        })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut counts = self
            .limiter
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        counts.total -= 1;
        if let Some(Entry::Occupied(mut entry)) = self.key.map(|key| counts.per_ip.entry(key)) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

fn client_key(peer: IpAddr) -> Option<IpAddr> {
    let peer = peer.to_canonical();
    if peer.is_loopback() {
        return None;
    }
    match peer {
        IpAddr::V4(_) => Some(peer),
        IpAddr::V6(ip) => {
            let network = u128::from(ip) & !u128::from(u64::MAX);
            Some(Ipv6Addr::from(network).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back() {
        let limiter = Limiter::new(ConnectionLimits {
            total: 3,
            per_ip: 1,
        });
        let one = limiter.admit("192.0.2.1".parse().unwrap()).unwrap();
        let mapped = limiter.admit("::ffff:192.0.2.1".parse().unwrap());
        assert_eq!(mapped.unwrap_err(), Full::ForClient);
        let _v6 = limiter.admit("2001:db8::1".parse().unwrap()).unwrap();
        let same_net = limiter.admit("2001:db8::2".parse().unwrap());
        assert_eq!(same_net.unwrap_err(), Full::ForClient);
        let _local = limiter.admit("127.0.0.1".parse().unwrap()).unwrap();
        assert_eq!(
            limiter.admit("127.0.0.1".parse().unwrap()).unwrap_err(),
            Full::ForAll
        );
        drop(one);
        assert!(limiter.admit("192.0.2.1".parse().unwrap()).is_ok());
        assert_eq!(limiter.counts.lock().unwrap().per_ip.len(), 1);
    }
}
