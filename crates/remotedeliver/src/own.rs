//! What is known of our own host, to see when mail would come back.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use mail_types::Domain;

/// Our own name, and where our own smtpd listens.
#[derive(Debug, Clone)]
pub(crate) struct OwnHost {
    name: Domain,
    listen: Vec<SocketAddr>,
}

impl OwnHost {
    pub(crate) fn new(name: Domain, listen: Vec<SocketAddr>) -> Self {
        Self { name, listen }
    }

    /// True for our own name. "localhost" is everybody's.
    pub(crate) fn is_name(&self, name: &Domain) -> bool {
        *name == self.name && !matches!(name.name(), Some("localhost"))
    }

    /// True if our own smtpd listens there, as far as the configuration of this machine tells.
    pub(crate) fn listens_on(&self, address: SocketAddr) -> bool {
        self.listen.iter().any(|listen| {
            listen.port() == address.port()
                && if listen.ip().is_unspecified() {
                    is_of_this_machine(address.ip())
                } else {
                    listen.ip() == address.ip()
                }
        })
    }
}

/// Only an address of this machine can be bound to.
fn is_of_this_machine(ip: IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_names_and_addresses() {
        let listen =
            |text: &str| OwnHost::new("us.test".parse().unwrap(), vec![text.parse().unwrap()]);
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(listen("[::]:25").listens_on(at("127.0.0.1:25")));
        assert!(!listen("[::]:25").listens_on(at("127.0.0.1:26")));
        // An address of a documentation network (RFC 5737) is nobody's.
        assert!(!listen("0.0.0.0:25").listens_on(at("192.0.2.1:25")));
        assert!(!listen("127.0.0.2:25").listens_on(at("127.0.0.1:25")));
        assert!(listen("[::]:25").is_name(&"us.test".parse().unwrap()));
        let localhost = OwnHost::new("localhost".parse().unwrap(), Vec::new());
        assert!(!localhost.is_name(&"localhost".parse().unwrap()));
    }
}
