//! Sockets that systemd opened for us (`sd_listen_fds(3)`), by the names of `FileDescriptorName=`.

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::{Mutex, PoisonError};

use listenfd::ListenFd;

/// The sockets handed over, each to be taken once.
#[derive(Debug)]
pub(crate) struct Activation(Mutex<Inner>);

struct Inner {
    sockets: ListenFd,
    names: Vec<String>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Activation")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

impl Activation {
    /// Takes over what the environment names; nothing when not started by a socket unit.
    pub(crate) fn from_env() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let names = names.split(':').map(str::to_owned).collect();
        Self(Mutex::new(Inner {
            sockets: ListenFd::from_env(),
            names,
        }))
    }

    /// The TCP sockets of that name; a unit may have several `ListenStream=` lines.
    pub(crate) fn tcp(&self, name: &str) -> io::Result<Vec<TcpListener>> {
        self.take(name, ListenFd::take_tcp_listener)
    }

    /// The Unix sockets of that name.
    pub(crate) fn unix(&self, name: &str) -> io::Result<Vec<UnixListener>> {
        self.take(name, ListenFd::take_unix_listener)
    }

    fn take<T>(
        &self,
        name: &str,
        take: fn(&mut ListenFd, usize) -> io::Result<Option<T>>,
    ) -> io::Result<Vec<T>> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Vec::new();
        for index in 0..inner.sockets.len() {
            if inner.names.get(index).is_some_and(|known| known == name)
                && let Some(socket) = take(&mut inner.sockets, index)?
            {
                taken.push(socket);
            }
        }
        Ok(taken)
    }
}
