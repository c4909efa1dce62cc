//! A session's questions, answered: what the protocol asks meets what the other daemons know.

mod login;

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::{Buf, BytesMut};
use mail_message::MailDate;
use mail_message::trace::{Protocol, Received};
use mail_rpc::CHUNK_SIZE;
use mail_rpc::auth::{Exchange, Login};
use mail_rpc::pb::queue::v1::Origin;
use mail_types::QueueId;
use smtp_proto::Refusal;
use smtp_proto::server::{CloseReason, Event, Offer, Session};
use tracing::{debug, info};

use crate::client::Client;
use crate::envelope::Envelope;
use crate::live::Live;
use crate::message::{Message, Rules, Supply};
use crate::policy;
use crate::shared::Shared;

/// One session without its connection.
#[derive(Debug)]
pub(crate) struct Conversation {
    shared: Arc<Shared>,
    live: Arc<Live>,
    pub(crate) client: Client,
    pub(crate) session: Session,
    login: LoginState,
    envelope: Option<Box<Envelope>>,
    message: Option<Box<Message>>,
    /// Messages that were accepted.
    pub(crate) accepted: u64,
}

/// How far the client is with logging in.
#[derive(Debug, Default)]
enum LoginState {
    #[default]
    None,
    /// directoryd waits for the client.
    Exchange(Box<Exchange>),
    /// directoryd said yes; the client is still to be told.
    Pending(Box<Login>),
    Done(Box<Login>),
}

/// What the connection has to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Send what there is, and read on.
    Read,
    /// Send what there is, and do the TLS handshake.
    StartTls,
    /// Send what there is, and close.
    Close(CloseReason),
}

impl Conversation {
    pub(crate) fn new(shared: Arc<Shared>, client: Client, offer: Offer) -> Self {
        let live = shared.live.borrow().clone();
        let session = Session::new(live.settings.clone(), offer, Instant::now());
        Self {
            shared,
            live,
            client,
            session,
            login: LoginState::None,
            envelope: None,
            message: None,
            accepted: 0,
        }
    }

    /// True while nothing of a message is kept here.
    pub(crate) fn is_idle(&self) -> bool {
        self.message.is_none()
    }

    /// Takes all input that can be taken, and answers what it leads to.
    pub(crate) async fn take(&mut self, input: &mut BytesMut) -> Next {
        loop {
            // What is used is no part of it any more.
            let room = input.capacity();
            let used = self.session.handle_input(Instant::now(), input);
            input.advance(used);
            let mut any = false;
            while let Some(event) = self.session.poll_event() {
                any = true;
                if let Some(next) = self.event(event).await {
                    return next;
                }
            }
            self.forward(room).await;
            if input.is_empty() || (used == 0 && !any) {
                return Next::Read;
            }
        }
    }

    async fn event(&mut self, event: Event) -> Option<Next> {
        match event {
            Event::Sender(mail) => {
                let verdict = policy::sender(&self.live, &self.client, self.login.done(), &mail);
                if verdict.is_ok() {
                    self.envelope = Some(Box::new(Envelope::new(mail)));
                }
                self.verdict(verdict);
            }
            Event::Recipient(rcpt) => {
                let may_relay = policy::may_relay(&self.live, &self.client, self.login.done());
                let directory = &self.shared.directory;
                let verdict = policy::recipient(directory, may_relay, &rcpt).await;
                debug!(sid = self.client.sid, recipient = %rcpt.address, ?verdict, "recipient");
                if let (Ok(()), Some(envelope)) = (&verdict, &mut self.envelope) {
                    envelope.recipients.push(rcpt);
                }
                self.verdict(verdict);
            }
            Event::Begin => {
                let verdict = self.begin();
                self.verdict(verdict);
            }
            Event::Complete => {
                let stored = Box::pin(self.complete()).await;
                self.session.handle_stored(Instant::now(), stored);
            }
            Event::Discard => self.message = None,
            Event::Reset => {
                self.message = None;
                self.envelope = None;
            }
            Event::Auth(step) => Box::pin(self.auth(step)).await,
            Event::Authenticated => self.authenticated(),
            Event::StartTls => {
                self.login = LoginState::None;
                return Some(Next::StartTls);
            }
            Event::Closed(reason) => {
                self.message = None;
                return Some(Next::Close(reason));
            }
            other => debug!(?other, "an event that this program does not know"),
        }
        None
    }

    fn verdict(&mut self, verdict: Result<(), Refusal>) {
        if let Err(refusal) = &verdict {
            count_refusal(refusal);
        }
        self.session.handle_verdict(Instant::now(), verdict);
    }

    /// Prepares for content: the trace field goes in front of it.
    fn begin(&mut self) -> Result<(), Refusal> {
        self.shared.submitter.check()?;
        let envelope = self.envelope.as_ref().ok_or(Refusal::QueueUnavailable)?;
        let login = self.login.done();
        let now = unix_time();
        let at = MailDate::utc(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        let recipient = match envelope.recipients.as_slice() {
            [one] => Some(&one.address),
            _ => None,
        };
        let protocol = Protocol {
            extended: self.session.is_extended(),
            tls: self.client.is_encrypted(),
            authenticated: login.is_some(),
            utf8: envelope.mail.smtputf8,
        };
        // The session's id: the queue's own is not known yet, and one line of the log has both.
        let trace = Received {
            peer: Some(self.client.peer.ip()),
            peer_name: None,
            helo: self.session.hello().unwrap_or_default(),
            by: &self.live.hostname,
            protocol,
            cipher: self.client.cipher.as_deref(),
            id: Some(&self.client.sid),
            recipient,
            at,
        }
        .render();
        let submission = policy::is_submission(&self.live, &self.client, login, &envelope.mail);
        let supply = submission.then(|| Supply {
            now: at,
            from: envelope.mail.path.address().cloned(),
            host: self.live.hostname.clone(),
            unique: format!("{}.{}", now.as_millis(), self.unique()),
        });
        let rules = Rules {
            trace_len: trace.len(),
            max_hops: self.live.max_hops,
            supply,
        };
        let origin = Origin {
            peer: self.client.peer.ip().to_string(),
            account_id: login.map_or(0, |login| login.account_id().get()),
            helo: self.session.hello().unwrap_or_default().to_owned(),
        };
        let message = envelope.to_message(origin, &self.client.sid);
        let expected = envelope.mail.size.unwrap_or(0).min(EXPECTED);
        self.message = Some(Box::new(Message::new(self.shared.clone(), message, rules)));
        let content = self.session.content_mut();
        content.reserve(trace.len() + usize::try_from(expected).unwrap_or(0) + ROOM);
        content.extend_from_slice(trace.as_bytes());
        Ok(())
    }

    /// Unique for each message of the session, and the session's id is unique among all.
    fn unique(&self) -> String {
        format!("{}.{}", self.client.sid, self.accepted)
    }

    /// Octets that the message that comes in takes before it is sent on.
    pub(crate) fn wanted(&mut self) -> Option<usize> {
        let content = self.message.as_ref().map(|_| self.session.content_mut())?;
        Some(CHUNK_SIZE.saturating_sub(content.len()))
    }

    async fn forward(&mut self, input: usize) {
        let Some(message) = &mut self.message else {
            return;
        };
        if let Err(refusal) = message.forward(self.session.content_mut(), input).await {
            count_refusal(&refusal);
            self.message = None;
            self.session.refuse_content(refusal);
        }
    }

    async fn complete(&mut self) -> Result<QueueId, Refusal> {
        let mut message = self.message.take().ok_or(Refusal::QueueUnavailable)?;
        let stored = message.finish(self.session.content_mut()).await;
        let (id, size) = match stored {
            Ok(stored) => stored,
            Err(refusal) => {
                count_refusal(&refusal);
                info!(sid = self.client.sid, ?refusal, "msg.refused");
                return Err(refusal);
            }
        };
        self.accepted += 1;
        metrics::counter!("correo_messages_accepted_total", "service" => self.client.role.name())
            .increment(1);
        metrics::counter!("correo_message_octets_accepted_total").increment(size);
        if let Some(envelope) = &self.envelope {
            info!(
                sid = self.client.sid,
                qid = %id,
                from = %envelope.mail.path,
                recipients = envelope.recipients.len(),
                size,
                user = self.login.done().map(|l| tracing::field::display(&l.account.address)),
                "msg.accepted"
            );
        }
        Ok(id)
    }
}

/// Since 1970.
fn unix_time() -> std::time::Duration {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()
}

/// Octets to make room for besides those that the client announced.
const ROOM: usize = 1024;
/// The most octets of an announced size that are believed before they come.
const EXPECTED: u64 = 32 * 1024;

impl LoginState {
    fn done(&self) -> Option<&Login> {
        match self {
            Self::Done(login) => Some(login),
            _ => None,
        }
    }
}

fn count_refusal(refusal: &Refusal) {
    let reason = match refusal {
        Refusal::AuthRequired => "auth_required",
        Refusal::BadContent => "bad_content",
        Refusal::DirectoryUnavailable => "directory_unavailable",
        Refusal::NoSuchUser => "no_such_user",
        Refusal::Overloaded => "overloaded",
        Refusal::Queue { .. } => "queue",
        Refusal::QueueFull => "queue_full",
        Refusal::QueueUnavailable => "queue_unavailable",
        Refusal::RelayDenied => "relay_denied",
        Refusal::RoutingLoop => "routing_loop",
        Refusal::SenderNotOwned => "sender_not_owned",
        _ => "other",
    };
    metrics::counter!("correo_smtp_refusals_total", "reason" => reason).increment(1);
}
