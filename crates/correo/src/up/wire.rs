use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::settings::connect;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest line that is read.
const MAX_LINE: u64 = 64 * 1024;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A conversation by lines. Errors are sentences.
pub(super) struct Wire {
    stream: BufReader<Box<dyn Stream>>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}

/// What a TLS client needs: whom to trust and who it should be.
pub(super) struct Trust {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Trust {
    /// Trusts the certificates of a file, and nothing else.
    pub(super) fn new(certificate: &Path, hostname: &str) -> Result<Self, String> {
        let unreadable = |error| format!("cannot read {}: {error}", certificate.display());
        let mut roots = RootCertStore::empty();
        for found in CertificateDer::pem_file_iter(certificate).map_err(unreadable)? {
            let found = found.map_err(unreadable)?;
            roots.add(found).map_err(|error| error.to_string())?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(hostname.to_owned())
            .map_err(|error| format!("{hostname}: {error}"))?;
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            name,
        })
    }
}

impl Wire {
    /// Connects without TLS.
    pub(super) async fn plain(address: Option<&SocketAddr>) -> Result<Self, String> {
        let address = address.ok_or("the service is turned off in correo.toml")?;
        let connected = timeout(PATIENCE, connect(*address)).await;
        let stream = connected
            .map_err(|_| format!("no connection to {address}"))?
            .map_err(|error| format!("no connection to {address}: {error}"))?;
        Ok(Self {
            stream: BufReader::new(Box::new(stream)),
        })
    }

    /// Connects with TLS from the start.
    pub(super) async fn tls(address: Option<&SocketAddr>, trust: &Trust) -> Result<Self, String> {
        Self::plain(address).await?.secure(trust).await
    }

    /// Begins TLS on the connection.
    pub(super) async fn secure(self, trust: &Trust) -> Result<Self, String> {
        let stream = self.stream.into_inner();
        let handshake = trust.connector.connect(trust.name.clone(), stream);
        let stream = timeout(PATIENCE, handshake)
            .await
            .map_err(|_| "no TLS handshake in time".to_owned())?
            .map_err(|error| format!("TLS: {error}"))?;
        Ok(Self {
            stream: BufReader::new(Box::new(stream)),
        })
    }

    /// Sends octets as they are.
    pub(super) async fn send(&mut self, octets: &[u8]) -> Result<(), String> {
        let broken = |error| format!("the connection broke: {error}");
        self.stream.write_all(octets).await.map_err(broken)?;
        self.stream.flush().await.map_err(broken)
    }

    /// A line without its end.
    pub(super) async fn line(&mut self) -> Result<String, String> {
        let mut octets = Vec::new();
        let mut limited = (&mut self.stream).take(MAX_LINE);
        let read = timeout(PATIENCE, limited.read_until(b'\n', &mut octets)).await;
        let read = read
            .map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))?
            .map_err(|error| format!("the connection broke: {error}"))?;
        if read == 0 {
            return Err("the server closed the connection".to_owned());
        }
        let text = String::from_utf8_lossy(&octets);
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// So many octets.
    pub(super) async fn octets(&mut self, count: usize) -> Result<Vec<u8>, String> {
        let mut octets = vec![0; count];
        let read = timeout(PATIENCE, self.stream.read_exact(&mut octets)).await;
        read.map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))?
            .map_err(|error| format!("the connection broke: {error}"))?;
        Ok(octets)
    }

    /// Reads an SMTP reply (RFC 5321 §4.2.1), which must have this code; gives its text.
    pub(super) async fn reply(&mut self, code: &str) -> Result<String, String> {
        let mut text = String::new();
        loop {
            let line = self.line().await?;
            if !line.starts_with(code) {
                return Err(format!("the server says {line:?} instead of {code}"));
            }
            text.push_str(&line);
            text.push('\n');
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(text);
            }
        }
    }

    /// Sends an SMTP command and reads its reply.
    pub(super) async fn smtp(&mut self, command: &str, code: &str) -> Result<String, String> {
        self.send(format!("{command}\r\n").as_bytes()).await?;
        self.reply(code).await
    }

    /// Sends a POP3 command and reads its status line (RFC 1939 §3).
    pub(super) async fn pop3(&mut self, command: &str) -> Result<String, String> {
        self.send(format!("{command}\r\n").as_bytes()).await?;
        self.pop3_status().await
    }

    /// Reads a POP3 status line.
    pub(super) async fn pop3_status(&mut self) -> Result<String, String> {
        let line = self.line().await?;
        match line.strip_prefix("+OK") {
            Some(rest) => Ok(rest.trim_start().to_owned()),
            None => Err(format!("the server says {line:?}")),
        }
    }

    /// Sends an IMAP command with a tag and reads up to its result (RFC 3501 §7); gives all that
    /// came before, literals included.
    pub(super) async fn imap(&mut self, tag: &str, command: &str) -> Result<String, String> {
        self.send(format!("{tag} {command}\r\n").as_bytes()).await?;
        let mut text = String::new();
        loop {
            let line = self.line().await?;
            if let Some(result) = line.strip_prefix(tag) {
                return if result.trim_start().starts_with("OK") {
                    Ok(text)
                } else {
                    Err(format!("the server says {line:?}"))
                };
            }
            text.push_str(&line);
            text.push_str("\r\n");
            if let Some(count) = literal(&line) {
                let octets = self.octets(count).await?;
                text.push_str(&String::from_utf8_lossy(&octets));
            }
        }
    }
}

/// The octets of a literal that a line announces: `{123}` at its end.
fn literal(line: &str) -> Option<usize> {
    let (_, count) = line.strip_suffix('}')?.rsplit_once('{')?;
    count.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals() {
        assert_eq!(literal("* 1 FETCH (BODY[] {12}"), Some(12));
        assert_eq!(literal("* OK {x}"), None);
        assert_eq!(literal("* OK"), None);
    }
}
