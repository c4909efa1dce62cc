use std::fmt;

use mail_types::{AccountId, Domain, EmailAddress, Outcome, QueueId, ReversePath};

/// A message's record: all that the queue knows of it but its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its id.
    pub id: QueueId,
    /// What came with it; never changed.
    pub envelope: Envelope,
    /// Octets of content.
    pub size: u64,
    /// Unix time in milliseconds of its acceptance.
    pub accepted_at: u64,
    /// Held by an operator.
    pub held: bool,
    /// The recipients. A recipient keeps its place for ever: with the queue id it is the
    /// idempotency key of a delivery. Expansion only adds behind the last one.
    pub recipients: Vec<Recipient>,
}

/// What came with the message by SMTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Where reports go.
    pub reverse_path: ReversePath,
    /// How it came in.
    pub origin: Origin,
    /// The client asked for SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// BODY (RFC 6152, RFC 3030).
    pub body: BodyType,
    /// ENVID (RFC 3461 §4.4), decoded.
    pub envelope_id: Option<String>,
    /// RET (RFC 3461 §4.3).
    pub dsn_return: DsnReturn,
    /// The session's id in the front end's log.
    pub session_id: String,
}

/// How a message came in, for the log, for policy and for fairness.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The client's IP address; empty for mail of our own.
    pub peer: String,
    /// The account that authenticated.
    pub account: Option<AccountId>,
    /// What the client called itself.
    pub helo: String,
}

/// BODY (RFC 6152 §3, RFC 3030 §3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyType {
    /// BINARYMIME.
    BinaryMime,
    /// 8BITMIME.
    EightBitMime,
    /// 7BIT.
    SevenBit,
    /// Not given.
    #[default]
    Unspecified,
}

/// RET (RFC 3461 §4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DsnReturn {
    /// The whole message goes with a failure report.
    Full,
    /// Only its header.
    Headers,
    /// Not given.
    #[default]
    Unspecified,
}

/// NOTIFY (RFC 3461 §4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Notify {
    /// Not given: failures are told, and delays.
    #[default]
    Default,
    /// No report whatever happens.
    Never,
    /// On these events.
    On {
        /// Delivered or relayed.
        success: bool,
        /// Given up.
        failure: bool,
        /// Not yet delivered.
        delay: bool,
    },
}

impl Notify {
    /// A failure is to be told.
    pub fn failure(self) -> bool {
        matches!(self, Self::Default | Self::On { failure: true, .. })
    }

    /// A delay is to be told.
    pub fn delay(self) -> bool {
        matches!(self, Self::Default | Self::On { delay: true, .. })
    }

    /// A success is to be told.
    pub fn success(self) -> bool {
        matches!(self, Self::On { success: true, .. })
    }

    /// What tells at least what one of the two tells: for recipients that turn out to be one.
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Never, only) | (only, Self::Never) => only,
            (Self::Default, Self::Default) => Self::Default,
            (one, two) => Self::On {
                success: one.success() || two.success(),
                failure: one.failure() || two.failure(),
                delay: one.delay() || two.delay(),
            },
        }
    }
}

/// One recipient and how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The address, after expansion.
    pub address: EmailAddress,
    /// ORCPT (RFC 3461 §4.2) as sent: addr-type `;` xtext.
    pub original: Option<String>,
    /// NOTIFY.
    pub notify: Notify,
    /// The place of the recipient that was an alias for this one.
    pub parent: Option<u32>,
    /// How far it is.
    pub progress: Progress,
    /// Attempts that were made.
    pub attempts: u32,
    /// Unix time in milliseconds before which no attempt is made; 0 is at once.
    pub next_attempt_at: u64,
    /// The last attempt's outcome.
    pub last: Option<Outcome>,
    /// The sender was told of the end, or need not be.
    pub told: bool,
    /// The sender was told of the delay.
    pub delay_told: bool,
}

impl Recipient {
    /// A recipient as it comes in.
    pub fn new(address: EmailAddress, original: Option<String>, notify: Notify) -> Self {
        Self {
            address,
            original,
            notify,
            parent: None,
            progress: Progress::Unrouted,
            attempts: 0,
            next_attempt_at: 0,
            last: None,
            told: false,
            delay_told: false,
        }
    }

    /// Nothing more is to be done for it but, maybe, to tell the sender.
    pub fn is_finished(&self) -> bool {
        matches!(self.progress, Progress::Finished)
    }

    /// Its end, with this outcome.
    pub fn finish(&mut self, outcome: Outcome) {
        self.progress = Progress::Finished;
        self.next_attempt_at = 0;
        self.last = Some(outcome);
    }
}

/// How far a recipient is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Delivered, relayed, expanded or given up: `last` says which.
    Finished,
    /// The directory has not said yet what the address is.
    Unrouted,
    /// Waits for an attempt on this way.
    Waiting(Route),
}

/// Where a recipient goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// To the mail exchangers of the domain.
    Domain(Domain),
    /// Into a mailbox of ours.
    Local {
        /// Whose.
        account: AccountId,
        /// Bytes; 0 is no limit.
        quota_bytes: u64,
    },
    /// To this host, whatever the domain.
    SmartHost(SmartHost),
}

/// A host that takes mail for other domains.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SmartHost {
    /// A name, or an address in brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whom to log in as; empty for nobody.
    pub username: String,
    /// Under which key remotedeliver finds the password.
    pub credentials: String,
    /// Connect with TLS at once instead of STARTTLS.
    pub implicit_tls: bool,
}

impl fmt::Display for SmartHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}
