//! Connecting, up to the point where a message may be sent.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mail_types::{Domain, EnhancedCode, Outcome, StatusClass};
use rustls_pki_types::ServerName;
use smtp_proto::client::{Cause, Event, Failure, Opening, Session, Settings, Stage, TlsPolicy};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::login::Login;
use super::{Connection, READ_BUFFER};
use crate::live::Account;
use crate::route::Candidate;
use crate::stream::Stream;
use crate::tls::TlsClient;

/// How connections are made.
#[derive(Debug)]
pub(crate) struct Opener {
    pub(crate) settings: Arc<Settings>,
    pub(crate) tls: TlsClient,
    pub(crate) connect_timeout: Duration,
    pub(crate) sources: Vec<IpAddr>,
}

/// What a certain destination needs.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) tls: TlsPolicy,
    /// The certificate has to be valid for the host's name.
    pub(crate) verify: bool,
    /// TLS comes before the greeting.
    pub(crate) implicit_tls: bool,
    pub(crate) account: Option<Account>,
}

/// Why a server cannot be used now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("cannot connect to {0}: {1}")]
    Connect(Candidate, io::Error),
    #[error("{1}")]
    Session(Candidate, Failure),
    #[error("no TLS with {0}: {1}")]
    Tls(Candidate, io::Error),
}

impl OpenError {
    /// The outcome for a message if there is no other server.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Connect(..) => Outcome::local(EnhancedCode::NO_ANSWER, self.to_string()),
            Self::Session(candidate, failure) => failure.outcome(&candidate.host),
            Self::Tls(..) => {
                // x.7.5: cryptographic failure (RFC 3463 §3.8).
                let status = EnhancedCode::new(StatusClass::Transient, 7, 5)
                    .unwrap_or(EnhancedCode::POLICY_FOR_NOW);
                Outcome::local(status, self.to_string())
            }
        }
    }
}

impl std::fmt::Display for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.name().is_some() {
            write!(f, "{} [{}]", self.host, self.address)
        } else {
            write!(f, "[{}]", self.address)
        }
    }
}

impl Opener {
    /// Connects, and goes on in the clear where TLS fails and need not be.
    pub(crate) async fn open(
        &self,
        candidate: &Candidate,
        plan: &Plan,
    ) -> Result<Connection, OpenError> {
        match self.open_once(candidate, plan, plan.tls).await {
            Err(OpenError::Tls(_, error))
                if plan.tls == TlsPolicy::Opportunistic && !plan.implicit_tls =>
            {
                tracing::debug!(host = %candidate, %error, "TLS failed, going on in the clear");
                self.open_once(candidate, plan, TlsPolicy::None).await
            }
            result => result,
        }
    }

    async fn open_once(
        &self,
        candidate: &Candidate,
        plan: &Plan,
        tls: TlsPolicy,
    ) -> Result<Connection, OpenError> {
        let connect = timeout(self.connect_timeout, self.connect(candidate.address));
        let tcp = connect
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| OpenError::Connect(candidate.clone(), error))?;
        let stream = if plan.implicit_tls {
            self.handshake(tcp, candidate, plan.verify).await?
        } else {
            Stream::Plain(tcp)
        };
        let opening = Opening {
            peer: candidate.host.clone(),
            tls,
            encrypted: plan.implicit_tls,
            authenticate: plan.account.is_some(),
        };
        let mut connection = Connection {
            stream,
            session: Session::new(self.settings.clone(), opening, Instant::now()),
            candidate: candidate.clone(),
            buffer: vec![0; READ_BUFFER].into_boxed_slice(),
            out: Vec::new(),
            written: 0,
            unflushed: false,
            write_failed: false,
            messages: 0,
            content_timeout: self.settings.timeouts.data_block,
        };
        match self.greet(&mut connection, plan).await {
            Ok(()) => Ok(connection),
            Err(error) => {
                connection.quit().await;
                Err(error)
            }
        }
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        let source = self
            .sources
            .iter()
            .find(|ip| ip.is_ipv4() == address.is_ipv4());
        if let Some(source) = source {
            socket.bind(SocketAddr::new(*source, 0))?;
        }
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// From the greeting to the moment when a message may be sent.
    async fn greet(&self, connection: &mut Connection, plan: &Plan) -> Result<(), OpenError> {
        let mut login = plan.account.as_ref().map(Login::new);
        loop {
            while let Some(event) = connection.session.poll_event() {
                match event {
                    Event::StartTls => self.start_tls(connection, plan).await?,
                    Event::Auth(prompt) => {
                        let safe = connection.session.is_encrypted()
                            || connection.candidate.address.ip().is_loopback();
                        if let Some(login) = &mut login
                            && let Some(step) = login.answer(prompt, safe)
                        {
                            connection.session.handle_auth(Instant::now(), step);
                        }
                    }
                    // In TLS 1.3 the server's objection may come only now.
                    Event::Closed(Some(failure))
                        if failure.stage == Stage::Hello
                            && failure.cause == Cause::Lost
                            && connection.session.is_encrypted() =>
                    {
                        let error = io::Error::other("closed behind the handshake");
                        return Err(OpenError::Tls(connection.candidate.clone(), error));
                    }
                    Event::Closed(Some(failure)) => {
                        return Err(OpenError::Session(connection.candidate.clone(), failure));
                    }
                    _ => {}
                }
            }
            if login.as_ref().is_some_and(Login::is_betrayed) {
                // It took the login without having proved itself.
                return Err(login_failed(&connection.candidate));
            }
            if connection.session.is_idle() {
                return Ok(());
            }
            connection.step().await;
        }
    }

    async fn start_tls(&self, connection: &mut Connection, plan: &Plan) -> Result<(), OpenError> {
        match std::mem::replace(&mut connection.stream, Stream::Gone) {
            Stream::Plain(tcp) => {
                let candidate = connection.candidate.clone();
                connection.stream = self.handshake(tcp, &candidate, plan.verify).await?;
                connection.session.handle_tls(Instant::now());
                Ok(())
            }
            other => {
                connection.stream = other;
                Ok(())
            }
        }
    }

    async fn handshake(
        &self,
        tcp: TcpStream,
        candidate: &Candidate,
        verify: bool,
    ) -> Result<Stream, OpenError> {
        let failed = |error| OpenError::Tls(candidate.clone(), error);
        let name = server_name(&candidate.host, candidate.address).map_err(failed)?;
        let handshake = self.tls.connector(verify).connect(name, tcp);
        let stream = timeout(self.connect_timeout, handshake)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(failed)?;
        Ok(Stream::Tls(Box::new(stream)))
    }
}

fn server_name(host: &Domain, address: SocketAddr) -> io::Result<ServerName<'static>> {
    match host.name() {
        Some(name) => ServerName::try_from(name.to_owned()).map_err(io::Error::other),
        None => Ok(ServerName::from(address.ip())),
    }
}

fn login_failed(candidate: &Candidate) -> OpenError {
    let failure = Failure {
        stage: Stage::Auth,
        cause: Cause::AuthCancelled,
    };
    OpenError::Session(candidate.clone(), failure)
}
