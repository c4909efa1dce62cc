use std::net::SocketAddr;

use crate::role::Role;

/// Who is at the other end of a session.
#[derive(Debug)]
pub(crate) struct Client {
    /// The session's id in all logs.
    pub(crate) sid: String,
    pub(crate) peer: SocketAddr,
    pub(crate) role: Role,
    /// TLS version and cipher, where TLS is on.
    pub(crate) cipher: Option<String>,
}

impl Client {
    pub(crate) fn new(peer: SocketAddr, role: Role) -> Self {
        // Random, so that ids of several smtpd do not meet.
        let sid = format!("{:016x}", rand::random::<u64>());
        Self {
            sid,
            peer,
            role,
            cipher: None,
        }
    }

    pub(crate) fn is_loopback(&self) -> bool {
        self.peer.ip().is_loopback()
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.cipher.is_some()
    }
}
