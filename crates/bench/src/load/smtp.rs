use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::line::Lines;
use super::message::message;
use super::{Sample, sessions};

/// Different messages of a load; the same ones come again.
const KINDS: usize = 64;

/// Messages over SMTP, each to one recipient in turn.
#[derive(Debug)]
pub(crate) struct SmtpLoad {
    pub(crate) to: SocketAddr,
    pub(crate) sessions: usize,
    pub(crate) messages: usize,
    /// Octets of a message.
    pub(crate) size: usize,
    pub(crate) recipients: Vec<String>,
    /// A connection for each message.
    pub(crate) reconnect: bool,
    /// LMTP in place of SMTP.
    pub(crate) lmtp: bool,
}

impl SmtpLoad {
    /// Sends all; each counts at its 250.
    pub(crate) fn run(&self) -> Result<Sample> {
        let mut mails: Vec<Vec<u8>> = Vec::with_capacity(KINDS);
        for number in 0..KINDS.min(self.messages) {
            let number = u64::try_from(number)?;
            let mut octets = message(number, self.size);
            octets.extend(b".\r\n");
            mails.push(octets);
        }
        let envelopes: Vec<Vec<u8>> = self.recipients.iter().map(|to| envelope(to)).collect();
        let next = AtomicUsize::new(0);
        let open = |_| {
            if self.reconnect {
                return Ok(None);
            }
            SmtpSession::open(self.to, self.lmtp).map(Some)
        };
        sessions(self.sessions, open, |_, session| {
            let mut latencies = Vec::with_capacity(2 * self.messages / self.sessions.max(1));
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= self.messages {
                    break;
                }
                let begun = Instant::now();
                let envelope = envelopes.get(number % envelopes.len().max(1));
                let mail = mails.get(number % mails.len().max(1));
                let (envelope, mail) =
                    (envelope.map_or(&[][..], |e| e), mail.map_or(&[][..], |m| m));
                if self.reconnect {
                    let mut one = SmtpSession::open(self.to, self.lmtp)?;
                    one.send(envelope, mail)?;
                    one.quit()?;
                } else if let Some(session) = session {
                    session.send(envelope, mail)?;
                }
                latencies.push(begun.elapsed());
            }
            Ok((u64::try_from(latencies.len())?, latencies))
        })
    }
}

/// The commands for a message to one recipient.
pub(crate) fn envelope(to: &str) -> Vec<u8> {
    format!("MAIL FROM:<sender@example.net>\r\nRCPT TO:<{to}>\r\nDATA\r\n").into_bytes()
}

/// One connection behind EHLO.
#[derive(Debug)]
pub(crate) struct SmtpSession<S = TcpStream> {
    lines: Lines<S>,
    pipelining: bool,
}

impl SmtpSession {
    /// Connects and says EHLO or LHLO.
    pub(crate) fn open(to: SocketAddr, lmtp: bool) -> Result<Self> {
        Self::greet(Lines::connect(to)?, lmtp)
    }

    /// Gives the buffer back while nothing goes on.
    pub(crate) fn release(&mut self) {
        self.lines.release();
    }
}

impl<S: Read + Write> SmtpSession<S> {
    fn greet(lines: Lines<S>, lmtp: bool) -> Result<Self> {
        let mut session = Self {
            lines,
            pipelining: false,
        };
        session.reply(b'2')?;
        session.lines.send(if lmtp {
            b"LHLO client.example.net\r\n"
        } else {
            b"EHLO client.example.net\r\n"
        })?;
        session.reply(b'2')?;
        Ok(session)
    }

    /// Sends a message whose content ends with the dot; returns at its 250.
    pub(crate) fn send(&mut self, envelope: &[u8], content: &[u8]) -> Result<()> {
        if self.pipelining {
            self.lines.send(envelope)?;
            self.reply(b'2')?;
            self.reply(b'2')?;
            self.reply(b'3')?;
        } else {
            for line in envelope.split_inclusive(|octet| *octet == b'\n') {
                self.lines.send(line)?;
                self.reply(if line == b"DATA\r\n" { b'3' } else { b'2' })?;
            }
        }
        self.lines.send(content)?;
        self.reply(b'2')
    }

    /// Says QUIT and hears the answer.
    pub(crate) fn quit(&mut self) -> Result<()> {
        self.lines.send(b"QUIT\r\n")?;
        self.reply(b'2')
    }

    /// Reads one reply, which has to be of a class.
    fn reply(&mut self, class: u8) -> Result<()> {
        loop {
            let line = self.lines.line()?;
            if line.first() != Some(&class) {
                bail!("the server said: {}", String::from_utf8_lossy(line));
            }
            let is_last = line.get(3) != Some(&b'-');
            if line.get(4..) == Some(b"PIPELINING") {
                self.pipelining = true;
            }
            if is_last {
                return Ok(());
            }
        }
    }
}

/// Waits until mail is taken, and says how long that took.
pub(crate) fn wait_accepts(
    to: SocketAddr,
    recipient: &str,
    patience: Duration,
) -> Result<Duration> {
    let begun = Instant::now();
    let mut content = message(1, 1024);
    content.extend(b".\r\n");
    loop {
        testkit::check_interrupt()?;
        let tried =
            SmtpSession::open(to, false).and_then(|mut s| s.send(&envelope(recipient), &content));
        match tried {
            Ok(()) => return Ok(begun.elapsed()),
            Err(error) if begun.elapsed() > patience => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::line::tests::Pieces;

    fn session(octets: &str, size: usize) -> Result<SmtpSession<Pieces>> {
        let octets = octets.as_bytes().to_vec();
        SmtpSession::greet(
            Lines::new(Pieces {
                octets,
                at: 0,
                size,
            }),
            false,
        )
    }

    #[test]
    fn replies_in_any_pieces() {
        let said = "220 hello\r\n250-me\r\n250-PIPELINING\r\n250 SIZE 1\r\n\
                    250 a\r\n250 b\r\n354 go\r\n250 2.0.0 done\r\n452 4.3.1 full\r\n";
        for size in [1, 2, 5, 1000] {
            let mut session = session(said, size).unwrap();
            assert!(session.pipelining);
            session
                .send(&envelope("a@example.org"), b"x\r\n.\r\n")
                .unwrap();
            let refused = session.send(&envelope("a@example.org"), b"x\r\n.\r\n");
            assert!(refused.unwrap_err().to_string().contains("452 4.3.1 full"));
        }
        assert!(session("554 no\r\n", 3).is_err());
    }
}
