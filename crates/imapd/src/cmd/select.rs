//! SELECT, EXAMINE, CLOSE and UNSELECT (RFC 3501 §6.3.1, §6.3.2, §6.4.2, RFC 3691).

use imap_proto::encode::{push_status, push_untagged};
use imap_proto::{Code, Condition, MailboxName, State, Tag};
use mail_rpc::pb::mailbox::v1 as pb;
use mail_types::{ModSeq, Uid, UidValidity};

use crate::conversation::Conversation;
use crate::view::{View, number};

impl Conversation {
    pub(super) async fn select(
        &mut self,
        tag: &Tag,
        mailbox: &MailboxName,
        read_only: bool,
        condstore: bool,
    ) {
        self.condstore |= condstore;
        // Whatever comes of it, the mailbox that was selected is not any more.
        let had_one = self.view.take().is_some();
        self.session.set_state(State::Authenticated);
        if had_one {
            push_status(
                &mut self.out,
                None,
                Condition::Ok,
                Some(&Code::Closed),
                "closed",
            );
        }
        let mailboxes = &self.shared.mailboxes;
        let opening = mailboxes.select(self.account(), mailbox.as_str(), read_only);
        match opening.await {
            Ok(view) => {
                push_facts(&mut self.out, &view);
                self.view = Some(view);
                self.session.set_state(State::Selected);
                let code = if read_only {
                    Code::ReadOnly
                } else {
                    Code::ReadWrite
                };
                self.ok(tag, Some(&code), "selected");
            }
            Err(no) => no.push(&mut self.out, tag),
        }
    }

    /// With `expunge` it is CLOSE: deleted messages go, and nothing is told.
    pub(super) async fn close(&mut self, tag: &Tag, expunge: bool) {
        let view = self.view.take();
        self.session.set_state(State::Authenticated);
        if let Some(view) = view
            && expunge
            && !view.read_only
        {
            let request = pb::ExpungeRequest {
                account_id: view.account(),
                mailbox_id: view.mailbox_id(),
                uids: None,
                only_deleted: true,
            };
            let answer = self.shared.store.clone().expunge(request).await;
            let result = match answer {
                Ok(answer) => crate::answer::check(answer.into_inner().failure),
                Err(status) => Err(status.into()),
            };
            return self.finish(tag, result, "CLOSE done");
        }
        self.ok(tag, None, "closed");
    }
}

fn push_facts(out: &mut Vec<u8>, view: &View) {
    let flags = view.flag_list();
    push_untagged(out, &format!("FLAGS {flags}"));
    view.push_exists(out);
    let mut ok = |code: &Code<'_>, text: &str| {
        push_status(out, None, Condition::Ok, Some(code), text);
    };
    let told = &view.told;
    if let Some(place) = told.rows.first_unseen() {
        ok(&Code::Unseen(number(place + 1)), "first unseen message");
    }
    // `\*`: new keywords can be made.
    let permanent = if view.read_only {
        "()".to_owned()
    } else {
        format!("{} \\*)", flags.trim_end_matches(')'))
    };
    ok(&Code::PermanentFlags(&permanent), "flags that stay");
    if let Some(validity) = UidValidity::new(told.uid_validity) {
        ok(&Code::UidValidity(validity), "UIDs are valid");
    }
    if let Some(next) = Uid::new(told.uid_next) {
        ok(&Code::UidNext(next), "the next UID");
    }
    match ModSeq::new(told.highest_modseq) {
        Some(modseq) => ok(&Code::HighestModSeq(modseq), "the highest MODSEQ"),
        None => ok(&Code::NoModSeq, "no MODSEQs"),
    }
    ok(
        &Code::MailboxId(view.mailbox_id().into()),
        "the mailbox's id",
    );
}
