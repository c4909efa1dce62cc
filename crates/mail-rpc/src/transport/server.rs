use std::fs;
use std::future::Future;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::service::Routes;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use super::{CONNECTION_WINDOW, Endpoint, FRAME, MutualTls, STREAM_WINDOW};

/// Why a service cannot be reached or served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The socket cannot be made.
    #[error("cannot listen on {endpoint}: {source}")]
    Bind {
        /// Where.
        endpoint: String,
        /// Why.
        source: io::Error,
    },
    /// A TCP endpoint without certificates.
    #[error("{0} needs mutual TLS: set rpc.tls.ca, rpc.tls.certificate and rpc.tls.key")]
    NoTls(String),
    /// Something below.
    #[error(transparent)]
    Tonic(#[from] tonic::transport::Error),
}

/// A socket that takes connections of peer daemons.
#[derive(Debug)]
pub enum Listener {
    /// Mutual TLS over TCP.
    Tls(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

/// Opens the socket of a service. A Unix socket gets `mode` (octal permissions) before anyone can
/// find it, and takes the place of one that a dead process left.
pub async fn bind(endpoint: &Endpoint, mode: u32) -> Result<Listener, TransportError> {
    let failed = |source| TransportError::Bind {
        endpoint: endpoint.to_string(),
        source,
    };
    match endpoint {
        Endpoint::Unix(path) => bind_unix(path, mode).map(Listener::Unix).map_err(failed),
        Endpoint::Tls { host, port } => {
            let host = host.trim_matches(['[', ']']);
            TcpListener::bind((host, *port))
                .await
                .map(Listener::Tls)
                .map_err(failed)
        }
    }
}

fn bind_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    if fs::symlink_metadata(path).is_ok_and(|meta| !meta.file_type().is_socket()) {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is no socket is there",
        ));
    }
    // A name of its own first: between bind and chmod the socket must not be open to all. The
    // rename replaces a dead process's socket in one step.
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let fresh = path.with_file_name(name);
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(mode))?;
    fs::rename(&fresh, path)?;
    Ok(listener)
}

/// Serves until `shutdown` ends; then finishes the calls under way and returns.
pub async fn routes_served(
    listener: Listener,
    tls: Option<&MutualTls>,
    routes: Routes,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), TransportError> {
    let builder = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .tcp_nodelay(true);
    match listener {
        Listener::Unix(listener) => {
            let incoming = UnixListenerStream::new(listener);
            let mut builder = builder;
            builder
                .add_routes(routes)
                .serve_with_incoming_shutdown(incoming, shutdown)
                .await?;
        }
        Listener::Tls(listener) => {
            let tls = tls.ok_or_else(|| TransportError::NoTls("a TCP endpoint".to_owned()))?;
            let config = ServerTlsConfig::new()
                .identity(Identity::from_pem(&tls.certificate, &tls.key))
                .client_ca_root(Certificate::from_pem(&tls.ca));
            let incoming = TcpListenerStream::new(listener);
            let mut builder = builder.tls_config(config)?;
            builder
                .add_routes(routes)
                .serve_with_incoming_shutdown(incoming, shutdown)
                .await?;
        }
    }
    Ok(())
}
