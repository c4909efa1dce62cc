//! Listening sockets and the loop that takes connections from them.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, info, warn};

use crate::Context;
use crate::limits::{Full, Limiter};

/// Connections that the kernel keeps for us while we are busy.
const BACKLOG: i32 = 4096;

/// One kind of listener of a daemon.
#[derive(Debug)]
pub struct Service {
    /// Its name: in the log, in metrics, and of its socket in systemd's unit
    /// (`FileDescriptorName=`).
    pub name: &'static str,
    /// Where to listen where systemd handed over no socket.
    pub listen: Vec<SocketAddr>,
    /// What a client is told when there is no place for it; empty for listeners that begin with
    /// TLS.
    pub busy: &'static [u8],
}

/// A connection that was let in.
#[derive(Debug)]
pub struct Connection {
    /// The connection, with `TCP_NODELAY` set: answers are written whole.
    pub stream: TcpStream,
    /// The client's address; IPv4 is never mapped into IPv6.
    pub peer: SocketAddr,
    /// Our address.
    pub local: SocketAddr,
}

/// Opens the service's sockets and takes connections until shutdown.
pub(crate) fn serve<H, F>(
    context: &Context,
    service: &Service,
    limiter: &Arc<Limiter>,
    handler: H,
) -> io::Result<Vec<SocketAddr>>
where
    H: Fn(Connection) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let mut sockets = context.activation().tcp(service.name)?;
    if sockets.is_empty() {
        for address in &service.listen {
            let socket = open(*address).map_err(|error| explain(&error, *address))?;
            sockets.push(socket);
        }
    }
    let mut addresses = Vec::new();
    for socket in sockets {
        socket.set_nonblocking(true)?;
        let listener = TcpListener::from_std(socket)?;
        let address = listener.local_addr()?;
        info!(service = service.name, %address, "listening");
        addresses.push(address);
        let loop_ = Loop {
            context: context.clone(),
            name: service.name,
            busy: service.busy,
            limiter: limiter.clone(),
            handler: handler.clone(),
        };
        context.tracker().spawn(loop_.run(listener));
    }
    Ok(addresses)
}

struct Loop<H> {
    context: Context,
    name: &'static str,
    busy: &'static [u8],
    limiter: Arc<Limiter>,
    handler: H,
}

impl<H, F> Loop<H>
where
    H: Fn(Connection) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    async fn run(self, listener: TcpListener) {
        let mut pause = FIRST_PAUSE;
        loop {
            let accepted = tokio::select! {
                () = self.context.shutdown().cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    pause = FIRST_PAUSE;
                    self.admit(stream, peer);
                }
                Err(error) if is_the_clients(&error) => {}
                Err(error) => {
                    // Out of file descriptors or memory: trying at once would only burn CPU.
                    warn!(service = self.name, %error, "cannot accept connections");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LAST_PAUSE);
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let permit = match self.limiter.admit(peer.ip()) {
            Ok(permit) => permit,
            Err(full) => return self.refuse(stream, peer, full),
        };
        metrics::counter!("correo_connections_total", "service" => self.name).increment(1);
        let Ok(local) = stream.local_addr() else {
            return;
        };
        if let Err(error) = stream.set_nodelay(true) {
            // The client is gone already.
            debug!(%peer, %error, "cannot set TCP_NODELAY");
            return;
        }
        let local = SocketAddr::new(local.ip().to_canonical(), local.port());
        let session = (self.handler)(Connection {
            stream,
            peer,
            local,
        });
        self.context.tracker().spawn(async move {
            session.await;
            // The connection counts for as long as its session lives.
            drop(permit);
        });
    }

    fn refuse(&self, mut stream: TcpStream, peer: SocketAddr, full: Full) {
        let limit = match full {
            Full::ForAll => "max_connections",
            Full::ForClient => "max_connections_per_ip",
        };
        debug!(service = self.name, %peer, limit, "connection refused");
        metrics::counter!("correo_connections_refused_total", "service" => self.name, "limit" => limit)
            .increment(1);
        let busy = self.busy;
        if busy.is_empty() {
            return;
        }
        // One try: the socket's buffer is empty, and nobody waits for a client over the limit.
        if stream.try_write(busy).is_ok() {
            self.context.tracker().spawn(async move {
                let _ = tokio::time::timeout(Duration::from_secs(1), stream.shutdown()).await;
            });
        }
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// Errors of `accept(2)` that only say that this one client went away.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

fn open(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    match open_as(address) {
        // "[::]" means everywhere; on a host without IPv6 that is IPv4.
        Err(error)
            if address.ip().is_unspecified()
                && address.is_ipv6()
                && error.raw_os_error() == Some(nix::libc::EAFNOSUPPORT) =>
        {
            open_as(SocketAddr::new(
                std::net::Ipv4Addr::UNSPECIFIED.into(),
                address.port(),
            ))
        }
        result => result,
    }
}

fn open_as(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn explain(error: &io::Error, address: SocketAddr) -> io::Error {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program listens there: stop it, or change the listen option"
        }
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need systemd's socket units or CAP_NET_BIND_SERVICE"
        }
        _ => "",
    };
    io::Error::new(
        error.kind(),
        format!("cannot listen on {address}: {error}{hint}"),
    )
}
