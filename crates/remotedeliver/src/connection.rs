//! One SMTP conversation on a socket.

mod login;
mod open;

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use mail_types::Outcome;
use smtp_proto::client::{Envelope, Event, Session};
use tokio::time::{timeout, timeout_at};

use crate::content::Content;
use crate::own::OwnHost;
use crate::route::Candidate;
use crate::stream::Stream;

pub(crate) use open::{OpenError, Opener, Plan};

/// Replies are short; a long EHLO takes two readings.
const READ_BUFFER: usize = 2048;
/// How long a farewell may take: nothing depends on it.
const FAREWELL: Duration = Duration::from_secs(2);

/// A connection to a server, ready for messages.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    session: Session,
    pub(crate) candidate: Candidate,
    buffer: Box<[u8]>,
    out: Vec<u8>,
    /// Octets of `out` that are written.
    written: usize,
    /// What was written may still be in TLS's buffers.
    unflushed: bool,
    /// Writing failed. What the server said before may still be read, and may say why.
    write_failed: bool,
    pub(crate) messages: u32,
    content_timeout: Duration,
}

/// What became of a transaction.
#[derive(Debug)]
pub(crate) enum Sent {
    /// One for each recipient.
    Outcomes(Vec<Outcome>),
    /// The server had closed the connection: the message has to go another way.
    Unanswered,
}

enum Io {
    Read(io::Result<usize>),
    Written,
}

impl Connection {
    /// Sends one message.
    pub(crate) async fn send(&mut self, envelope: Envelope, content: &Content) -> Sent {
        if self.session.begin(Instant::now(), envelope).is_err() {
            return Sent::Unanswered;
        }
        self.messages += 1;
        let mut sent = None;
        loop {
            while let Some(event) = self.session.poll_event() {
                match event {
                    Event::Content => self.send_content(content).await,
                    Event::Finished(outcomes) => sent = Some(Sent::Outcomes(outcomes)),
                    Event::Unanswered => sent = Some(Sent::Unanswered),
                    _ => {}
                }
            }
            if let Some(sent) = sent {
                return sent;
            }
            if self.session.is_closed() {
                return Sent::Unanswered;
            }
            self.step().await;
        }
    }

    /// True if the server calls itself by our own name: mail for a domain that we do not know would
    /// come back to us.
    pub(crate) fn is_with(&self, own: &OwnHost) -> bool {
        let name = self.session.server_name().parse();
        name.is_ok_and(|name| own.is_name(&name))
    }

    /// True if the server takes what senders ask for by way of reports (RFC 3461 §4).
    pub(crate) fn has_dsn(&self) -> bool {
        self.session.extensions().dsn
    }

    /// True if another message may be sent.
    pub(crate) fn is_usable(&self) -> bool {
        self.session.is_idle() && !self.write_failed
    }

    /// True if the server has neither closed the idle connection nor said that it will.
    pub(crate) async fn is_alive(&mut self) -> bool {
        let Self { stream, buffer, .. } = self;
        let silent = poll_fn(|cx| Poll::Ready(stream.poll_read(cx, buffer).is_pending())).await;
        silent && self.is_usable()
    }

    /// Says QUIT, if it can be said, and closes.
    pub(crate) async fn quit(mut self) {
        if !self.session.is_closed() {
            self.session.quit(Instant::now());
        }
        // Whatever does not work is of no consequence: all messages have their outcomes.
        let _ = timeout(FAREWELL, self.farewell()).await;
    }

    async fn farewell(&mut self) {
        loop {
            let nothing_to_say = self.session.poll_transmit().is_none() && self.out.is_empty();
            if self.session.is_closed() && nothing_to_say || self.write_failed {
                break;
            }
            self.step().await;
        }
        let _ = poll_fn(|cx| self.stream.poll_shutdown(cx)).await;
    }

    async fn send_content(&mut self, content: &Content) {
        let opened = timeout(self.content_timeout, content.open()).await;
        let Ok(Ok(mut reader)) = opened else {
            return self.session.abort_content();
        };
        while self.session.wants_content() {
            let Ok(Ok((data, last))) = timeout(self.content_timeout, reader.next()).await else {
                return self.session.abort_content();
            };
            self.session.handle_content(Instant::now(), &data, last);
            // What is left of the last piece goes along with waiting for the answer.
            while !last && self.session.wants_content() && self.has_output() {
                self.step().await;
            }
        }
    }

    fn has_output(&self) -> bool {
        self.session.poll_transmit().is_some() || !self.out.is_empty()
    }

    /// Sends and reads until something has happened.
    async fn step(&mut self) {
        if let Some(mut more) = self.session.take_transmit() {
            if self.write_failed {
                more.clear();
            }
            if self.out.is_empty() {
                self.out = more;
            } else {
                self.out.append(&mut more);
            }
        }
        let deadline = self.session.poll_timeout();
        let io = poll_fn(|cx| self.poll_io(cx));
        let result = match deadline {
            Some(deadline) => timeout_at(deadline.into(), io).await.ok(),
            None => Some(io.await),
        };
        let now = Instant::now();
        match result {
            None => self.session.handle_timeout(now),
            Some(Io::Written) => {}
            Some(Io::Read(Ok(0) | Err(_))) => self.session.handle_eof(),
            Some(Io::Read(Ok(count))) => {
                let input = self.buffer.get(..count).unwrap_or_default();
                self.session.handle_input(now, input);
            }
        }
    }

    fn poll_io(&mut self, cx: &mut Context<'_>) -> Poll<Io> {
        if !self.out.is_empty() || self.unflushed {
            match self.poll_send(cx) {
                Poll::Ready(result) => {
                    // A connection that waits is not to keep the last message's memory.
                    self.out = Vec::new();
                    self.written = 0;
                    self.unflushed = false;
                    self.write_failed |= result.is_err();
                    return Poll::Ready(Io::Written);
                }
                Poll::Pending => {}
            }
        }
        self.stream.poll_read(cx, &mut self.buffer).map(Io::Read)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.out.get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.stream.poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => self.written += count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        self.unflushed = true;
        self.stream.poll_flush(cx)
    }
}
