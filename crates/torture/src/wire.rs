//! Connections in lines, each of which somebody else may cut at any moment.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::Rng;

/// Longer than any daemon is stopped.
const PATIENCE: Duration = Duration::from_secs(75);

/// All open connections.
#[derive(Debug, Default)]
pub(crate) struct Cutter {
    next: AtomicU64,
    open: Mutex<HashMap<u64, TcpStream>>,
    count: AtomicU64,
}

impl Cutter {
    /// Cuts each connection with this probability.
    pub(crate) fn cut(&self, share: f64, rng: &mut impl Rng) {
        for stream in self.lock().values() {
            if rng.random_bool(share) {
                // It may be closed already.
                let _ = stream.shutdown(Shutdown::Both);
                self.count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Connections that were cut.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Wire {
    reader: BufReader<TcpStream>,
    cutter: Arc<Cutter>,
    key: u64,
}

impl Wire {
    pub(crate) fn connect(cutter: &Arc<Cutter>, address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let key = cutter.next.fetch_add(1, Ordering::Relaxed);
        cutter.lock().insert(key, stream.try_clone()?);
        Ok(Self {
            reader: BufReader::new(stream),
            cutter: cutter.clone(),
            key,
        })
    }

    pub(crate) fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(octets)
    }

    /// The next line without its end; the end of the conversation is an error.
    pub(crate) fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&line);
        Ok(text.trim_end_matches('\r').to_owned())
    }

    pub(crate) fn octets(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut octets = vec![0; count];
        self.reader.read_exact(&mut octets)?;
        Ok(octets)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.cutter.lock().remove(&self.key);
        let _ = self.reader.get_ref().shutdown(Shutdown::Both);
    }
}
