//! The loop of one connection: read, let the conversation work, write.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daemon_kit::{Connection, NetStream};
use pop3_proto::{Event, Limits, MaildropFailure, Message, Session, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::login::{Client, Logins};
use crate::maildrop::Maildrop;
use crate::{POP3S, Shared};

/// Octets read at a time: commands are short, and a silent client costs this much.
const INPUT: usize = 1024;
/// Octets of a message that may wait to be sent.
const OUTPUT: usize = 64 * 1024;
/// A client that says nothing for so long gives the memory back that would have made it faster.
const CALM: Duration = Duration::from_secs(1);
/// How long a TLS handshake may take: two round trips, and a slow phone's arithmetic.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take to accept what we write.
const WRITE_TIMEOUT: Duration = Duration::from_mins(3);

/// Serves one connection to its end.
pub(crate) async fn serve(shared: Arc<Shared>, service: &'static str, connection: Connection) {
    let sid = format!("{:016x}", rand::random::<u64>());
    let peer = connection.peer;
    info!(sid, %peer, service, "session.opened");
    let client = Client {
        sid: sid.clone(),
        peer: peer.ip(),
    };
    // The handshake's state is large and soon gone.
    let result = match Box::pin(open(&shared, service, connection)).await {
        Ok(stream) => Io::begin(shared, &stream, client).await.run(stream).await,
        Err(error) => Err(error),
    };
    match result {
        Ok(reason) => info!(sid, reason, "session.closed"),
        Err(error) => info!(sid, reason = "lost", %error, "session.closed"),
    }
}

async fn open(shared: &Shared, service: &str, connection: Connection) -> io::Result<NetStream> {
    if service != POP3S {
        return Ok(NetStream::Plain(connection.stream));
    }
    let tls = shared.context.tls().ok_or_else(no_tls)?;
    tls.accept(connection.stream, HANDSHAKE_TIMEOUT).await
}

fn no_tls() -> io::Error {
    io::Error::other("no certificate is configured")
}

struct Io {
    shared: Arc<Shared>,
    session: Session,
    logins: Logins,
    maildrop: Option<Maildrop>,
    peer: IpAddr,
    login_deadline: Instant,
}

impl Io {
    async fn begin(shared: Arc<Shared>, stream: &NetStream, client: Client) -> Self {
        let encrypted = stream.is_encrypted();
        let loopback = client.peer.is_loopback();
        let settings = Settings {
            encrypted,
            tls_available: shared.context.tls().is_some(),
            plain_allowed: encrypted || loopback,
            mechanisms: mechanisms(&shared, encrypted, loopback).await,
        };
        let config = shared.context.config();
        let errors = config.pop3d.max_errors;
        let login_deadline = Instant::now() + *config.pop3d.login_timeout;
        drop(config);
        let session = Session::new(
            settings,
            Limits {
                errors,
                ..Limits::default()
            },
        );
        let peer = client.peer;
        Self {
            shared,
            session,
            logins: Logins::new(client),
            maildrop: None,
            peer,
            login_deadline,
        }
    }

    async fn run(mut self, mut stream: NetStream) -> io::Result<&'static str> {
        loop {
            match self.session.poll_event() {
                Some(Event::StartTls) => {
                    self.flush(&mut stream).await?;
                    stream = Box::pin(self.start_tls(stream)).await?;
                    continue;
                }
                Some(event) => {
                    self.handle(event, &mut stream).await?;
                    continue;
                }
                None => {}
            }
            // Answers to what came in one piece go out in one, as far as there is room.
            if !self.session.output().is_empty() {
                self.flush(&mut stream).await?;
                continue;
            }
            if self.session.is_closed() {
                // The lock goes before the client can connect again.
                self.maildrop = None;
                let _ = stream.shutdown().await;
                return Ok("quit");
            }
            if !self.read(&mut stream).await? {
                return Ok("end of input");
            }
        }
    }

    /// False at the end of input. Silence ends the session without an answer (RFC 1939 §3), and so
    /// does a login that takes too long, however busy the client is.
    async fn read(&mut self, stream: &mut NetStream) -> io::Result<bool> {
        let now = Instant::now();
        let deadline = if self.session.is_authenticated() {
            now + *self.shared.context.config().pop3d.idle_timeout
        } else {
            self.login_deadline
        };
        let mut input = [0; INPUT];
        let calm = deadline.min(now + CALM);
        let len = tokio::select! {
            () = self.shared.context.shutdown().cancelled() => {
                self.session.handle_shutdown();
                return Ok(true);
            }
            read = tokio::time::timeout_at(calm, stream.read(&mut input)) => match read {
                Ok(len) => Some(len?),
                Err(_) => None,
            },
        };
        let len = match len {
            Some(len) => len,
            None => match self.read_on(stream, &mut input, deadline).await? {
                Some(len) => len,
                None => return Ok(true),
            },
        };
        self.session
            .handle_input(input.get(..len).unwrap_or_default());
        Ok(len > 0)
    }

    /// Goes on to wait for a client that is silent; `None` if the server ends.
    async fn read_on(
        &mut self,
        stream: &mut NetStream,
        input: &mut [u8],
        deadline: Instant,
    ) -> io::Result<Option<usize>> {
        self.session.handle_silence();
        if let Some(maildrop) = &mut self.maildrop {
            maildrop.ahead.forget();
        }
        tokio::select! {
            () = self.shared.context.shutdown().cancelled() => {
                self.session.handle_shutdown();
                Ok(None)
            }
            read = tokio::time::timeout_at(deadline, stream.read(input)) => match read {
                Ok(len) => len.map(Some),
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the client was silent")),
            },
        }
    }

    async fn flush(&mut self, stream: &mut NetStream) -> io::Result<()> {
        if self.session.output().is_empty() {
            return Ok(());
        }
        let write = async {
            stream.write_all(self.session.output()).await?;
            stream.flush().await
        };
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the client does not read");
        tokio::time::timeout(WRITE_TIMEOUT, write)
            .await
            .map_err(late)??;
        self.session.handle_sent();
        Ok(())
    }

    async fn handle(&mut self, event: Event, stream: &mut NetStream) -> io::Result<()> {
        if !matches!(event, Event::Retrieve { .. }) {
            // What is answered already does not wait for another daemon.
            self.flush(stream).await?;
        }
        match event {
            Event::Authenticate { mechanism, initial } => {
                let encrypted = stream.is_encrypted();
                let begin =
                    self.logins
                        .begin(&self.shared.authenticator, mechanism, initial, encrypted);
                let answer = begin.await;
                self.session.handle_auth(answer);
            }
            Event::AuthResponse(response) => {
                let answer = self.logins.respond(&response).await;
                self.session.handle_auth(answer);
            }
            Event::AuthCancelled => self.logins.cancel(),
            Event::OpenMaildrop => {
                let opened = self.open_maildrop().await;
                self.session.handle_maildrop(opened);
            }
            Event::Retrieve { uid, size, top } => {
                let message = Message { uid, size };
                self.retrieve(message, top, stream).await?;
            }
            Event::Commit(uids) => {
                let done = self.delete(&uids).await;
                self.session.handle_committed(done);
            }
            // Done by the caller, which has the stream to itself.
            Event::StartTls => {}
        }
        Ok(())
    }

    async fn open_maildrop(&mut self) -> Result<(u32, Vec<Message>), MaildropFailure> {
        let login = self
            .logins
            .login
            .as_ref()
            .ok_or(MaildropFailure::Temporary)?;
        let opened = Maildrop::open(
            &self.shared.mailboxes,
            login.account_id(),
            &self.shared.read_ahead,
        )
        .await;
        let (maildrop, messages) = opened?;
        let uid_validity = maildrop.uid_validity();
        self.maildrop = Some(maildrop);
        Ok((uid_validity, messages))
    }

    async fn delete(&mut self, uids: &[u32]) -> bool {
        let Some(maildrop) = self.maildrop.take() else {
            return false;
        };
        let done = maildrop.delete(&self.shared.mailboxes, uids).await;
        if done {
            let (sid, messages) = (self.logins.sid(), uids.len());
            info!(sid, messages, "msg.deleted");
            metrics::counter!("correo_pop3_deleted_total").increment(messages as u64);
        }
        done
    }

    async fn retrieve(
        &mut self,
        message: Message,
        top: bool,
        stream: &mut NetStream,
    ) -> io::Result<()> {
        let content = if top {
            None
        } else {
            self.read_ahead(message, stream).await?
        };
        match content {
            Some(content) => {
                self.session.handle_content(&content);
                self.session.handle_content_end();
            }
            None if !self.stream_message(message, top, stream).await? => return Ok(()),
            None => {}
        }
        if !top {
            metrics::counter!("correo_pop3_retrieved_total").increment(1);
            metrics::counter!("correo_pop3_octets_retrieved_total").increment(message.size);
        }
        Ok(())
    }

    /// The message if it was read ahead; and what is wanted next is asked for.
    async fn read_ahead(
        &mut self,
        message: Message,
        stream: &mut NetStream,
    ) -> io::Result<Option<Bytes>> {
        let Some(mut maildrop) = self.maildrop.take() else {
            return Ok(None);
        };
        let at_once = tokio::select! {
            biased;
            content = maildrop.ahead.take(message) => Some(content),
            () = std::future::ready(()) => None,
        };
        let content = if let Some(content) = at_once {
            content
        } else {
            // While we wait the client gets what is there.
            self.flush(stream).await?;
            maildrop.ahead.take(message).await
        };
        let upcoming = self.session.upcoming();
        maildrop.ahead.fill(&self.shared.fetcher, upcoming).await;
        self.maildrop = Some(maildrop);
        Ok(content)
    }

    /// Sends a message as it comes from the store: at most [`OUTPUT`] octets wait. False: the client is
    /// told that it cannot be read.
    async fn stream_message(
        &mut self,
        message: Message,
        top: bool,
        stream: &mut NetStream,
    ) -> io::Result<bool> {
        self.flush(stream).await?;
        let Some(maildrop) = &mut self.maildrop else {
            self.session.handle_content_failed();
            return Ok(false);
        };
        let fetcher = &self.shared.fetcher;
        let mut reader = match maildrop.read(fetcher, message, top).await {
            Ok(reader) => reader,
            Err(status) => {
                warn!(%status, uid = message.uid, "cannot read a message");
                self.session.handle_content_failed();
                return Ok(false);
            }
        };
        loop {
            let data = match reader.next(&self.shared.fetcher).await {
                Ok(Some(data)) => data,
                Ok(None) => break,
                Err(status) => {
                    warn!(%status, uid = message.uid, "a message ended early");
                    if status.code() == tonic::Code::NotFound {
                        self.session.handle_content_gone();
                    } else {
                        self.session.handle_content_failed();
                    }
                    return Ok(false);
                }
            };
            if !self.session.handle_content(&data) {
                // TOP has its lines; the rest is not needed.
                break;
            }
            if self.session.output().len() >= OUTPUT {
                self.flush(stream).await?;
            }
        }
        self.session.handle_content_end();
        Ok(true)
    }

    /// The answer to STLS is out already.
    async fn start_tls(&mut self, stream: NetStream) -> io::Result<NetStream> {
        let tls = self.shared.context.tls().ok_or_else(no_tls)?.clone();
        let NetStream::Plain(stream) = stream else {
            return Err(io::Error::other("TLS is on already"));
        };
        let stream = tls.accept(stream, HANDSHAKE_TIMEOUT).await?;
        let mechanisms = mechanisms(&self.shared, true, self.peer.is_loopback()).await;
        self.session.handle_tls(mechanisms);
        Ok(stream)
    }
}

/// Without directoryd nothing is offered, and a login says that it does not work just now.
async fn mechanisms(shared: &Shared, encrypted: bool, loopback: bool) -> Vec<String> {
    shared
        .authenticator
        .mechanisms(encrypted, loopback)
        .await
        .unwrap_or_else(|error| {
            warn!(%error, "cannot ask which mechanisms there are");
            Vec::new()
        })
}
