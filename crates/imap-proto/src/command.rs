//! The commands of RFC 3501 §6 and of the extensions that are served.

use mail_types::{Flags, Secret};

use crate::{DateTime, FetchItem, MailboxName, SearchKey, SearchReturn, SequenceSet, State};

/// A command without its tag.
#[derive(Debug)]
pub enum Command {
    /// RFC 3501 §6.2.2, RFC 4959: the initial response is decoded already.
    Authenticate {
        /// The SASL mechanism in upper case.
        mechanism: String,
        /// Absent is not the same as empty.
        initial: Option<Secret<Vec<u8>>>,
    },
    /// RFC 3501 §6.1.1
    Capability,
    /// RFC 3501 §6.4.1
    Check,
    /// RFC 3501 §6.4.2
    Close,
    /// RFC 3501 §6.4.7
    Copy {
        /// `UID COPY`
        uid: bool,
        /// Which messages.
        set: SequenceSet,
        /// Where to.
        mailbox: MailboxName,
    },
    /// RFC 3501 §6.3.3, RFC 6154 §3
    Create {
        /// The name; a separator at its end is gone.
        mailbox: MailboxName,
        /// Attributes of `USE`, such as `\Sent`, as the client spells them.
        special_use: Vec<String>,
    },
    /// RFC 3501 §6.3.4
    Delete(MailboxName),
    /// RFC 5161 §3.1: the names in upper case.
    Enable(Vec<String>),
    /// RFC 3501 §6.4.3; with a set it is `UID EXPUNGE` (RFC 4315 §2.1).
    Expunge(Option<SequenceSet>),
    /// RFC 3501 §6.4.5
    Fetch {
        /// `UID FETCH`
        uid: bool,
        /// Which messages.
        set: SequenceSet,
        /// What of them.
        items: Vec<FetchItem>,
        /// RFC 7162 §3.1.4.1: only messages that changed later.
        changed_since: Option<u64>,
    },
    /// RFC 2971: what the client tells about itself.
    Id(Vec<(String, Option<String>)>),
    /// RFC 2177
    Idle,
    /// RFC 3501 §6.3.8, RFC 5258, RFC 5819
    List {
        /// The reference name.
        reference: String,
        /// Patterns with `*` and `%`.
        patterns: Vec<String>,
        /// Selection options.
        select: ListSelect,
        /// Return options.
        returns: ListReturn,
    },
    /// RFC 3501 §6.2.3
    Login {
        /// The name, as octets since nothing says its charset.
        user: Vec<u8>,
        /// The password.
        password: Secret<Vec<u8>>,
    },
    /// RFC 3501 §6.1.3
    Logout,
    /// RFC 3501 §6.3.9
    Lsub {
        /// The reference name.
        reference: String,
        /// The pattern with `*` and `%`.
        pattern: String,
    },
    /// RFC 6851
    Move {
        /// `UID MOVE`
        uid: bool,
        /// Which messages.
        set: SequenceSet,
        /// Where to.
        mailbox: MailboxName,
    },
    /// RFC 2342
    Namespace,
    /// RFC 3501 §6.1.2
    Noop,
    /// RFC 3501 §6.3.5
    Rename {
        /// The old name.
        from: MailboxName,
        /// The new name.
        to: MailboxName,
    },
    /// RFC 3501 §6.4.4, RFC 4731
    Search {
        /// `UID SEARCH`
        uid: bool,
        /// `RETURN (…)`; absent is the plain answer.
        returns: Option<SearchReturn>,
        /// `CHARSET`; absent is US-ASCII.
        charset: Option<String>,
        /// What is looked for.
        key: SearchKey,
    },
    /// RFC 3501 §6.3.1 and, read only, §6.3.2
    Select {
        /// The mailbox.
        mailbox: MailboxName,
        /// `EXAMINE`
        read_only: bool,
        /// RFC 7162 §3.1.8
        condstore: bool,
    },
    /// RFC 3501 §6.2.1
    StartTls,
    /// RFC 3501 §6.3.10
    Status {
        /// The mailbox.
        mailbox: MailboxName,
        /// What of it.
        items: Vec<StatusItem>,
    },
    /// RFC 3501 §6.4.6
    Store {
        /// `UID STORE`
        uid: bool,
        /// Which messages.
        set: SequenceSet,
        /// What is done with the flags.
        mode: StoreMode,
        /// No answer with the new flags.
        silent: bool,
        /// The flags.
        flags: FlagList,
        /// RFC 7162 §3.1.3
        unchanged_since: Option<u64>,
    },
    /// RFC 3501 §6.3.6
    Subscribe(MailboxName),
    /// RFC 3691
    Unselect,
    /// RFC 3501 §6.3.7
    Unsubscribe(MailboxName),
}

/// APPEND without its message (RFC 3501 §6.3.11).
#[derive(Debug, PartialEq, Eq)]
pub struct Append {
    /// Where to.
    pub mailbox: MailboxName,
    /// Flags of the new message.
    pub flags: FlagList,
    /// Its internal date; absent is now.
    pub date: Option<DateTime>,
    /// Its length in octets.
    pub size: u64,
}

/// A further message of the same APPEND, without its octets (RFC 3502).
#[derive(Debug, PartialEq, Eq)]
pub struct AppendNext {
    /// Its flags.
    pub flags: FlagList,
    /// Its internal date; absent is now.
    pub date: Option<DateTime>,
    /// Its length in octets.
    pub size: u64,
}

/// Flags by name, without `\Recent`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FlagList {
    /// The system flags.
    pub system: Flags,
    /// The keywords, each once, as the client spells them.
    pub keywords: Vec<String>,
}

/// What STORE does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreMode {
    /// `+FLAGS`
    Add,
    /// `-FLAGS`
    Remove,
    /// `FLAGS`
    Replace,
}

/// Selection options of LIST (RFC 5258 §3.1, RFC 6154 §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "options that a client combines freely"
)]
pub struct ListSelect {
    /// The command has the extended form.
    pub extended: bool,
    /// `RECURSIVEMATCH`
    pub recursive_match: bool,
    /// `SPECIAL-USE`
    pub special_use: bool,
    /// `SUBSCRIBED`
    pub subscribed: bool,
}

/// Return options of LIST (RFC 5258 §3.2, RFC 5819, RFC 6154 §2).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListReturn {
    /// `CHILDREN`
    pub children: bool,
    /// `SPECIAL-USE`
    pub special_use: bool,
    /// `STATUS (…)`
    pub status: Vec<StatusItem>,
    /// `SUBSCRIBED`
    pub subscribed: bool,
}

/// RFC 3501 §6.3.10, and RFC 7162 §3.1.7, RFC 8438, RFC 8474 §4.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusItem {
    /// `DELETED` (RFC 9051 §6.3.11)
    Deleted,
    /// `HIGHESTMODSEQ`
    HighestModSeq,
    /// `MAILBOXID`
    MailboxId,
    /// `MESSAGES`
    Messages,
    /// `RECENT`
    Recent,
    /// `SIZE`
    Size,
    /// `UIDNEXT`
    UidNext,
    /// `UIDVALIDITY`
    UidValidity,
    /// `UNSEEN`
    Unseen,
}

impl StatusItem {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Deleted,
        Self::HighestModSeq,
        Self::MailboxId,
        Self::Messages,
        Self::Recent,
        Self::Size,
        Self::UidNext,
        Self::UidValidity,
        Self::Unseen,
    ];

    /// The item's name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deleted => "DELETED",
            Self::HighestModSeq => "HIGHESTMODSEQ",
            Self::MailboxId => "MAILBOXID",
            Self::Messages => "MESSAGES",
            Self::Recent => "RECENT",
            Self::Size => "SIZE",
            Self::UidNext => "UIDNEXT",
            Self::UidValidity => "UIDVALIDITY",
            Self::Unseen => "UNSEEN",
        }
    }
}

impl Command {
    /// The command's name, for the log and for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Authenticate { .. } => "AUTHENTICATE",
            Self::Capability => "CAPABILITY",
            Self::Check => "CHECK",
            Self::Close => "CLOSE",
            Self::Copy { .. } => "COPY",
            Self::Create { .. } => "CREATE",
            Self::Delete(_) => "DELETE",
            Self::Enable(_) => "ENABLE",
            Self::Expunge(_) => "EXPUNGE",
            Self::Fetch { .. } => "FETCH",
            Self::Id(_) => "ID",
            Self::Idle => "IDLE",
            Self::List { .. } => "LIST",
            Self::Login { .. } => "LOGIN",
            Self::Logout => "LOGOUT",
            Self::Lsub { .. } => "LSUB",
            Self::Move { .. } => "MOVE",
            Self::Namespace => "NAMESPACE",
            Self::Noop => "NOOP",
            Self::Rename { .. } => "RENAME",
            Self::Search { .. } => "SEARCH",
            Self::Select { read_only, .. } => {
                if *read_only {
                    "EXAMINE"
                } else {
                    "SELECT"
                }
            }
            Self::StartTls => "STARTTLS",
            Self::Status { .. } => "STATUS",
            Self::Store { .. } => "STORE",
            Self::Subscribe(_) => "SUBSCRIBE",
            Self::Unselect => "UNSELECT",
            Self::Unsubscribe(_) => "UNSUBSCRIBE",
        }
    }

    /// Whether the command is possible in that state (RFC 3501 §3 and §6).
    ///
    /// | commands | not authenticated | authenticated | selected |
    /// |---|---|---|---|
    /// | CAPABILITY ID LOGOUT NOOP | yes | yes | yes |
    /// | AUTHENTICATE LOGIN STARTTLS | yes | no | no |
    /// | mailboxes, APPEND, ENABLE, IDLE, NAMESPACE | no | yes | yes |
    /// | messages, CHECK, CLOSE, UNSELECT | no | no | yes |
    pub fn is_possible(&self, state: State) -> bool {
        match self {
            Self::Capability | Self::Id(_) | Self::Logout | Self::Noop => true,
            Self::Authenticate { .. } | Self::Login { .. } | Self::StartTls => {
                state == State::NotAuthenticated
            }
            Self::Check
            | Self::Close
            | Self::Copy { .. }
            | Self::Expunge(_)
            | Self::Fetch { .. }
            | Self::Move { .. }
            | Self::Search { .. }
            | Self::Store { .. }
            | Self::Unselect => state == State::Selected,
            _ => state != State::NotAuthenticated,
        }
    }
}
