use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use memchr::memchr;

/// What is read at once.
const READ: usize = 64 * 1024;
/// A server that says nothing for so long has failed.
const SILENCE: Duration = Duration::from_mins(2);

/// A connection with lines and counted octets, without a copy of what is skipped.
#[derive(Debug)]
pub(crate) struct Lines<S = TcpStream> {
    stream: S,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    size: usize,
}

impl Lines {
    /// Connects.
    pub(crate) fn connect(address: SocketAddr) -> Result<Self> {
        let stream =
            TcpStream::connect(address).with_context(|| format!("connecting {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        Ok(Self::new(stream))
    }

    /// Reads in larger pieces, for sessions that get much.
    pub(crate) fn large(mut self) -> Self {
        self.size = 4 * READ;
        self
    }

    /// Gives the buffer back; nothing unread may be in it.
    pub(crate) fn release(&mut self) {
        if self.start == self.end {
            self.buffer = Vec::new();
            (self.start, self.end) = (0, 0);
        }
    }
}

impl<S: Read + Write> Lines<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            size: READ,
        }
    }

    /// Sends octets in one write.
    pub(crate) fn send(&mut self, octets: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(octets)?)
    }

    /// The next line without its end.
    pub(crate) fn line(&mut self) -> Result<&[u8]> {
        let mut scanned = 0;
        let length = loop {
            let unread = self.buffer.get(self.start..self.end).unwrap_or_default();
            let rest = unread.get(scanned..).unwrap_or_default();
            if let Some(at) = memchr(b'\n', rest) {
                break scanned + at;
            }
            scanned = unread.len();
            self.fill()?;
        };
        let from = self.start;
        self.start += length + 1;
        let line = self.buffer.get(from..from + length).unwrap_or_default();
        Ok(line.strip_suffix(b"\r").unwrap_or(line))
    }

    /// Passes over octets.
    pub(crate) fn skip(&mut self, mut count: usize) -> Result<()> {
        loop {
            let there = (self.end - self.start).min(count);
            self.start += there;
            count -= there;
            if count == 0 {
                return Ok(());
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start > 0 && self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            self.buffer
                .resize(self.buffer.len().max(self.size / 2) * 2, 0);
        }
        let free = self.buffer.get_mut(self.end..).unwrap_or_default();
        let count = loop {
            match self.stream.read(free) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other.context("waiting for an answer")?,
            }
        };
        if count == 0 {
            bail!("the server closed the connection");
        }
        self.end += count;
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Gives its octets in pieces of one size, and takes whatever is written.
    #[derive(Debug)]
    pub(crate) struct Pieces {
        pub(crate) octets: Vec<u8>,
        pub(crate) at: usize,
        pub(crate) size: usize,
    }

    impl Read for Pieces {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let count = self.size.min(into.len()).min(self.octets.len() - self.at);
            into[..count].copy_from_slice(&self.octets[self.at..self.at + count]);
            self.at += count;
            Ok(count)
        }
    }

    impl Write for Pieces {
        fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
            Ok(octets.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_and_counted_octets_in_any_pieces() {
        for size in [1, 2, 3, 7, 1000] {
            let octets = b"one\r\ntwo {4}\r\na\r\nb)\r\n\r\nlast\n".to_vec();
            let mut lines = Lines::new(Pieces {
                octets,
                at: 0,
                size,
            });
            assert_eq!(lines.line().unwrap(), b"one");
            assert_eq!(lines.line().unwrap(), b"two {4}");
            lines.skip(4).unwrap();
            assert_eq!(lines.line().unwrap(), b")");
            assert_eq!(lines.line().unwrap(), b"");
            assert_eq!(lines.line().unwrap(), b"last");
            assert!(lines.line().is_err());
        }
    }
}
