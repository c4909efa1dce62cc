//! From a destination to the addresses to try, in order (RFC 5321 §5.1).

use std::net::{IpAddr, SocketAddr};

use futures_util::future::join_all;
use mail_types::{Domain, EnhancedCode, Outcome};
use rand::seq::SliceRandom;

use crate::destination::{Destination, SmartHost};
use crate::dns::{Dns, DnsError, Exchanger};
use crate::own::OwnHost;

/// Mail exchangers of one domain that are looked at; nobody has more in earnest.
const MAX_EXCHANGERS: usize = 20;
/// Addresses that are tried in one attempt: with all of them silent, the attempt still ends in
/// some ten minutes.
const MAX_ADDRESSES: usize = 20;

/// One address to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The host's name, or the address itself.
    pub(crate) host: Domain,
    pub(crate) address: SocketAddr,
}

/// Looks up where to connect. The error is the outcome for all recipients.
pub(crate) async fn find(
    destination: &Destination,
    dns: &Dns,
    own: &OwnHost,
    port: u16,
) -> Result<Vec<Candidate>, Outcome> {
    match destination {
        Destination::SmartHost(host) => smart_host(host, dns).await,
        Destination::Domain(domain) => {
            let hosts = match domain.literal() {
                Some(ip) => vec![Host::literal(ip)],
                None => exchangers(domain, dns).await?,
            };
            let hosts = without_own(hosts, domain, own, port)?;
            candidates(&hosts, domain, port)
        }
    }
}

async fn smart_host(host: &SmartHost, dns: &Dns) -> Result<Vec<Candidate>, Outcome> {
    let found = match (host.host.literal(), host.host.name()) {
        (Some(ip), _) => Ok(vec![ip]),
        (None, Some(name)) => dns.addresses(name).await,
        (None, None) => Err(DnsError::NoName),
    };
    // The operator's mistake, not the sender's: it can be mended while the mail waits.
    let addresses = found.map_err(|error| {
        Outcome::local(
            EnhancedCode::DIRECTORY_FAILURE,
            format!("cannot find the smart host {}: {error}", host.host),
        )
    })?;
    let candidate = |ip| Candidate {
        host: host.host.clone(),
        address: SocketAddr::new(ip, host.port),
    };
    Ok(addresses
        .into_iter()
        .take(MAX_ADDRESSES)
        .map(candidate)
        .collect())
}

/// A mail exchanger and what is known of its addresses.
#[derive(Debug)]
struct Host {
    preference: u16,
    name: Domain,
    addresses: Result<Vec<IpAddr>, DnsError>,
}

impl Host {
    fn literal(ip: IpAddr) -> Self {
        Self {
            preference: 0,
            name: ip.into(),
            addresses: Ok(vec![ip]),
        }
    }
}

async fn exchangers(domain: &Domain, dns: &Dns) -> Result<Vec<Host>, Outcome> {
    let name = domain.name().unwrap_or_default();
    let found = match dns.exchangers(name).await {
        Ok(found) => found,
        // RFC 5321 §5.1: without MX the domain itself is its mail exchanger.
        Err(DnsError::NoRecord) => vec![Exchanger {
            preference: 0,
            name: name.to_owned(),
        }],
        Err(DnsError::NoName) => {
            return Err(Outcome::local(
                EnhancedCode::NO_SUCH_DOMAIN,
                format!("the domain {domain} does not exist"),
            ));
        }
        Err(DnsError::Failed(why)) => {
            return Err(Outcome::local(
                EnhancedCode::DIRECTORY_FAILURE,
                format!("the name servers of {domain} do not say its mail exchangers: {why}"),
            ));
        }
    };
    let mut ordered = in_order(found);
    if ordered.is_empty() {
        return Err(Outcome::local(
            EnhancedCode::NULL_MX,
            format!("the domain {domain} takes no mail (RFC 7505)"),
        ));
    }
    ordered.truncate(MAX_EXCHANGERS);
    let hosts = ordered.into_iter().filter_map(|exchanger| {
        // A name that cannot be one, such as one with a space, is none.
        let name: Domain = exchanger.name.parse().ok()?;
        Some(async move {
            let addresses = dns.addresses(name.name().unwrap_or_default()).await;
            Host {
                preference: exchanger.preference,
                name,
                addresses,
            }
        })
    });
    Ok(join_all(hosts).await)
}

/// By preference, and by chance within one (RFC 5321 §5.1). The root's name is no host: alone it
/// says that the domain takes no mail (RFC 7505 §3).
fn in_order(mut found: Vec<Exchanger>) -> Vec<Exchanger> {
    found.retain(|exchanger| !exchanger.name.is_empty());
    found.shuffle(&mut rand::rng());
    found.sort_by_key(|exchanger| exchanger.preference);
    found
}

/// RFC 5321 §5.1: where we are one of the mail exchangers ourselves, only those that are preferred
/// to us count; were there none, the mail would come back to us.
fn without_own(
    mut hosts: Vec<Host>,
    domain: &Domain,
    own: &OwnHost,
    port: u16,
) -> Result<Vec<Host>, Outcome> {
    let is_own = |host: &Host| {
        own.is_name(&host.name)
            || matches!(&host.addresses, Ok(list) if list.iter().any(|ip| own.listens_on(SocketAddr::new(*ip, port))))
    };
    let Some(limit) = hosts
        .iter()
        .filter(|h| is_own(h))
        .map(|h| h.preference)
        .min()
    else {
        return Ok(hosts);
    };
    hosts.retain(|host| host.preference < limit);
    if hosts.is_empty() {
        return Err(loops(domain));
    }
    Ok(hosts)
}

/// The outcome where the mail would come back to us.
pub(crate) fn loops(domain: &Domain) -> Outcome {
    Outcome::local(
        EnhancedCode::ROUTING_LOOP,
        format!("mail for {domain} comes back to this host, which does not know the domain"),
    )
}

fn candidates(hosts: &[Host], domain: &Domain, port: u16) -> Result<Vec<Candidate>, Outcome> {
    let candidates: Vec<_> = hosts
        .iter()
        .flat_map(|host| {
            let addresses = host
                .addresses
                .as_ref()
                .map(Vec::as_slice)
                .unwrap_or_default();
            addresses.iter().map(|ip| Candidate {
                host: host.name.clone(),
                address: SocketAddr::new(*ip, port),
            })
        })
        .take(MAX_ADDRESSES)
        .collect();
    if !candidates.is_empty() {
        return Ok(candidates);
    }
    let failed = hosts.iter().find_map(|host| match &host.addresses {
        Err(DnsError::Failed(why)) => Some((&host.name, why)),
        _ => None,
    });
    if let Some((name, why)) = failed {
        return Err(Outcome::local(
            EnhancedCode::DIRECTORY_FAILURE,
            format!("no name server says the address of {name}: {why}"),
        ));
    }
    let names: Vec<_> = hosts.iter().map(|host| host.name.to_string()).collect();
    Err(Outcome::local(
        EnhancedCode::UNABLE_TO_ROUTE,
        format!(
            "no mail exchanger of {domain} has an address ({})",
            names.join(", ")
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchanger(preference: u16, name: &str) -> Exchanger {
        Exchanger {
            preference,
            name: name.to_owned(),
        }
    }

    fn host(preference: u16, name: &str, addresses: Result<&[&str], DnsError>) -> Host {
        Host {
            preference,
            name: name.parse().unwrap(),
            addresses: addresses.map(|list| list.iter().map(|ip| ip.parse().unwrap()).collect()),
        }
    }

    fn own() -> OwnHost {
        OwnHost::new(
            "us.test".parse().unwrap(),
            vec!["127.0.0.9:25".parse().unwrap()],
        )
    }

    fn domain() -> Domain {
        "x.test".parse().unwrap()
    }

    // Tests RFC 5321 §5.1
    #[test]
    fn by_preference_and_by_chance() {
        let mut first = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let order = in_order(vec![
                exchanger(20, "c"),
                exchanger(10, "a"),
                exchanger(10, "b"),
                exchanger(5, ""),
            ]);
            assert_eq!(order.len(), 3);
            assert_eq!(order[2].name, "c");
            first.insert(order[0].name.clone());
        }
        assert_eq!(first.len(), 2);
    }

    #[test]
    fn only_those_preferred_to_ourselves() {
        let hosts = || {
            vec![
                host(10, "a.test", Ok(&["192.0.2.1"])),
                host(20, "us.test", Ok(&["192.0.2.2"])),
                host(20, "b.test", Ok(&["192.0.2.3"])),
            ]
        };
        let left = without_own(hosts(), &domain(), &own(), 25).unwrap();
        assert_eq!(left.len(), 1);
        let outcome = without_own(hosts().split_off(1), &domain(), &own(), 25).unwrap_err();
        assert_eq!(outcome.status, EnhancedCode::ROUTING_LOOP);
        let by_address = vec![host(10, "a.test", Ok(&["127.0.0.9"]))];
        assert!(without_own(by_address, &domain(), &own(), 25).is_err());
        let other_port = vec![host(10, "a.test", Ok(&["127.0.0.9"]))];
        assert!(without_own(other_port, &domain(), &own(), 2525).is_ok());
    }

    #[test]
    fn hosts_without_addresses() {
        let failed = || DnsError::Failed("SERVFAIL".into());
        let status = |hosts: &[Host]| candidates(hosts, &domain(), 25).unwrap_err().status;
        let gone = host(10, "gone.test", Err(DnsError::NoName));
        assert_eq!(
            status(&[gone, host(20, "bare.test", Err(DnsError::NoRecord))]),
            EnhancedCode::UNABLE_TO_ROUTE
        );
        let gone = host(10, "gone.test", Err(DnsError::NoName));
        assert_eq!(
            status(&[gone, host(20, "silent.test", Err(failed()))]),
            EnhancedCode::DIRECTORY_FAILURE
        );
        // One that can be reached is enough.
        let found = candidates(
            &[
                host(10, "silent.test", Err(failed())),
                host(20, "b.test", Ok(&["2001:db8::1", "192.0.2.1"])),
            ],
            &domain(),
            25,
        )
        .unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].address.to_string(), "[2001:db8::1]:25");
    }
}
