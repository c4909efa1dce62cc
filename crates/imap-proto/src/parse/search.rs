use mail_types::{MailboxId, SystemFlag};

use super::{Cursor, ParseError};
use crate::command::Command;
use crate::{SearchKey, SearchReturn};

type Result<T> = std::result::Result<T, ParseError>;

/// Levels of parentheses, NOT and OR. Clients join many keys with a chain of ORs, one level each.
const MAX_DEPTH: usize = 200;

/// ```abnf
/// search = "SEARCH" [SP "RETURN" SP "(" [return-opt *(SP return-opt)] ")"]
///          [SP "CHARSET" SP astring] 1*(SP search-key)
/// ```
pub(super) fn search(at: &mut Cursor<'_>, uid: bool) -> Result<Command> {
    at.space()?;
    let mut returns = None;
    if at.eat_word("RETURN ") {
        returns = Some(return_options(at)?);
        at.space()?;
    }
    let mut charset = None;
    if at.eat_word("CHARSET ") {
        charset = Some(String::from_utf8_lossy(&at.astring()?).into_owned());
        at.space()?;
    }
    let mut keys = Vec::new();
    loop {
        keys.push(key(at, 0)?);
        if at.is_at_end() {
            break;
        }
        at.space()?;
    }
    Ok(Command::Search {
        uid,
        returns,
        charset,
        key: all_of(keys),
    })
}

/// RFC 4731 §3.1: nothing asked is ALL.
fn return_options(at: &mut Cursor<'_>) -> Result<SearchReturn> {
    let mut options = SearchReturn {
        min: false,
        max: false,
        all: false,
        count: false,
    };
    at.open()?;
    if at.eat(b')') {
        options.all = true;
        return Ok(options);
    }
    loop {
        match at.keyword()?.as_str() {
            "ALL" => options.all = true,
            "COUNT" => options.count = true,
            "MAX" => options.max = true,
            "MIN" => options.min = true,
            _ => return Err(ParseError::Unknown("SEARCH return option")),
        }
        if at.eat(b')') {
            return Ok(options);
        }
        at.space()?;
    }
}

fn all_of(mut keys: Vec<SearchKey>) -> SearchKey {
    if keys.len() == 1 {
        keys.pop().unwrap_or(SearchKey::All)
    } else {
        SearchKey::And(keys)
    }
}

/// RFC 3501 §9 `search-key`.
fn key(at: &mut Cursor<'_>, depth: usize) -> Result<SearchKey> {
    if depth > MAX_DEPTH {
        return Err(ParseError::TooDeep);
    }
    if at.eat(b'(') {
        let mut keys = Vec::new();
        loop {
            keys.push(key(at, depth + 1)?);
            if at.eat(b')') {
                return Ok(all_of(keys));
            }
            at.space()?;
        }
    }
    if at.peek().is_some_and(|b| b.is_ascii_digit() || b == b'*') {
        return at.sequence_set().map(SearchKey::Sequence);
    }
    let name = at.keyword()?;
    if let Some(key) = flag_key(&name) {
        return Ok(key);
    }
    at.space()?;
    match name.as_str() {
        "NOT" => Ok(not(key(at, depth + 1)?)),
        "OR" => {
            let one = key(at, depth + 1)?;
            at.space()?;
            let other = key(at, depth + 1)?;
            Ok(SearchKey::Or(Box::new(one), Box::new(other)))
        }
        _ => with_argument(&name, at),
    }
}

fn not(key: SearchKey) -> SearchKey {
    SearchKey::Not(Box::new(key))
}

/// The keys without arguments.
fn flag_key(name: &str) -> Option<SearchKey> {
    use SystemFlag::{Answered, Deleted, Draft, Flagged, Seen};
    Some(match name {
        "ALL" => SearchKey::All,
        "ANSWERED" => SearchKey::Flag(Answered),
        "DELETED" => SearchKey::Flag(Deleted),
        "DRAFT" => SearchKey::Flag(Draft),
        "FLAGGED" => SearchKey::Flag(Flagged),
        "NEW" => SearchKey::And(vec![SearchKey::Recent, not(SearchKey::Flag(Seen))]),
        "OLD" => not(SearchKey::Recent),
        "RECENT" => SearchKey::Recent,
        "SEEN" => SearchKey::Flag(Seen),
        "UNANSWERED" => not(SearchKey::Flag(Answered)),
        "UNDELETED" => not(SearchKey::Flag(Deleted)),
        "UNDRAFT" => not(SearchKey::Flag(Draft)),
        "UNFLAGGED" => not(SearchKey::Flag(Flagged)),
        "UNSEEN" => not(SearchKey::Flag(Seen)),
        _ => return None,
    })
}

fn with_argument(name: &str, at: &mut Cursor<'_>) -> Result<SearchKey> {
    Ok(match name {
        "BCC" | "CC" | "FROM" | "SUBJECT" | "TO" => {
            SearchKey::Header(name.as_bytes().to_vec(), at.astring()?)
        }
        "BEFORE" => SearchKey::Before(at.date()?),
        "BODY" => SearchKey::Body(at.astring()?),
        "EMAILID" => SearchKey::EmailId(object_id(at, 'M')?.and_then(|id| id.parse().ok())),
        "HEADER" => {
            let field = at.astring()?;
            at.space()?;
            SearchKey::Header(field, at.astring()?)
        }
        "KEYWORD" => SearchKey::Keyword(at.atom()?.to_owned()),
        "LARGER" => SearchKey::Larger(at.number()?),
        "MODSEQ" => modseq(at)?,
        "OLDER" => SearchKey::Older(at.number32()?),
        "ON" => SearchKey::On(at.date()?),
        "SENTBEFORE" => SearchKey::SentBefore(at.date()?),
        "SENTON" => SearchKey::SentOn(at.date()?),
        "SENTSINCE" => SearchKey::SentSince(at.date()?),
        "SINCE" => SearchKey::Since(at.date()?),
        "SMALLER" => SearchKey::Smaller(at.number()?),
        "TEXT" => SearchKey::Text(at.astring()?),
        // Printed as all ids of 64 bits are.
        "THREADID" => SearchKey::ThreadId(
            object_id(at, 'T')?.and_then(|id| id.parse().ok().map(MailboxId::get)),
        ),
        "UID" => SearchKey::Uid(at.sequence_set()?),
        "UNKEYWORD" => not(SearchKey::Keyword(at.atom()?.to_owned())),
        "YOUNGER" => SearchKey::Younger(at.number32()?),
        _ => return Err(ParseError::Unknown("search key")),
    })
}

/// An id of RFC 8474 §5 without the letter that we put in front of it.
fn object_id(at: &mut Cursor<'_>, letter: char) -> Result<Option<String>> {
    let octets = at.astring()?;
    let text = String::from_utf8_lossy(&octets);
    Ok(text.strip_prefix(letter).map(str::to_owned))
}

/// ```abnf
/// search-modsequence = "MODSEQ" [SP entry-name SP entry-type-req] SP mod-sequence-valzer
/// ```
/// We keep one MODSEQ a message, so that the entry makes no difference (RFC 7162 §3.1.5).
fn modseq(at: &mut Cursor<'_>) -> Result<SearchKey> {
    if at.peek() == Some(b'"') {
        at.quoted()?;
        at.space()?;
        at.atom()?;
        at.space()?;
    }
    at.number().map(SearchKey::ModSeq)
}
