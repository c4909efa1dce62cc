use std::path::PathBuf;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity, Uri};
use tower::service_fn;

use super::{Endpoint, FRAME, MutualTls, READER_WINDOW, READERS_WINDOW, TransportError};

/// How long a connection may take before a call fails: a daemon on the same machine answers at
/// once or is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A channel that connects at its first use and again whenever it broke.
pub fn connect_lazy(
    endpoint: &Endpoint,
    tls: Option<&MutualTls>,
) -> Result<Channel, TransportError> {
    match endpoint {
        Endpoint::Unix(path) => {
            let path = path.clone();
            let connector = service_fn(move |_: Uri| open_unix(path.clone()));
            // The address is only the HTTP authority; a Unix socket has none of its own.
            Ok(tuned(Channel::from_static("http://localhost"))
                .connect_with_connector_lazy(connector))
        }
        Endpoint::Tls { host, port } => {
            let tls = tls.ok_or_else(|| TransportError::NoTls(endpoint.to_string()))?;
            let uri: Uri = format!("https://{host}:{port}")
                .parse()
                .map_err(|_| TransportError::NoTls(endpoint.to_string()))?;
            let config = ClientTlsConfig::new()
                .ca_certificate(Certificate::from_pem(&tls.ca))
                .identity(Identity::from_pem(&tls.certificate, &tls.key))
                .domain_name(host.trim_matches(['[', ']']));
            Ok(tuned(Channel::builder(uri))
                .tls_config(config)?
                .connect_lazy())
        }
    }
}

/// A channel that is connected already; fails where nobody listens.
pub async fn connect(
    endpoint: &Endpoint,
    tls: Option<&MutualTls>,
) -> Result<Channel, TransportError> {
    match endpoint {
        Endpoint::Unix(path) => {
            let path = path.clone();
            let connector = service_fn(move |_: Uri| open_unix(path.clone()));
            let builder = tuned(Channel::from_static("http://localhost"));
            Ok(builder.connect_with_connector(connector).await?)
        }
        Endpoint::Tls { .. } => connect_lazy(endpoint, tls),
    }
}

fn tuned(builder: tonic::transport::Endpoint) -> tonic::transport::Endpoint {
    builder
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(READER_WINDOW)
        .initial_connection_window_size(READERS_WINDOW)
        .max_frame_size(FRAME)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_while_idle(false)
        .tcp_nodelay(true)
}

async fn open_unix(path: PathBuf) -> std::io::Result<TokioIo<UnixStream>> {
    UnixStream::connect(path).await.map(TokioIo::new)
}
