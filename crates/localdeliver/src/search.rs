//! SEARCH (RFC 3501 §6.4.4): the key tree, compiled once and matched against each message.

use std::borrow::Cow;

use mail_message::search::{Needle, body_contains, header_contains, text_contains};
use mail_rpc::convert::ConvertError;
use mail_rpc::pb::mailbox::v1 as pb;
use mail_types::{EmailId, Flags, MailboxId, UidSet};
use mailbox_store::{Account, Message, Rendered, StoreError};
use pb::search_key::Key as Pb;

/// Keys below keys. Clients send a handful; the parser of imapd has a bound of its own.
const MAX_DEPTH: usize = 100;
const DAY: i64 = 24 * 3600;
/// So many messages to read are worth a second thread.
const SIDE_BY_SIDE: usize = 128;

/// A compiled key.
#[derive(Debug)]
pub(crate) enum Key {
    All,
    And(Vec<Key>),
    Before(i32),
    Body(Needle),
    EmailId(EmailId),
    Flags(Flags),
    Header(String, Needle),
    Larger(u64),
    ModSeq(u64),
    Never,
    Not(Box<Key>),
    Older(i64),
    On(i32),
    Or(Vec<Key>),
    SentBefore(i32),
    SentOn(i32),
    SentSince(i32),
    Since(i32),
    Smaller(u64),
    Text(Needle),
    Thread(u64),
    Uids(UidSet),
    Younger(i64),
}

impl Key {
    /// Compiles a key; `keywords` is the mailbox's table.
    pub(crate) fn compile(
        key: &pb::SearchKey,
        keywords: &[String],
        depth: usize,
    ) -> Result<Self, ConvertError> {
        let wrong = || ConvertError::new("search key");
        if depth > MAX_DEPTH {
            return Err(wrong());
        }
        let list = |keys: &pb::SearchKeys| {
            let keys = keys
                .keys
                .iter()
                .map(|key| Self::compile(key, keywords, depth + 1));
            keys.collect::<Result<Vec<_>, _>>()
        };
        Ok(match key.key.as_ref().ok_or_else(wrong)? {
            Pb::And(keys) => Self::And(list(keys)?),
            Pb::Or(keys) => Self::Or(list(keys)?),
            Pb::Not(key) => Self::Not(Box::new(Self::compile(key, keywords, depth + 1)?)),
            Pb::Uids(uids) => Self::Uids(UidSet::try_from(uids)?),
            Pb::Flags(bits) => Self::Flags(Flags::from(*bits)),
            Pb::Keyword(name) => keyword(name, keywords),
            Pb::Header(header) => Self::Header(header.field.clone(), Needle::new(&header.text)),
            Pb::Body(text) => Self::Body(Needle::new(text)),
            Pb::Text(text) => Self::Text(Needle::new(text)),
            Pb::Before(day) => Self::Before(*day),
            Pb::On(day) => Self::On(*day),
            Pb::Since(day) => Self::Since(*day),
            Pb::SentBefore(day) => Self::SentBefore(*day),
            Pb::SentOn(day) => Self::SentOn(*day),
            Pb::SentSince(day) => Self::SentSince(*day),
            Pb::Larger(size) => Self::Larger(*size),
            Pb::Smaller(size) => Self::Smaller(*size),
            Pb::Modseq(modseq) => Self::ModSeq(*modseq),
            Pb::EmailId(id) => {
                let id: [u8; 16] = id.as_ref().try_into().map_err(|_| wrong())?;
                Self::EmailId(id.into())
            }
            Pb::ThreadId(thread) => Self::Thread(*thread),
            Pb::Older(seconds) => Self::Older((*seconds).into()),
            Pb::Younger(seconds) => Self::Younger((*seconds).into()),
            Pb::All(_) => Self::All,
        })
    }

    /// True if the key looks at header fields, most of which the summary has.
    pub(crate) fn wants_summary(&self) -> bool {
        match self {
            Self::And(keys) | Self::Or(keys) => keys.iter().any(Self::wants_summary),
            Self::Not(key) => key.wants_summary(),
            Self::Header(..) => true,
            _ => false,
        }
    }

    /// Puts cheap keys of an AND first, so that bodies are read last.
    pub(crate) fn sort(&mut self) {
        match self {
            Self::And(keys) | Self::Or(keys) => {
                for key in keys.iter_mut() {
                    key.sort();
                }
                keys.sort_by_key(Self::cost);
            }
            Self::Not(key) => key.sort(),
            _ => {}
        }
    }

    fn cost(&self) -> u8 {
        match self {
            Self::And(keys) | Self::Or(keys) => keys.iter().map(Self::cost).max().unwrap_or(0),
            Self::Not(key) => key.cost(),
            Self::Header(..) => 1,
            Self::Body(_) | Self::Text(_) => 2,
            _ => 0,
        }
    }

    /// Does the message match, as far as that can be told without its content? `None` is that it
    /// has to be read. `now` is Unix time in seconds.
    pub(crate) fn matches_unread(
        &self,
        candidate: &mut Candidate<'_>,
        now: i64,
    ) -> Result<Option<bool>, StoreError> {
        Ok(match self {
            Self::And(keys) => {
                let mut all = Some(true);
                for key in keys {
                    match key.matches_unread(candidate, now)? {
                        Some(true) => {}
                        Some(false) => return Ok(Some(false)),
                        None => all = None,
                    }
                }
                all
            }
            Self::Or(keys) => {
                let mut any = Some(false);
                for key in keys {
                    match key.matches_unread(candidate, now)? {
                        Some(true) => return Ok(Some(true)),
                        Some(false) => {}
                        None => any = None,
                    }
                }
                any
            }
            Self::Not(key) => key.matches_unread(candidate, now)?.map(|matches| !matches),
            Self::Body(needle) | Self::Text(needle) => needle.is_empty().then_some(true),
            other => Some(other.matches(candidate, now)?),
        })
    }

    /// Does the message match? `now` is Unix time in seconds.
    pub(crate) fn matches(
        &self,
        candidate: &mut Candidate<'_>,
        now: i64,
    ) -> Result<bool, StoreError> {
        let message = candidate.message;
        Ok(match self {
            Self::All => true,
            Self::Never => false,
            Self::And(keys) => {
                for key in keys {
                    if !key.matches(candidate, now)? {
                        return Ok(false);
                    }
                }
                true
            }
            Self::Or(keys) => {
                for key in keys {
                    if key.matches(candidate, now)? {
                        return Ok(true);
                    }
                }
                false
            }
            Self::Not(key) => !key.matches(candidate, now)?,
            Self::Before(day) => internal_day(message) < i64::from(*day),
            Self::On(day) => internal_day(message) == i64::from(*day),
            Self::Since(day) => internal_day(message) >= i64::from(*day),
            Self::SentBefore(day) => message.sent_day.is_some_and(|sent| sent < *day),
            Self::SentOn(day) => message.sent_day.is_some_and(|sent| sent == *day),
            Self::SentSince(day) => message.sent_day.is_some_and(|sent| sent >= *day),
            Self::EmailId(id) => message.email_id == *id,
            Self::Flags(flags) => message.flags.contains(*flags),
            Self::Larger(size) => message.size > *size,
            Self::Smaller(size) => message.size < *size,
            Self::ModSeq(modseq) => message.modseq >= *modseq,
            // RFC 5032: at least so old, and at most.
            Self::Older(seconds) => now.saturating_sub(message.internal_date) >= *seconds,
            Self::Younger(seconds) => now.saturating_sub(message.internal_date) <= *seconds,
            Self::Thread(thread) => message.thread == *thread,
            Self::Uids(uids) => uids.contains(message.uid),
            Self::Header(field, needle) => header_contains(candidate.header(field)?, field, needle),
            Self::Body(needle) => body_contains(candidate.content()?, needle),
            Self::Text(needle) => text_contains(candidate.content()?, needle),
        })
    }
}

fn keyword(name: &str, keywords: &[String]) -> Key {
    let at = keywords
        .iter()
        .position(|known| known.eq_ignore_ascii_case(name));
    at.and_then(Flags::keyword).map_or(Key::Never, Key::Flags)
}

/// The day of INTERNALDATE in its own zone, as days since 1970-01-01.
fn internal_day(message: &Message) -> i64 {
    let local = message.internal_date + i64::from(message.internal_offset) * 60;
    local.div_euclid(DAY)
}

/// A message that is looked at; its octets are read when a key wants them.
pub(crate) struct Candidate<'a> {
    account: &'a Account,
    message: &'a Message,
    common_fields: &'a [u8],
    header: Option<Vec<u8>>,
    content: Option<Cow<'a, [u8]>>,
}

impl<'a> Candidate<'a> {
    /// Common fields are empty where there are none, or too many to keep.
    pub(crate) fn new(account: &'a Account, message: &'a Message, common_fields: &'a [u8]) -> Self {
        Self {
            account,
            message,
            common_fields,
            header: None,
            content: None,
        }
    }

    /// One whose content is at hand.
    pub(crate) fn with_content(mut self, content: &'a [u8]) -> Self {
        self.content = Some(Cow::Borrowed(content));
        self
    }

    /// Octets that have all fields of that name.
    fn header(&mut self, field: &str) -> Result<&[u8], StoreError> {
        let is_common = mail_message::COMMON_FIELDS
            .iter()
            .any(|common| common.eq_ignore_ascii_case(field));
        if is_common && !self.common_fields.is_empty() {
            return Ok(self.common_fields);
        }
        let len = usize::try_from(self.message.header_len).unwrap_or(usize::MAX);
        if let Some(content) = &self.content {
            return Ok(content.get(..len).unwrap_or(content));
        }
        if self.header.is_none() {
            self.header = Some(self.account.read_content(self.message, 0, len)?);
        }
        Ok(self.header.as_deref().unwrap_or_default())
    }

    fn content(&mut self) -> Result<&[u8], StoreError> {
        if self.content.is_none() {
            let content = self.account.read_content(self.message, 0, usize::MAX)?;
            self.content = Some(Cow::Owned(content));
        }
        Ok(self.content.as_deref().unwrap_or_default())
    }
}

/// What a search found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) uids: UidSet,
    /// The highest MODSEQ of the messages found.
    pub(crate) highest: u64,
}

impl Found {
    fn add(&mut self, message: &Message) {
        self.uids.insert(message.uid);
        self.highest = self.highest.max(message.modseq);
    }
}

/// Looks through messages of a mailbox. Those that the index decides upon are never read; the
/// others are read in runs, by two threads if they are many.
pub(crate) fn run(
    account: &Account,
    mailbox: MailboxId,
    within: &UidSet,
    key: &Key,
    now: i64,
) -> Result<Found, StoreError> {
    let mut found = Found::default();
    let mut undecided: Vec<(Message, Vec<u8>)> = Vec::new();
    let mut trouble = None;
    let each = |message: Message, rendered: Rendered<'_>| {
        let mut candidate = Candidate::new(account, &message, rendered.common_fields);
        match key.matches_unread(&mut candidate, now) {
            Ok(Some(true)) => found.add(&message),
            Ok(None) => undecided.push((message, rendered.common_fields.to_vec())),
            // A damaged message matches nothing; the others are searched all the same.
            Ok(Some(false)) | Err(StoreError::Damaged { .. }) => {}
            Err(error) => {
                trouble = Some(error);
                return false;
            }
        }
        true
    };
    account.scan_messages(mailbox, within, key.wants_summary(), each)?;
    if let Some(error) = trouble {
        return Err(error);
    }
    if undecided.len() < SIDE_BY_SIDE {
        read(account, undecided, key, now, &mut found)?;
        return Ok(found);
    }
    let second = undecided.split_off(undecided.len() / 2);
    let mut also = Found::default();
    let (first, other) = std::thread::scope(|scope| {
        let other = scope.spawn(|| read(account, second, key, now, &mut also));
        let first = read(account, undecided, key, now, &mut found);
        (first, other.join())
    });
    first?;
    other.map_err(|_| StoreError::Engine("a search panicked".to_owned()))??;
    for uid in also.uids.iter() {
        found.uids.insert(uid);
    }
    found.highest = found.highest.max(also.highest);
    Ok(found)
}

/// Reads messages and adds those that match.
fn read(
    account: &Account,
    undecided: Vec<(Message, Vec<u8>)>,
    key: &Key,
    now: i64,
    found: &mut Found,
) -> Result<(), StoreError> {
    let (messages, fields): (Vec<Message>, Vec<Vec<u8>>) = undecided.into_iter().unzip();
    let mut buffer = Vec::new();
    let mut trouble = None;
    account.read_contents(&messages, &mut buffer, |at, content| {
        let (Some(message), Some(fields)) = (messages.get(at), fields.get(at)) else {
            return false;
        };
        let matches = content.and_then(|content| {
            let mut candidate = Candidate::new(account, message, fields).with_content(content);
            key.matches(&mut candidate, now)
        });
        match matches {
            Ok(true) => found.add(message),
            Ok(false) | Err(StoreError::Damaged { .. }) => {}
            Err(error) => {
                trouble = Some(error);
                return false;
            }
        }
        true
    })?;
    trouble.map_or(Ok(()), Err)
}
