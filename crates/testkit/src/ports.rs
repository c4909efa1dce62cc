use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, bail};

/// Where a suite listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// The address that clients use.
    pub ip: IpAddr,
    /// SMTP, 25 plus a base.
    pub smtp: u16,
    /// Submission with STARTTLS, 587 plus the base.
    pub submission: u16,
    /// Submission with TLS, 465 plus the base.
    pub submissions: u16,
    /// POP3, 110 plus the base.
    pub pop3: u16,
    /// POP3 with TLS, 995 plus the base.
    pub pop3s: u16,
    /// IMAP, 143 plus the base.
    pub imap: u16,
    /// IMAP with TLS, 993 plus the base.
    pub imaps: u16,
}

/// Bases are this far apart, so that no two suites share a port.
const STEP: u16 = 1000;
/// Below the ports that the system gives to outgoing connections (from 32768).
const FIRST: u16 = 10_000;
const LAST: u16 = 31_000;

impl Ports {
    /// The standard ports plus a base.
    pub fn with_base(ip: IpAddr, base: u16) -> Self {
        Self {
            ip,
            smtp: base + 25,
            submission: base + 587,
            submissions: base + 465,
            pop3: base + 110,
            pop3s: base + 995,
            imap: base + 143,
            imaps: base + 993,
        }
    }

    /// Ports of loopback that nobody uses at the moment and no other suite of this process got.
    pub fn free() -> Result<Self> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let places = (LAST - FIRST) / STEP;
        // Test processes that run at once begin at different places.
        let start = u16::try_from(std::process::id() % u32::from(places)).unwrap_or(0);
        for _ in 0..=places {
            let number = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(start) % places;
            let ports = Self::with_base(Ipv4Addr::LOCALHOST.into(), FIRST + number * STEP);
            if ports
                .all()
                .iter()
                .all(|port| TcpListener::bind((ports.ip, *port)).is_ok())
            {
                return Ok(ports);
            }
        }
        bail!("no free range of ports between {FIRST} and {LAST}")
    }

    /// All ports.
    pub fn all(&self) -> [u16; 7] {
        [
            self.smtp,
            self.submission,
            self.submissions,
            self.pop3,
            self.pop3s,
            self.imap,
            self.imaps,
        ]
    }
}
