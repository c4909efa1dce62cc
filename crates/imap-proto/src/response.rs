use std::borrow::Cow;
use std::fmt;

use mail_types::{MailboxId, ModSeq, Uid, UidSet, UidValidity};

/// How a command ended (RFC 3501 §7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// A wrong command.
    Bad,
    /// The connection ends.
    Bye,
    /// Not done.
    No,
    /// Done.
    Ok,
}

impl Condition {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bad => "BAD",
            Self::Bye => "BYE",
            Self::No => "NO",
            Self::Ok => "OK",
        }
    }
}

/// Response codes (RFC 3501 §7.1, RFC 4315 §3, RFC 5530 §3, RFC 7162 §3.1, RFC 8474 §4).
/// `Display` prints them without brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Code<'a> {
    /// `ALREADYEXISTS`
    AlreadyExists,
    /// `APPENDUID`
    AppendUid(UidValidity, UidSet),
    /// `AUTHENTICATIONFAILED`
    AuthenticationFailed,
    /// `BADCHARSET` with what is known
    BadCharset(&'a [&'a str]),
    /// `CANNOT`
    Cannot,
    /// `CAPABILITY`
    Capability(&'a str),
    /// `CLIENTBUG`
    ClientBug,
    /// `CLOSED` (RFC 7162 §3.2.11)
    Closed,
    /// `COPYUID`
    CopyUid(UidValidity, &'a UidSet, &'a UidSet),
    /// `EXPUNGEISSUED`
    ExpungeIssued,
    /// `HASCHILDREN` (RFC 9051 §7.1)
    HasChildren,
    /// `HIGHESTMODSEQ`
    HighestModSeq(ModSeq),
    /// `LIMIT`
    Limit,
    /// `MAILBOXID`
    MailboxId(MailboxId),
    /// `MODIFIED`, with sequence numbers or UIDs
    Modified(&'a str),
    /// `NOMODSEQ`
    NoModSeq,
    /// `NONEXISTENT`
    NonExistent,
    /// `OVERQUOTA`
    OverQuota,
    /// `PERMANENTFLAGS` with the flags in parentheses
    PermanentFlags(&'a str),
    /// `PRIVACYREQUIRED`
    PrivacyRequired,
    /// `READ-ONLY`
    ReadOnly,
    /// `READ-WRITE`
    ReadWrite,
    /// `SERVERBUG`
    ServerBug,
    /// `TOOBIG` (RFC 4469 §4.2)
    TooBig,
    /// `TRYCREATE`
    TryCreate,
    /// `UIDNEXT`
    UidNext(Uid),
    /// `UIDVALIDITY`
    UidValidity(UidValidity),
    /// `UNAVAILABLE`
    Unavailable,
    /// `UNSEEN` with a sequence number
    Unseen(u32),
    /// `USEATTR` (RFC 6154 §3)
    UseAttr,
}

impl Code<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::AlreadyExists => "ALREADYEXISTS",
            Self::AppendUid(..) => "APPENDUID",
            Self::AuthenticationFailed => "AUTHENTICATIONFAILED",
            Self::BadCharset(_) => "BADCHARSET",
            Self::Cannot => "CANNOT",
            Self::Capability(_) => "CAPABILITY",
            Self::ClientBug => "CLIENTBUG",
            Self::Closed => "CLOSED",
            Self::CopyUid(..) => "COPYUID",
            Self::ExpungeIssued => "EXPUNGEISSUED",
            Self::HasChildren => "HASCHILDREN",
            Self::HighestModSeq(_) => "HIGHESTMODSEQ",
            Self::Limit => "LIMIT",
            Self::MailboxId(_) => "MAILBOXID",
            Self::Modified(_) => "MODIFIED",
            Self::NoModSeq => "NOMODSEQ",
            Self::NonExistent => "NONEXISTENT",
            Self::OverQuota => "OVERQUOTA",
            Self::PermanentFlags(_) => "PERMANENTFLAGS",
            Self::PrivacyRequired => "PRIVACYREQUIRED",
            Self::ReadOnly => "READ-ONLY",
            Self::ReadWrite => "READ-WRITE",
            Self::ServerBug => "SERVERBUG",
            Self::TooBig => "TOOBIG",
            Self::TryCreate => "TRYCREATE",
            Self::UidNext(_) => "UIDNEXT",
            Self::UidValidity(_) => "UIDVALIDITY",
            Self::Unavailable => "UNAVAILABLE",
            Self::Unseen(_) => "UNSEEN",
            Self::UseAttr => "USEATTR",
        }
    }

    fn argument(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::AppendUid(validity, uids) => Cow::from(format!("{validity} {uids}")),
            Self::BadCharset(known) => Cow::from(format!("({})", known.join(" "))),
            Self::Capability(text) | Self::Modified(text) | Self::PermanentFlags(text) => {
                Cow::from(*text)
            }
            Self::CopyUid(validity, from, to) => Cow::from(format!("{validity} {from} {to}")),
            Self::HighestModSeq(modseq) => Cow::from(modseq.to_string()),
            Self::MailboxId(id) => Cow::from(format!("(F{id})")),
            Self::UidNext(uid) => Cow::from(uid.to_string()),
            Self::UidValidity(validity) => Cow::from(validity.to_string()),
            Self::Unseen(number) => Cow::from(number.to_string()),
            _ => return None,
        })
    }
}

impl fmt::Display for Code<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self.argument() {
            Some(argument) => write!(f, " {argument}"),
            None => Ok(()),
        }
    }
}
