//! SEARCH (RFC 3501 §6.4.4, RFC 4731): what the view can tell is found here, the rest is asked for.

use std::borrow::Cow;
use std::fmt::Write;

use encoding_rs::Encoding;
use imap_proto::encode::push_string;
use imap_proto::{Code, SearchKey, SearchReturn, SequenceSet, Tag};
use mail_rpc::convert::uid_set;
use mail_rpc::pb::mailbox::v1 as pb;
use mail_types::Flags;
use pb::search_key::Key;
use tonic::Status;

use crate::answer::{No, check};
use crate::conversation::Conversation;
use crate::mailboxes::Entry;
use crate::view::{View, number};

/// What BADCHARSET names; `encoding_rs` knows many more.
const CHARSETS: [&str; 3] = ["US-ASCII", "UTF-8", "ISO-8859-1"];

impl Conversation {
    pub(super) async fn search(
        &mut self,
        tag: &Tag,
        uid: bool,
        returns: Option<SearchReturn>,
        charset: Option<&str>,
        key: &SearchKey,
    ) {
        let asks_modseq = key.asks_modseq();
        self.condstore |= asks_modseq;
        let Some(decoder) = decoder(charset) else {
            let code = Code::BadCharset(&CHARSETS);
            return No::new(Some(code), "that charset is not known").push(&mut self.out, tag);
        };
        let Some(view) = &self.view else {
            return self.bad(tag, "no mailbox is selected");
        };
        let found = if is_local(key) {
            local(view, key).collect()
        } else {
            match self.ask(view, key, decoder).await {
                Ok(found) => found,
                Err(no) => return no.push(&mut self.out, tag),
            }
        };
        let answer = Answer {
            found: &found,
            uid,
            asks_modseq,
        };
        match returns {
            None => answer.push_plain(&mut self.out),
            Some(returns) => answer.push_extended(&mut self.out, tag, returns),
        }
        self.update(uid).await;
        self.ok(tag, None, "SEARCH done");
    }

    /// What the store finds.
    async fn ask(
        &self,
        view: &View,
        key: &SearchKey,
        decoder: &'static Encoding,
    ) -> Result<Vec<(usize, Entry)>, No> {
        let rows = &view.told.rows;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let all: Vec<usize> = (0..rows.len()).collect();
        let request = pb::SearchRequest {
            account_id: view.account(),
            mailbox_id: view.mailbox_id(),
            within: Some(view.uid_set(&all)),
            key: Some(convert(view, key, decoder)),
        };
        let answer = self
            .shared
            .store
            .clone()
            .search(request)
            .await?
            .into_inner();
        check(answer.failure)?;
        let found = uid_set(answer.uids.as_ref()).map_err(|error| No::from(Status::from(error)))?;
        let places = found.iter().filter_map(|uid| rows.find(uid.get()));
        Ok(rows.at(places).collect())
    }
}

fn decoder(charset: Option<&str>) -> Option<&'static Encoding> {
    match charset {
        // 8-bit texts come without a charset too, and are UTF-8 then if anything.
        None => Some(encoding_rs::UTF_8),
        Some(name) => Encoding::for_label_no_replacement(name.as_bytes()),
    }
}

/// True if the view can tell.
fn is_local(key: &SearchKey) -> bool {
    match key {
        SearchKey::And(keys) => keys.iter().all(is_local),
        SearchKey::Not(key) => is_local(key),
        SearchKey::Or(a, b) => is_local(a) && is_local(b),
        SearchKey::All
        | SearchKey::Flag(_)
        | SearchKey::Keyword(_)
        | SearchKey::Larger(_)
        | SearchKey::ModSeq(_)
        | SearchKey::Recent
        | SearchKey::Sequence(_)
        | SearchKey::Smaller(_)
        | SearchKey::Uid(_) => true,
        _ => false,
    }
}

/// The messages that fit, where the view can tell.
fn local<'a>(view: &'a View, key: &'a SearchKey) -> impl Iterator<Item = (usize, Entry)> + 'a {
    let all = view.told.rows.iter().enumerate();
    all.filter(|message| fits(view, *message, key))
}

fn fits(view: &View, message: (usize, Entry), key: &SearchKey) -> bool {
    let (place, entry) = message;
    match key {
        SearchKey::And(keys) => keys.iter().all(|key| fits(view, message, key)),
        SearchKey::Not(key) => !fits(view, message, key),
        SearchKey::Or(a, b) => fits(view, message, a) || fits(view, message, b),
        SearchKey::Flag(flag) => entry.flags.has(*flag),
        SearchKey::Keyword(name) => {
            keyword(view, name).is_some_and(|flag| entry.flags.contains(flag))
        }
        SearchKey::Larger(size) => entry.size > *size,
        SearchKey::Smaller(size) => entry.size < *size,
        SearchKey::ModSeq(modseq) => entry.modseq >= *modseq,
        SearchKey::Recent => view.is_recent(entry.uid),
        SearchKey::Sequence(set) => names(set, place + 1, view.told.rows.len()),
        SearchKey::Uid(set) => {
            let largest = view.told.rows.last().map_or(0, |last| last.uid);
            set.ranges(largest)
                .any(|(low, high)| (low..=high).contains(&entry.uid))
        }
        // Nothing else is local.
        _ => matches!(key, SearchKey::All),
    }
}

fn names(set: &SequenceSet, number: usize, count: usize) -> bool {
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    let largest = u32::try_from(count).unwrap_or(u32::MAX);
    set.ranges(largest)
        .any(|(low, high)| (low..=high).contains(&number))
}

fn keyword(view: &View, name: &str) -> Option<Flags> {
    let mut keywords = view.told.keywords.iter();
    let at = keywords.position(|known| known.eq_ignore_ascii_case(name));
    at.and_then(Flags::keyword)
}

/// The contract's form; what only the view knows becomes UIDs.
fn convert(view: &View, key: &SearchKey, decoder: &'static Encoding) -> pb::SearchKey {
    let text = |octets: &[u8]| decode(decoder, octets);
    let inner = |key: &SearchKey| convert(view, key, decoder);
    let key = match key {
        SearchKey::All => Key::All(true),
        SearchKey::And(keys) => Key::And(pb::SearchKeys {
            keys: keys.iter().map(inner).collect(),
        }),
        SearchKey::Or(a, b) => Key::Or(pb::SearchKeys {
            keys: vec![inner(a), inner(b)],
        }),
        SearchKey::Not(key) => Key::Not(Box::new(inner(key))),
        SearchKey::Before(date) => Key::Before(date.days),
        SearchKey::On(date) => Key::On(date.days),
        SearchKey::Since(date) => Key::Since(date.days),
        SearchKey::SentBefore(date) => Key::SentBefore(date.days),
        SearchKey::SentOn(date) => Key::SentOn(date.days),
        SearchKey::SentSince(date) => Key::SentSince(date.days),
        SearchKey::Body(octets) => Key::Body(text(octets)),
        SearchKey::Text(octets) => Key::Text(text(octets)),
        SearchKey::Header(field, octets) => Key::Header(pb::SearchHeader {
            field: String::from_utf8_lossy(field).into_owned(),
            text: text(octets),
        }),
        SearchKey::EmailId(Some(id)) => Key::EmailId(id.to_bytes().to_vec().into()),
        SearchKey::ThreadId(Some(thread)) => Key::ThreadId(*thread),
        // No message has it.
        SearchKey::EmailId(None) | SearchKey::ThreadId(None) => Key::Uids(pb::UidSet::default()),
        SearchKey::Flag(flag) => Key::Flags(Flags::from(*flag).bits()),
        SearchKey::Keyword(name) => Key::Keyword(name.clone()),
        SearchKey::Larger(size) => Key::Larger(*size),
        SearchKey::Smaller(size) => Key::Smaller(*size),
        SearchKey::ModSeq(modseq) => Key::Modseq(*modseq),
        SearchKey::Older(seconds) => Key::Older(*seconds),
        SearchKey::Younger(seconds) => Key::Younger(*seconds),
        SearchKey::Recent | SearchKey::Sequence(_) | SearchKey::Uid(_) => {
            let places: Vec<usize> = local(view, key).map(|(place, _)| place).collect();
            Key::Uids(view.uid_set(&places))
        }
    };
    pb::SearchKey { key: Some(key) }
}

fn decode(decoder: &'static Encoding, octets: &[u8]) -> String {
    let (text, _) = decoder.decode_without_bom_handling(octets);
    Cow::into_owned(text)
}

struct Answer<'a> {
    found: &'a [(usize, Entry)],
    uid: bool,
    asks_modseq: bool,
}

impl Answer<'_> {
    fn number(&self, (place, entry): (usize, Entry)) -> u32 {
        if self.uid {
            entry.uid
        } else {
            number(place + 1)
        }
    }

    fn modseq(&self) -> Option<u64> {
        let highest = self.found.iter().map(|(_, entry)| entry.modseq).max();
        highest.filter(|_| self.asks_modseq)
    }

    fn push_plain(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"* SEARCH");
        for message in self.found {
            out.push(b' ');
            imap_proto::encode::push_number(out, self.number(*message).into());
        }
        if let Some(modseq) = self.modseq() {
            out.extend_from_slice(format!(" (MODSEQ {modseq})").as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }

    fn push_extended(&self, out: &mut Vec<u8>, tag: &Tag, returns: SearchReturn) {
        out.extend_from_slice(b"* ESEARCH (TAG ");
        push_string(out, tag.as_str().as_bytes());
        out.push(b')');
        let mut text = String::new();
        if self.uid {
            text.push_str(" UID");
        }
        if let (Some(first), Some(last)) = (self.found.first(), self.found.last()) {
            if returns.min {
                let _ = write!(text, " MIN {}", self.number(*first));
            }
            if returns.max {
                let _ = write!(text, " MAX {}", self.number(*last));
            }
            if returns.all {
                let _ = write!(text, " ALL {}", self.ranges());
            }
        }
        if returns.count {
            let _ = write!(text, " COUNT {}", self.found.len());
        }
        if let Some(modseq) = self.modseq() {
            let _ = write!(text, " MODSEQ {modseq}");
        }
        text.push_str("\r\n");
        out.extend_from_slice(text.as_bytes());
    }

    /// The numbers as a set.
    fn ranges(&self) -> String {
        let numbers = self.found.iter().map(|message| self.number(*message));
        numbers
            .filter_map(mail_types::Uid::new)
            .collect::<mail_types::UidSet>()
            .to_string()
    }
}
