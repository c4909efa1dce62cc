use mail_types::{EmailId, SystemFlag};

use crate::{Date, SequenceSet};

/// What SEARCH looks for (RFC 3501 §6.4.4). Texts are octets in the command's charset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SearchKey {
    /// `ALL`
    All,
    /// Several keys: all of them.
    And(Vec<SearchKey>),
    /// `BEFORE`: internal date.
    Before(Date),
    /// `BODY`
    Body(Vec<u8>),
    /// RFC 8474 §6; `None` is an id that no message has.
    EmailId(Option<EmailId>),
    /// The flag is set.
    Flag(SystemFlag),
    /// `HEADER`, and the keys for fields such as `FROM`.
    Header(Vec<u8>, Vec<u8>),
    /// `KEYWORD`
    Keyword(String),
    /// `LARGER`
    Larger(u64),
    /// RFC 7162 §3.1.5: the MODSEQ is this or a later one.
    ModSeq(u64),
    /// `NOT`, and the `UN…` keys.
    Not(Box<SearchKey>),
    /// `OLDER` (RFC 5032), in seconds.
    Older(u32),
    /// `ON`
    On(Date),
    /// `OR`
    Or(Box<SearchKey>, Box<SearchKey>),
    /// `RECENT`
    Recent,
    /// `SENTBEFORE`
    SentBefore(Date),
    /// `SENTON`
    SentOn(Date),
    /// `SENTSINCE`
    SentSince(Date),
    /// A set of sequence numbers.
    Sequence(SequenceSet),
    /// `SINCE`
    Since(Date),
    /// `SMALLER`
    Smaller(u64),
    /// `TEXT`
    Text(Vec<u8>),
    /// RFC 8474 §6; `None` is an id that no thread has.
    ThreadId(Option<u64>),
    /// `UID`
    Uid(SequenceSet),
    /// `YOUNGER` (RFC 5032), in seconds.
    Younger(u32),
}

impl SearchKey {
    /// True if the key or one inside it is `MODSEQ`: then the answer tells the highest one.
    pub fn asks_modseq(&self) -> bool {
        match self {
            Self::And(keys) => keys.iter().any(Self::asks_modseq),
            Self::ModSeq(_) => true,
            Self::Not(key) => key.asks_modseq(),
            Self::Or(a, b) => a.asks_modseq() || b.asks_modseq(),
            _ => false,
        }
    }
}

/// What the extended answer holds (RFC 4731 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four options that a client combines freely"
)]
pub struct SearchReturn {
    /// `MIN`
    pub min: bool,
    /// `MAX`
    pub max: bool,
    /// `ALL`
    pub all: bool,
    /// `COUNT`
    pub count: bool,
}
