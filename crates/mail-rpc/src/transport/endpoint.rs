use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where a service is to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `unix:PATH`
    Unix(PathBuf),
    /// `https://HOST:PORT`, with mutual TLS.
    Tls {
        /// A name, which the peer's certificate must have, or an address.
        host: String,
        /// TCP port.
        port: u16,
    },
}

/// A text that is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no endpoint; write unix:PATH or https://HOST:PORT")]
pub struct EndpointError(String);

impl Endpoint {
    /// The same endpoint with a relative socket path put under `folder`.
    #[must_use]
    pub fn under(self, folder: &Path) -> Self {
        match self {
            Self::Unix(path) => Self::Unix(folder.join(path)),
            Self::Tls { .. } => self,
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let wrong = || EndpointError(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() {
                Err(wrong())
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        let rest = text.strip_prefix("https://").ok_or_else(wrong)?;
        let (host, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        if host.is_empty() || host.contains('/') {
            return Err(wrong());
        }
        Ok(Self::Tls {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tls { host, port } => write!(f, "https://{host}:{port}"),
        }
    }
}

/// PEM texts for mutual TLS. `Debug` does not print the key.
#[derive(Clone)]
pub struct MutualTls {
    /// The authority that signed every daemon's certificate.
    pub ca: Vec<u8>,
    /// This daemon's certificate chain.
    pub certificate: Vec<u8>,
    /// This daemon's private key.
    pub key: Vec<u8>,
}

impl fmt::Debug for MutualTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MutualTls").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_round_trip() {
        for text in [
            "unix:/run/q.sock",
            "https://queue.example:7000",
            "https://[::1]:7000",
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "unix:",
            "http://a:1",
            "https://a",
            "https://:1",
            "https://a:b",
            "/run/q",
        ] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
        let under = "unix:run/q.sock"
            .parse::<Endpoint>()
            .unwrap()
            .under(Path::new("/home"));
        assert_eq!(under.to_string(), "unix:/home/run/q.sock");
    }
}
