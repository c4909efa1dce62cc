//! STORE (RFC 3501 §6.4.6, RFC 7162 §3.1.3).

use imap_proto::{Code, FlagList, SequenceSet, StoreMode, Tag};
use mail_rpc::pb::mailbox::v1 as pb;

use crate::answer::{No, check};
use crate::conversation::Conversation;
use crate::mailboxes::{entry, ranges};
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
        let request = pb::StoreRequest {
            account_id: view.account(),
            mailbox_id: view.mailbox_id(),
            uids: Some(view.uid_set(&places)),
            mode: mode(change.mode).into(),
            flags: Some(names(change.flags)),
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
        view.learn(&answer.messages, &answer.keywords, &mut self.out);
        push_states(view, &answer, &mut self.out, show, change.silent);
        view.reach(answer.modseq).await;
        let modified = modified(view, answer.modified.as_ref(), uid);
        self.update(uid).await;
        let code = modified.as_deref().map(Code::Modified);
        self.ok(tag, code.as_ref(), "STORE done");
    }
}

fn push_states(
    view: &View,
    answer: &pb::StoreResponse,
    out: &mut Vec<u8>,
    show: Show,
    silent: bool,
) {
    if silent && !show.modseq {
        return;
    }
    for state in &answer.messages {
        let Some(place) = view.told.rows.find(state.uid) else {
            continue;
        };
        if silent {
            // RFC 7162 §3.1.3: the new MODSEQ even then.
            let mut response = imap_proto::encode::FetchResponse::begin(out, number(place + 1));
            response.number("UID", state.uid.into());
            response.modseq(state.modseq);
            response.end();
        } else {
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
