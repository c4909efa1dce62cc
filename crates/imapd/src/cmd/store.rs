//! STORE (RFC 3501 §6.4.6, RFC 7162 §3.1.3).

use imap_proto::{Code, FlagList, SequenceSet, StoreMode, Tag};
use mail_rpc::pb::mailbox::v1 as pb;
use mail_types::Flags;

use crate::answer::{No, check};
use crate::conversation::Conversation;
use crate::mailboxes::{Version, entry, ranges};
use crate::view::{Show, View, number};

/// What STORE is to do.
pub(super) struct Change {
    pub(super) mode: StoreMode,
    pub(super) silent: bool,
    pub(super) flags: FlagList,
    pub(super) unchanged_since: Option<u64>,
}

pub(super) fn read_only() -> No {
    No::new(Some(Code::Cannot), "the mailbox is open for reading alone")
}

pub(super) fn no_such_message() -> &'static str {
    "there is no message with that number"
}

impl Conversation {
    pub(super) async fn store(&mut self, tag: &Tag, uid: bool, set: &SequenceSet, change: Change) {
        // RFC 7162 §3.1: a client that uses conditions wants MODSEQs from now on.
        self.condstore |= change.unchanged_since.is_some();
        let Some(view) = &mut self.view else {
            return self.bad(tag, "no mailbox is selected");
        };
        if view.read_only {
            return read_only().push(&mut self.out, tag);
        }
        let Some(places) = view.places(set, uid) else {
            return self.bad(tag, no_such_message());
        };
        if places.is_empty() {
            self.update(uid).await;
            return self.ok(tag, None, "no messages");
        }
        let flags = names(change.flags);
        let request = pb::StoreRequest {
            account_id: view.account(),
            mailbox_id: view.mailbox_id(),
            uids: Some(view.uid_set(&places)),
            mode: mode(change.mode).into(),
            flags: Some(flags.clone()),
            unchanged_since: change.unchanged_since,
        };
        let answer = match self.shared.store.clone().store(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return No::from(status).push(&mut self.out, tag),
        };
        if let Err(no) = check(answer.failure.clone()) {
            return no.push(&mut self.out, tag);
        }
        let show = Show {
            expunge: false,
            uid,
            modseq: self.condstore,
        };
        let before = view.told.clone();
        view.learn(&answer.messages, &answer.keywords, &mut self.out);
        let silence = change.silent.then(|| Silence {
            mode: change.mode,
            flags: flags_of(&flags, &view.told.keywords),
            before: &before,
        });
        push_states(view, &answer, &mut self.out, show, silence.as_ref());
        view.reach(answer.modseq).await;
        let modified = modified(view, answer.modified.as_ref(), uid);
        self.update(uid).await;
        let code = modified.as_deref().map(Code::Modified);
        self.ok(tag, code.as_ref(), "STORE done");
    }
}

/// What a client that asked for silence knows without an answer.
struct Silence<'a> {
    mode: StoreMode,
    flags: Flags,
    /// What it was told before.
    before: &'a Version,
}

impl Silence<'_> {
    /// True if the client takes the flags of the message at a place to be these. They are not when
    /// another session has changed them, of which the client hears no more once it has the answer.
    fn expects(&self, place: usize, flags: Flags) -> bool {
        let before = self.before.rows.get(place).map(|entry| entry.flags);
        let expected = before.map(|before| match self.mode {
            StoreMode::Add => before | self.flags,
            StoreMode::Remove => before & !self.flags,
            StoreMode::Replace => self.flags,
        });
        expected == Some(flags)
    }
}

/// The flags of a command, by the mailbox's keywords behind it.
fn flags_of(names: &pb::FlagNames, keywords: &[String]) -> Flags {
    let index = |name: &String| {
        keywords
            .iter()
            .position(|known| known.eq_ignore_ascii_case(name))
    };
    let indices = names.keywords.iter().filter_map(index);
    let flags = indices.filter_map(Flags::keyword);
    flags.fold(Flags::from(names.system), |all, flag| all | flag)
}

fn push_states(
    view: &View,
    answer: &pb::StoreResponse,
    out: &mut Vec<u8>,
    show: Show,
    silence: Option<&Silence<'_>>,
) {
    for state in &answer.messages {
        let Some(place) = view.told.rows.find(state.uid) else {
            continue;
        };
        let expects = |silence: &Silence<'_>| silence.expects(place, state.flags.into());
        if silence.is_some_and(expects) {
            if !show.modseq {
                continue;
            }
            // RFC 7162 §3.1.3: the new MODSEQ even then.
            let mut response = imap_proto::encode::FetchResponse::begin(out, number(place + 1));
            response.number("UID", state.uid.into());
            response.modseq(state.modseq);
            response.end();
        } else {
            // RFC 3501 §6.4.6: what others have changed is told even to who wants silence.
            view.push_flags(place, entry(state), out, show);
        }
    }
}

/// What MODIFIED tells: UIDs, or the numbers that the client knows.
fn modified(view: &View, set: Option<&pb::UidSet>, uid: bool) -> Option<String> {
    let rows = &view.told.rows;
    let mut parts = Vec::new();
    for (low, high) in ranges(Some(set?)) {
        let (from, to) = (rows.below(low), rows.up_to(high));
        if from == to {
            continue;
        }
        parts.push(match (uid, from + 1 == to) {
            (true, _) if low == high => low.to_string(),
            (true, _) => format!("{low}:{high}"),
            (false, true) => to.to_string(),
            (false, false) => format!("{}:{to}", from + 1),
        });
    }
    (!parts.is_empty()).then(|| parts.join(","))
}

pub(super) fn names(flags: FlagList) -> pb::FlagNames {
    pb::FlagNames {
        system: flags.system.bits(),
        keywords: flags.keywords,
    }
}

fn mode(mode: StoreMode) -> pb::store_request::Mode {
    match mode {
        StoreMode::Add => pb::store_request::Mode::Add,
        StoreMode::Remove => pb::store_request::Mode::Remove,
        StoreMode::Replace => pb::store_request::Mode::Replace,
    }
}
