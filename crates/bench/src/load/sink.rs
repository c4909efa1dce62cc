use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use memchr::memmem;

/// An SMTP server that takes all mail, counts it and throws it away.
#[derive(Debug)]
pub(crate) struct Sink {
    address: SocketAddr,
    received: Arc<AtomicUsize>,
}

impl Sink {
    /// Listens on a free port of loopback until the process ends.
    pub(crate) fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let received = Arc::new(AtomicUsize::new(0));
        let counter = received.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counter = counter.clone();
                // A client that goes away is no fault of the sink.
                std::thread::spawn(move || drop(serve(stream, &counter)));
            }
        });
        Ok(Self { address, received })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Messages since the start.
    pub(crate) fn received(&self) -> usize {
        self.received.load(Ordering::Relaxed)
    }

    /// Waits until so many messages have come.
    pub(crate) fn wait(&self, count: usize, patience: Duration) -> Result<()> {
        let begun = Instant::now();
        while self.received() < count {
            testkit::check_interrupt()?;
            if begun.elapsed() > patience {
                bail!("{} of {count} messages came to the sink", self.received());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

fn serve(mut stream: TcpStream, received: &AtomicUsize) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(b"220 sink.example ESMTP\r\n")?;
    let mut buffer = vec![0; 64 * 1024];
    let mut session = Session::default();
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        let ended = session.take(buffer.get(..count).unwrap_or_default(), received);
        stream.write_all(&session.answer)?;
        session.answer.clear();
        if ended {
            return Ok(());
        }
    }
}

#[derive(Debug, Default)]
struct Session {
    /// A line, or content's last octets, that came by half.
    rest: Vec<u8>,
    in_data: bool,
    answer: Vec<u8>,
}

impl Session {
    /// True at QUIT.
    fn take(&mut self, octets: &[u8], received: &AtomicUsize) -> bool {
        self.rest.extend(octets);
        loop {
            if self.in_data {
                let Some(at) = memmem::find(&self.rest, b"\r\n.\r\n") else {
                    let keep = self.rest.len().saturating_sub(4);
                    self.rest.drain(..keep);
                    return false;
                };
                self.rest.drain(..at + 5);
                self.in_data = false;
                received.fetch_add(1, Ordering::Relaxed);
                self.answer.extend(b"250 2.0.0 gone\r\n");
            }
            let Some(at) = memchr::memchr(b'\n', &self.rest) else {
                return false;
            };
            let line: Vec<u8> = self.rest.drain(..=at).collect();
            let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
            match verb.as_slice() {
                b"EHLO" | b"LHLO" => self.answer.extend(
                    b"250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 0\r\n",
                ),
                b"DATA" => {
                    self.answer.extend(b"354 go on\r\n");
                    self.in_data = true;
                    // An empty message ends without a line before its dot.
                    self.rest.splice(0..0, *b"\r\n");
                }
                b"QUIT" => {
                    self.answer.extend(b"221 2.0.0 bye\r\n");
                    return true;
                }
                _ => self.answer.extend(b"250 2.0.0 ok\r\n"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_messages_in_any_pieces() {
        let said = b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\na\r\n..\r\n.\r\nRSET\r\nDATA\r\n.\r\nQUIT\r\n";
        for size in [1, 2, 3, 7, 1000] {
            let received = AtomicUsize::new(0);
            let mut session = Session::default();
            let ended = said
                .chunks(size)
                .any(|piece| session.take(piece, &received));
            assert!(ended);
            assert_eq!(received.into_inner(), 2);
        }
    }
}
