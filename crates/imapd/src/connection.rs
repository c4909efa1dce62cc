//! The loop of one connection: read, let the conversation work, write.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon_kit::{Connection, NetStream};
use imap_proto::{Session, State};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing::info;

use crate::conversation::{Conversation, Next};
use crate::{IMAPS, Shared};

/// Octets read at a time from a client that says little.
const SMALL: usize = 512;
/// And from one that has much to say.
const LARGE: usize = 16 * 1024;
/// How long a TLS handshake may take: two round trips, and a slow phone's arithmetic.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take to accept what we write.
const WRITE_TIMEOUT: Duration = Duration::from_mins(3);

/// Serves one connection to its end.
pub(crate) async fn serve(shared: Arc<Shared>, service: &'static str, connection: Connection) {
    let sid = format!("{:016x}", rand::random::<u64>());
    let peer = connection.peer;
    info!(sid, %peer, service, "session.opened");
    metrics::gauge!("correo_sessions", "service" => service).increment(1.0);
    // The handshake's state is large and soon gone.
    let result = match Box::pin(open(&shared, service, connection)).await {
        Ok(stream) => run(shared, stream, sid.clone(), peer.ip()).await,
        Err(error) => Err(error),
    };
    metrics::gauge!("correo_sessions", "service" => service).decrement(1.0);
    match result {
        Ok(reason) => info!(sid, reason, "session.closed"),
        Err(error) => info!(sid, reason = "lost", %error, "session.closed"),
    }
}

async fn open(shared: &Shared, service: &str, connection: Connection) -> io::Result<NetStream> {
    if service == IMAPS {
        handshake(shared, NetStream::Plain(connection.stream)).await
    } else {
        Ok(NetStream::Plain(connection.stream))
    }
}

async fn handshake(shared: &Shared, stream: NetStream) -> io::Result<NetStream> {
    let no_tls = || io::Error::other("no certificate is configured");
    let tls = shared.context.tls().ok_or_else(no_tls)?.clone();
    let NetStream::Plain(stream) = stream else {
        return Err(io::Error::other("TLS is on already"));
    };
    tls.accept(stream, HANDSHAKE_TIMEOUT).await
}

async fn run(
    shared: Arc<Shared>,
    mut stream: NetStream,
    sid: String,
    peer: std::net::IpAddr,
) -> io::Result<&'static str> {
    let encrypted = stream.is_encrypted();
    // What a session does once, or now and then, must not make each that waits larger.
    let begin = Conversation::begin(shared.clone(), encrypted, sid, peer);
    let mut conversation = Box::pin(begin).await;
    let mut room = SMALL;
    let mut patience = Patience::begin();
    loop {
        let next = Box::pin(conversation.work(&mut stream)).await?;
        flush(&mut conversation.out, &mut stream).await?;
        match next {
            Next::Close(reason) => {
                let _ = stream.shutdown().await;
                return Ok(reason);
            }
            Next::StartTls => {
                stream = Box::pin(handshake(&shared, stream)).await?;
                Box::pin(conversation.tls_is_on()).await;
            }
            Next::Read => {
                // A client that says nothing costs no buffer.
                if conversation.out.capacity() > SMALL {
                    conversation.out = Vec::new();
                }
                let patience = patience.left(&conversation.session);
                room = read(&shared, &mut conversation, &mut stream, room, patience).await?;
            }
        }
    }
}

/// How long a client is waited for. An octet now and then does not prolong a login or a command.
struct Patience {
    connected: Instant,
    /// When the command began that is not complete yet.
    command: Option<Instant>,
}

impl Patience {
    fn begin() -> Self {
        Self {
            connected: Instant::now(),
            command: None,
        }
    }

    fn left(&mut self, session: &Session) -> Duration {
        let limits = session.limits();
        let mut left = session.patience();
        if session.state() == State::NotAuthenticated {
            let spent = self.connected.elapsed();
            left = left.min(limits.login_timeout.saturating_sub(spent));
        }
        if session.is_in_command() {
            let spent = self.command.get_or_insert_with(Instant::now).elapsed();
            left = left.min(limits.command_timeout.saturating_sub(spent));
        } else {
            self.command = None;
        }
        left
    }
}

/// Waits for input, a change of the mailbox while the client idles, the client's time-out, or the
/// server's end. Answers how much room the next read should have.
async fn read(
    shared: &Shared,
    conversation: &mut Conversation,
    stream: &mut NetStream,
    room: usize,
    patience: Duration,
) -> io::Result<usize> {
    // On the heap, so that a silent client costs the small size.
    let mut input = vec![0; room];
    let read = tokio::time::timeout(patience, stream.read(&mut input));
    let len = tokio::select! {
        () = shared.context.shutdown().cancelled() => {
            conversation.end("the server is shutting down");
            return Ok(room);
        }
        () = conversation.mailbox_changed() => return Ok(room),
        read = read => {
            let Ok(len) = read else {
                conversation.end("you were silent for too long");
                return Ok(room);
            };
            len?
        }
    };
    if len == 0 {
        conversation.hung_up();
    }
    conversation
        .session
        .handle_input(input.get(..len).unwrap_or_default());
    Ok(if len == room { LARGE } else { SMALL })
}

/// Writes what is to be sent.
pub(crate) async fn flush(out: &mut Vec<u8>, stream: &mut NetStream) -> io::Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let write = async {
        stream.write_all(out).await?;
        stream.flush().await
    };
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the client does not read");
    tokio::time::timeout(WRITE_TIMEOUT, write)
        .await
        .map_err(late)??;
    out.clear();
    Ok(())
}
