//! The server side of TLS, with certificates that can be read again while it runs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::NetStream;

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The key does not fit the certificate, or rustls cannot use them.
    #[error("{certificate} and {key} cannot be used together: {source}")]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The file cannot be read, or holds no such PEM section.
    #[error("cannot read {0}: {1}")]
    Pem(PathBuf, rustls_pki_types::pem::Error),
    /// No random numbers for session tickets.
    #[error("cannot make a key for session tickets: {0}")]
    Ticketer(rustls::Error),
}

/// What takes TLS connections. Clones share the certificates.
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<ArcSwap<ServerConfig>>,
}

impl Tls {
    /// Reads a certificate chain and its key from PEM files.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let config = Arc::new(server_config(certificate, key)?);
        Ok(Self {
            config: Arc::new(ArcSwap::new(config)),
        })
    }

    /// Reads the files again; connections from now on get what is there. On an error the old
    /// certificates stay.
    pub(crate) fn reload(&self, certificate: &Path, key: &Path) -> Result<(), TlsError> {
        self.config
            .store(Arc::new(server_config(certificate, key)?));
        Ok(())
    }

    /// Does the handshake of a connection within `timeout`.
    pub async fn accept(&self, stream: TcpStream, timeout: Duration) -> io::Result<NetStream> {
        let acceptor = TlsAcceptor::from(self.config.load_full());
        let handshake = tokio::time::timeout(timeout, acceptor.accept(stream));
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no TLS handshake in time");
        Ok(NetStream::Tls(Box::new(handshake.await.map_err(late)??)))
    }
}

fn server_config(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let unreadable = |path: &Path, error| TlsError::Pem(path.to_owned(), error);
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable(certificate, error))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, error))?;
    let mismatch = |source| TlsError::Mismatch {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        source,
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(mismatch)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(mismatch)?;
    config.ticketer = ring::Ticketer::new().map_err(TlsError::Ticketer)?;
    Ok(config)
}
