//! The loop of one connection: read, let the conversation work, write.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use daemon_kit::{Connection, Context, NetStream, Tls};
use smtp_proto::server::{CloseReason, Offer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tracing::{debug, info};

use crate::client::Client;
use crate::conversation::{Conversation, Next};
use crate::role::Role;
use crate::shared::Shared;

/// Room for a silent client's next words, in octets: a command or two.
const SMALL: usize = 1024;
/// Room for one who has much to say.
const LARGE: usize = 16 * 1024;
/// Room for one who sends more content than that at once. Its message's memory is counted.
const HUGE: usize = 64 * 1024;
/// The least to read: little is left of a chunk at times, and what goes over it is copied.
const LEAST: usize = 4 * 1024;
/// How long a TLS handshake may take: two round trips, and a slow phone's arithmetic.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take to accept what we write: it has to read at least at times.
const WRITE_TIMEOUT: Duration = Duration::from_mins(3);

/// How long the end of a connection may take: the client has to read our last words.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Octets that are read and forgotten at the end.
const LEFTOVERS: usize = 16 * 1024 * 1024;

/// Serves one connection to its end.
pub(crate) async fn serve(
    context: Context,
    shared: Arc<Shared>,
    role: Role,
    connection: Connection,
) {
    let Connection { stream, peer, .. } = connection;
    let mut client = Client::new(peer, role);
    let sid = client.sid.clone();
    let started = Instant::now();
    metrics::gauge!("correo_sessions", "service" => role.name()).increment(1.0);
    info!(sid, %peer, service = role.name(), "session.opened");
    let (accepted, end) = match open(&context, stream, role).await {
        Ok(stream) => {
            client.cipher = stream.cipher();
            let mut io = Io::new(context, shared, client).await;
            let end = io.run(stream).await;
            (io.conversation.accepted, end)
        }
        Err(error) => (0, Err(error)),
    };
    let seconds = started.elapsed().as_secs_f32();
    match end {
        Ok(reason) => {
            info!(
                sid,
                reason = reason.as_str(),
                accepted,
                seconds,
                "session.closed"
            );
        }
        Err(error) => {
            info!(sid, reason = "lost", %error, accepted, seconds, "session.closed");
        }
    }
    metrics::gauge!("correo_sessions", "service" => role.name()).decrement(1.0);
}

async fn open(context: &Context, stream: TcpStream, role: Role) -> io::Result<NetStream> {
    if !role.is_implicit_tls() {
        return Ok(NetStream::Plain(stream));
    }
    let tls = context.tls().ok_or_else(no_tls)?;
    Box::pin(tls.accept(stream, HANDSHAKE_TIMEOUT)).await
}

fn no_tls() -> io::Error {
    io::Error::other("no certificate is configured")
}

/// A conversation and its connection.
struct Io {
    context: Context,
    shared: Arc<Shared>,
    conversation: Conversation,
    input: BytesMut,
    /// What the input buffer was made for, in octets.
    room: usize,
    /// The last read filled the buffer.
    filled: bool,
}

impl Io {
    async fn new(context: Context, shared: Arc<Shared>, client: Client) -> Self {
        let offer = offer(&shared, &client, context.tls()).await;
        Self {
            conversation: Conversation::new(shared.clone(), client, offer),
            context,
            shared,
            input: BytesMut::new(),
            room: 0,
            filled: false,
        }
    }

    async fn run(&mut self, mut stream: NetStream) -> io::Result<CloseReason> {
        loop {
            let next = self.conversation.take(&mut self.input).await;
            self.flush(&mut stream).await?;
            match next {
                Next::Read => self.read(&mut stream).await?,
                Next::StartTls => stream = Box::pin(self.start_tls(stream)).await?,
                Next::Close(reason) => {
                    self.close(stream).await;
                    return Ok(reason);
                }
            }
        }
    }

    async fn flush(&mut self, stream: &mut NetStream) -> io::Result<()> {
        let session = &mut self.conversation.session;
        let Some(out) = session.poll_transmit() else {
            return Ok(());
        };
        let write = async {
            stream.write_all(out).await?;
            stream.flush().await
        };
        tokio::time::timeout(WRITE_TIMEOUT, write).await??;
        session.handle_transmitted();
        Ok(())
    }

    /// Waits for input, the session's time-out or the server's end, whichever comes first.
    async fn read(&mut self, stream: &mut NetStream) -> io::Result<()> {
        self.make_room();
        // A chunk of content is sent on as it came if nothing goes over it.
        let most = self.conversation.wanted().unwrap_or(HUGE).max(LEAST);
        let session = &mut self.conversation.session;
        let deadline = session.poll_timeout().map(tokio::time::Instant::from_std);
        let late = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let mut input = (&mut self.input).limit(most);
        tokio::select! {
            // In this order: a client that never stops talking must not escape the first two.
            biased;
            () = self.context.shutdown().cancelled(), if !session.is_stopping() => {
                session.handle_shutdown();
            }
            () = late => session.handle_timeout(Instant::now()),
            read = stream.read_buf(&mut input) => {
                if read? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
        self.filled = self.input.len() >= self.room.min(most);
        Ok(())
    }

    /// A silent client costs little: a small buffer waits for it, a large one for who sends content
    /// or more than the small one takes, a huge one for who sends content faster than that.
    fn make_room(&mut self) {
        let busy = !self.conversation.is_idle() || self.filled;
        let room = match (busy, self.conversation.is_idle()) {
            (false, _) => SMALL,
            (true, false) if self.room == HUGE || self.filled && self.room == LARGE => HUGE,
            (true, _) => LARGE,
        };
        if !busy {
            self.conversation.session.release_buffers();
        }
        if room == self.room {
            // All input was taken, so that this is the same memory again.
            self.input.reserve(room);
        } else {
            self.input = BytesMut::with_capacity(room);
            self.room = room;
        }
    }

    async fn start_tls(&mut self, stream: NetStream) -> io::Result<NetStream> {
        // What came with STARTTLS in the clear is nobody's (RFC 3207 §4.2).
        self.input.clear();
        let NetStream::Plain(stream) = stream else {
            return Err(io::Error::other("TLS is on already"));
        };
        let tls = self.context.tls().ok_or_else(no_tls)?;
        let stream = tls.accept(stream, HANDSHAKE_TIMEOUT).await?;
        let client = &mut self.conversation.client;
        client.cipher = stream.cipher();
        let offer = offer(&self.shared, client, Some(tls)).await;
        self.conversation.session.handle_tls(Instant::now(), offer);
        Ok(stream)
    }

    /// Ends the connection so that the client gets to read our last words: closed with input that
    /// nobody has read, the socket would make the kernel throw them away.
    async fn close(&mut self, mut stream: NetStream) {
        let end = async {
            stream.shutdown().await?;
            let mut left = LEFTOVERS;
            self.input.clear();
            self.input.reserve(SMALL);
            while left > 0 {
                self.input.clear();
                let read = stream.read_buf(&mut self.input).await?;
                if read == 0 {
                    break;
                }
                left = left.saturating_sub(read);
            }
            io::Result::Ok(())
        };
        // The client may be gone already; then there is nothing to close.
        if !matches!(tokio::time::timeout(CLOSE_TIMEOUT, end).await, Ok(Ok(()))) {
            debug!(sid = self.conversation.client.sid, "not closed in order");
        }
    }
}

/// What the session can offer as things stand.
async fn offer(shared: &Shared, client: &Client, tls: Option<&Tls>) -> Offer {
    let encrypted = client.is_encrypted();
    let mechanisms = if client.role.needs_login() {
        let loopback = client.is_loopback();
        shared
            .mechanisms
            .offer(&shared.authenticator, encrypted, loopback)
            .await
    } else {
        Arc::default()
    };
    Offer {
        encrypted,
        starttls: tls.is_some() && !encrypted,
        mechanisms,
    }
}
