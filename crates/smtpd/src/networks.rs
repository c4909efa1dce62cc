//! Networks of hosts that may relay without a login.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// One network: an address and how many of its bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    /// IPv4 in its mapped form, so that there is one kind.
    address: u128,
    mask: u128,
}

/// A list of networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Networks(Vec<Network>);

/// A text that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "smtpd.relay_networks: \"{0}\" is no network; write 192.0.2.0/24, 2001:db8::/32 or one address"
)]
pub(crate) struct NetworkError(String);

impl Networks {
    pub(crate) fn parse(texts: &[String]) -> Result<Self, NetworkError> {
        texts
            .iter()
            .map(|text| text.parse())
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let address = bits(address);
        self.0
            .iter()
            .any(|network| address & network.mask == network.address)
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let wrong = || NetworkError(text.to_owned());
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.trim().parse().map_err(|_| wrong())?;
        let width: u32 = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            Some(length) => length.trim().parse().map_err(|_| wrong())?,
            None => width,
        };
        let host_bits = width.checked_sub(length).ok_or_else(wrong)?;
        let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
        // An IPv4 network of no bits is all of IPv4, not all of IPv6.
        let mask = if address.is_ipv4() {
            mask | !u128::from(u32::MAX)
        } else {
            mask
        };
        let address = bits(address);
        // Bits set behind the mask are a slip of the pen: nobody knows which was meant.
        if address & mask == address {
            Ok(Self { address, mask })
        } else {
            Err(wrong())
        }
    }
}

fn bits(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(v4) => Ipv6Addr::to_bits(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, address: &str) -> bool {
        let networks = Networks::parse(&[network.to_owned()]).unwrap();
        networks.contains(address.parse().unwrap())
    }

    #[test]
    fn members() {
        assert!(contains("192.0.2.0/24", "192.0.2.255"));
        assert!(contains("192.0.2.0/24", "::ffff:192.0.2.1"));
        assert!(!contains("192.0.2.0/24", "192.0.3.0"));
        assert!(contains("192.0.2.7", "192.0.2.7"));
        assert!(!contains("192.0.2.7", "192.0.2.6"));
        assert!(contains("2001:db8::/32", "2001:db8:1::1"));
        assert!(!contains("2001:db8::/32", "2001:db9::1"));
        assert!(contains("0.0.0.0/0", "8.8.8.8"));
        assert!(!contains("0.0.0.0/0", "2001:db8::1"));
        assert!(contains("::/0", "2001:db8::1"));
        assert!(!Networks::default().contains("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn no_networks() {
        for bad in [
            "",
            "x",
            "192.0.2.0/33",
            "192.0.2.1/24",
            "192.0.2.0/",
            "192.0.2.0/-1",
            "::/129",
        ] {
            assert!(Networks::parse(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
