//! One client's conversation: events of the protocol machine become answers.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use daemon_kit::NetStream;
use imap_proto::encode::{push_continuation, push_status};
use imap_proto::{Code, Command, Condition, Event, Limits, Session, State, Tag};
use mail_rpc::auth::{AuthError, AuthenticateStart, Exchange, FailureReason, Login, Step};
use tracing::{info, warn};

use crate::Shared;
use crate::answer::No;
use crate::capability::{Offer, capabilities};
use crate::cmd::Appending;
use crate::mailboxes::Health;
use crate::view::{Show, View};

/// What the connection has to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Close(&'static str),
    Read,
    StartTls,
}

/// The conversation.
pub(crate) struct Conversation {
    pub(crate) shared: Arc<Shared>,
    pub(crate) session: Session,
    pub(crate) out: Vec<u8>,
    pub(crate) login: Option<Login>,
    pub(crate) view: Option<View>,
    pub(crate) appending: Option<Appending>,
    /// The client wants MODSEQs (RFC 7162 §3.1).
    pub(crate) condstore: bool,
    offer: Offer,
    encrypted: bool,
    sid: String,
    peer: IpAddr,
    waiting: Waiting,
    ended: Option<&'static str>,
}

/// A command that goes on with the client's next line.
enum Waiting {
    Nothing,
    Idle(Tag),
    Auth(Tag, Box<Exchange>),
    /// The client has to acknowledge what the mechanism said at its end.
    LastAuth(Tag, Box<Login>),
}

impl Conversation {
    pub(crate) async fn begin(
        shared: Arc<Shared>,
        encrypted: bool,
        sid: String,
        peer: IpAddr,
    ) -> Self {
        let config = shared.context.config();
        let imapd = &config.imapd;
        let limits = Limits {
            command: usize::try_from(imapd.max_command_size.bytes()).unwrap_or(usize::MAX),
            message: imapd.max_message_size.bytes(),
            bad_commands: imapd.max_errors,
            login_timeout: *imapd.login_timeout,
            idle_timeout: *imapd.idle_timeout,
            ..Limits::default()
        };
        let mut conversation = Self {
            shared,
            session: Session::new(limits),
            out: Vec::new(),
            login: None,
            view: None,
            appending: None,
            condstore: false,
            offer: Offer::default(),
            encrypted,
            sid,
            peer,
            waiting: Waiting::Nothing,
            ended: None,
        };
        conversation.make_offer().await;
        let offered = capabilities(&conversation.offer, State::NotAuthenticated);
        let code = Some(Code::Capability(&offered));
        let out = &mut conversation.out;
        push_status(
            out,
            None,
            Condition::Ok,
            code.as_ref(),
            "Correo IMAP server ready",
        );
        conversation
    }

    async fn make_offer(&mut self) {
        let loopback = self.peer.is_loopback();
        let asked = self
            .shared
            .authenticator
            .mechanisms(self.encrypted, loopback)
            .await;
        // Without directoryd nothing is offered, and a login says that it does not work just now.
        let mechanisms = asked.unwrap_or_else(|error| {
            warn!(sid = self.sid, %error, "cannot ask which mechanisms there are");
            Vec::new()
        });
        self.offer = Offer {
            starttls: !self.encrypted && self.shared.context.tls().is_some(),
            plain_allowed: self.encrypted || loopback,
            mechanisms,
        };
    }

    pub(crate) async fn tls_is_on(&mut self) {
        self.encrypted = true;
        self.session.handle_tls();
        self.make_offer().await;
    }

    /// Ends with BYE.
    pub(crate) fn end(&mut self, why: &'static str) {
        push_status(&mut self.out, None, Condition::Bye, None, why);
        self.hung_up();
        self.ended = Some(why);
    }

    pub(crate) fn hung_up(&mut self) {
        self.session.set_state(State::Logout);
        self.ended = Some("end of input");
    }

    /// Ready when the selected mailbox has changed while the client idles; else never.
    pub(crate) async fn mailbox_changed(&mut self) {
        match (&self.waiting, &mut self.view) {
            (Waiting::Idle(_), Some(view)) => {
                view.changed().await;
            }
            _ => std::future::pending().await,
        }
    }

    /// Does what the input asks for, until more input is needed.
    pub(crate) async fn work(&mut self, stream: &mut NetStream) -> io::Result<Next> {
        if let Waiting::Idle(_) = self.waiting {
            self.update(true).await;
        }
        loop {
            if let Some(reason) = self.ended {
                return Ok(Next::Close(reason));
            }
            let Some(event) = self.session.poll_event(&mut self.out) else {
                return Ok(Next::Read);
            };
            match event {
                Event::Command(tag, Command::StartTls) => {
                    if self.start_tls(&tag) {
                        return Ok(Next::StartTls);
                    }
                }
                Event::Command(tag, command) => self.command(tag, command, stream).await?,
                Event::AppendBegin(tag, append) => self.append_begin(tag, append),
                Event::AppendNext(next) => self.append_next(next).await,
                Event::AppendData(data) => self.append_data(data).await,
                Event::AppendEnd => self.append_end().await,
                Event::AppendFailed => self.appending = None,
                Event::AuthResponse(response) => self.auth_response(response.expose()).await,
                Event::AuthCancelled => self.auth_cancelled(),
                Event::IdleDone => self.idle_done().await,
                Event::IdleFailed => self.idle_failed(),
                Event::Close(_) => self.ended = Some("the client did not keep to the rules"),
            }
            // A client that asks for much gets it as it comes.
            crate::connection::flush(&mut self.out, stream).await?;
        }
    }

    /// Tells what has changed in the mailbox. `expunge`: sequence numbers may change now.
    pub(crate) async fn update(&mut self, expunge: bool) {
        let show = Show {
            expunge,
            uid: self.condstore,
            modseq: self.condstore,
        };
        let Some(view) = &mut self.view else { return };
        view.settled().await;
        match view.health() {
            Health::Good | Health::Lost => view.update(&mut self.out, show),
            Health::Gone => self.end("the mailbox was deleted"),
            Health::Broken => self.end("the mailbox cannot be read any more"),
        }
    }

    pub(crate) fn ok(&mut self, tag: &Tag, code: Option<&Code<'_>>, text: &str) {
        push_status(&mut self.out, Some(tag.as_str()), Condition::Ok, code, text);
    }

    pub(crate) fn bad(&mut self, tag: &Tag, text: &str) {
        push_status(
            &mut self.out,
            Some(tag.as_str()),
            Condition::Bad,
            None,
            text,
        );
    }

    /// Ends a command that answered no code of its own.
    pub(crate) fn finish(&mut self, tag: &Tag, result: Result<(), No>, text: &str) {
        match result {
            Ok(()) => self.ok(tag, None, text),
            Err(no) => no.push(&mut self.out, tag),
        }
    }

    pub(crate) fn account(&self) -> u64 {
        self.login
            .as_ref()
            .map_or(0, |login| login.account_id().get())
    }

    pub(crate) fn quota(&self) -> u64 {
        self.login
            .as_ref()
            .map_or(0, |login| login.account.quota_bytes)
    }

    pub(crate) fn capability(&mut self) {
        let text = capabilities(&self.offer, self.session.state());
        imap_proto::encode::push_untagged(&mut self.out, &format!("CAPABILITY {text}"));
    }

    fn start_tls(&mut self, tag: &Tag) -> bool {
        if !self.offer.starttls {
            self.bad(tag, "TLS is not available, or on already");
            return false;
        }
        self.ok(tag, None, "begin TLS");
        true
    }

    pub(crate) async fn idle(&mut self, tag: Tag) {
        push_continuation(&mut self.out, "idling");
        self.session.expect_done();
        self.waiting = Waiting::Idle(tag);
        // From here on only news wake it.
        self.update(true).await;
    }

    async fn idle_done(&mut self) {
        if let Waiting::Idle(tag) = std::mem::replace(&mut self.waiting, Waiting::Nothing) {
            self.update(true).await;
            self.ok(&tag, None, "IDLE done");
        }
    }

    /// RFC 2177 §3: nothing but DONE ends IDLE well.
    fn idle_failed(&mut self) {
        if let Waiting::Idle(tag) = std::mem::replace(&mut self.waiting, Waiting::Nothing) {
            self.bad(&tag, "expected DONE");
        }
    }

    /// LOGIN is PLAIN in other words.
    pub(crate) async fn log_in(&mut self, tag: Tag, user: &[u8], password: &[u8]) {
        if !self.offer.plain_allowed {
            let no = No::new(Some(Code::PrivacyRequired), "start TLS first");
            return no.push(&mut self.out, &tag);
        }
        let message = [b"\0", user, b"\0", password].concat();
        self.authenticate(tag, "PLAIN".to_owned(), Some(message))
            .await;
    }

    pub(crate) async fn authenticate(
        &mut self,
        tag: Tag,
        mechanism: String,
        initial: Option<Vec<u8>>,
    ) {
        let start = AuthenticateStart {
            mechanism,
            initial_response: initial.map(Into::into),
            service: "imap".to_owned(),
            peer: self.peer.to_string(),
            encrypted: self.encrypted,
            session_id: self.sid.clone(),
        };
        let step = self.shared.authenticator.start(start).await;
        self.auth_step(tag, step);
    }

    async fn auth_response(&mut self, response: &[u8]) {
        match std::mem::replace(&mut self.waiting, Waiting::Nothing) {
            Waiting::Auth(tag, exchange) => {
                let step = exchange.respond(response.to_vec().into()).await;
                self.auth_step(tag, step);
            }
            Waiting::LastAuth(tag, login) if response.is_empty() => self.logged_in(&tag, *login),
            Waiting::LastAuth(tag, _) => self.bad(&tag, "nothing more was expected"),
            other => self.waiting = other,
        }
    }

    fn auth_cancelled(&mut self) {
        match std::mem::replace(&mut self.waiting, Waiting::Nothing) {
            Waiting::Auth(tag, _) | Waiting::LastAuth(tag, _) => {
                self.bad(&tag, "authentication cancelled");
            }
            other => self.waiting = other,
        }
    }

    fn auth_step(&mut self, tag: Tag, step: Result<Step, AuthError>) {
        let (sid, peer) = (&self.sid, self.peer);
        match step {
            Ok(Step::Challenge(exchange, challenge)) => {
                push_continuation(&mut self.out, &STANDARD.encode(challenge));
                self.session.expect_auth();
                self.waiting = Waiting::Auth(tag, Box::new(exchange));
            }
            Ok(Step::Success(login)) => match &login.additional_data {
                Some(data) => {
                    push_continuation(&mut self.out, &STANDARD.encode(data));
                    self.session.expect_auth();
                    self.waiting = Waiting::LastAuth(tag, Box::new(login));
                }
                None => self.logged_in(&tag, login),
            },
            Ok(Step::Failure(reason, detail)) => {
                info!(sid, %peer, ?reason, detail, "login.failed");
                auth_failure(reason).push(&mut self.out, &tag);
            }
            Err(error) => {
                warn!(sid, %error, "login.failed");
                auth_failure(FailureReason::Temporary).push(&mut self.out, &tag);
            }
        }
    }

    fn logged_in(&mut self, tag: &Tag, login: Login) {
        info!(sid = self.sid, peer = %self.peer, account = %login.account.address, "login.ok");
        self.login = Some(login);
        self.session.set_state(State::Authenticated);
        let offered = capabilities(&self.offer, State::Authenticated);
        self.ok(tag, Some(&Code::Capability(&offered)), "logged in");
    }
}

fn auth_failure(reason: FailureReason) -> No {
    let (code, text) = match reason {
        FailureReason::BadCredentials => {
            (Some(Code::AuthenticationFailed), "wrong name or password")
        }
        FailureReason::EncryptionRequired => (Some(Code::PrivacyRequired), "start TLS first"),
        FailureReason::UnknownMechanism => (Some(Code::Cannot), "unknown mechanism"),
        FailureReason::BadExchange => (Some(Code::ClientBug), "the response does not parse"),
        FailureReason::Cancelled => (None, "authentication cancelled"),
        FailureReason::TooManyFailures => (
            Some(Code::Unavailable),
            "too many failed logins, try again later",
        ),
        FailureReason::Temporary | FailureReason::Unspecified => {
            (Some(Code::Unavailable), "logins do not work at the moment")
        }
    };
    No::new(code, text)
}
