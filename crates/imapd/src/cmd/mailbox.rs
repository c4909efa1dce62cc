//! CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE and STATUS.

use std::fmt::Write;

use imap_proto::encode::push_mailbox;
use imap_proto::{Code, MailboxName, State, StatusItem, Tag};
use mail_rpc::pb::mailbox::v1 as pb;
use mail_types::MailboxId;
use tonic::{Response, Status};

use crate::answer::{No, check};
use crate::conversation::Conversation;
use crate::view::View;

type Answer = Result<Response<pb::MailboxResponse>, Status>;

impl Conversation {
    pub(super) async fn create(&mut self, tag: &Tag, mailbox: &MailboxName, uses: &[String]) {
        let special_use = match uses {
            [] => pb::SpecialUse::Unspecified,
            [name] => match special_use(name) {
                Some(special_use) => special_use,
                None => return no_such_use().push(&mut self.out, tag),
            },
            _ => return no_such_use().push(&mut self.out, tag),
        };
        let request = pb::CreateMailboxRequest {
            account_id: self.account(),
            name: mailbox.as_str().to_owned(),
            special_use: special_use.into(),
        };
        let answer = self.shared.store.clone().create_mailbox(request).await;
        match done(answer) {
            // RFC 8474 §4.1
            Ok(id) => self.ok(
                tag,
                Some(&Code::MailboxId(MailboxId::from(id))),
                "CREATE done",
            ),
            Err(no) => no.push(&mut self.out, tag),
        }
    }

    pub(super) async fn delete(&mut self, tag: &Tag, mailbox: &MailboxName) {
        let request = pb::DeleteMailboxRequest {
            account_id: self.account(),
            name: mailbox.as_str().to_owned(),
        };
        let is_selected = self.is_selected(mailbox).await;
        let answer = self.shared.store.clone().delete_mailbox(request).await;
        let result = done(answer);
        if is_selected && result.is_ok() {
            // Who deletes it knows; the others hear BYE.
            self.view = None;
            self.session.set_state(State::Authenticated);
        }
        self.finish(tag, result.map(|_| ()), "DELETE done");
    }

    async fn is_selected(&self, mailbox: &MailboxName) -> bool {
        let Some(selected) = self.view.as_ref().map(View::mailbox_id) else {
            return false;
        };
        let statuses = self.statuses(vec![mailbox.as_str().to_owned()]).await;
        // Where that is not known DELETE fails, too.
        let found = statuses.unwrap_or_default().into_iter().next();
        found.is_some_and(|status| status.failure.is_none() && status.mailbox_id == selected)
    }

    pub(super) async fn rename(&mut self, tag: &Tag, from: &MailboxName, to: &MailboxName) {
        let request = pb::RenameMailboxRequest {
            account_id: self.account(),
            name: from.as_str().to_owned(),
            new_name: to.as_str().to_owned(),
        };
        let answer = self.shared.store.clone().rename_mailbox(request).await;
        self.finish(tag, done(answer).map(|_| ()), "RENAME done");
    }

    pub(super) async fn subscribe(&mut self, tag: &Tag, mailbox: &MailboxName, subscribed: bool) {
        let request = pb::SubscribeRequest {
            account_id: self.account(),
            name: mailbox.as_str().to_owned(),
            subscribed,
        };
        let answer = self.shared.store.clone().subscribe(request).await;
        self.finish(tag, done(answer).map(|_| ()), "done");
    }

    pub(super) async fn status(&mut self, tag: &Tag, mailbox: &MailboxName, items: &[StatusItem]) {
        let names = vec![mailbox.as_str().to_owned()];
        let result = match self.statuses(names).await {
            Ok(statuses) => match statuses.into_iter().next() {
                Some(status) => check(status.failure.clone())
                    .map(|()| push_status(&mut self.out, &status, items)),
                None => Err(Status::internal("no status came").into()),
            },
            Err(no) => Err(no),
        };
        self.finish(tag, result, "STATUS done");
    }

    pub(super) async fn statuses(&self, names: Vec<String>) -> Result<Vec<pb::MailboxStatus>, No> {
        let request = pb::GetStatusRequest {
            account_id: self.account(),
            names,
        };
        let answer = self.shared.store.clone().get_status(request).await?;
        Ok(answer.into_inner().statuses)
    }
}

/// `* STATUS name (item value …)`
pub(super) fn push_status(out: &mut Vec<u8>, status: &pb::MailboxStatus, items: &[StatusItem]) {
    out.extend_from_slice(b"* STATUS ");
    push_mailbox(out, &status.name);
    let mut text = String::from(" (");
    for (n, item) in items.iter().enumerate() {
        if n > 0 {
            text.push(' ');
        }
        text.push_str(item.name());
        let value: u64 = match item {
            StatusItem::Deleted => status.deleted.into(),
            StatusItem::HighestModSeq => status.highest_modseq,
            StatusItem::Messages => status.messages.into(),
            StatusItem::Recent => status.recent.into(),
            StatusItem::Size => status.size,
            StatusItem::UidNext => status.uid_next.into(),
            StatusItem::UidValidity => status.uid_validity.into(),
            StatusItem::Unseen => status.unseen.into(),
            StatusItem::MailboxId => {
                let _ = write!(text, " (F{})", MailboxId::from(status.mailbox_id));
                continue;
            }
        };
        let _ = write!(text, " {value}");
    }
    text.push_str(")\r\n");
    out.extend_from_slice(text.as_bytes());
}

fn done(answer: Answer) -> Result<u64, No> {
    let answer = answer?.into_inner();
    check(answer.failure)?;
    Ok(answer.mailbox_id)
}

fn no_such_use() -> No {
    No::new(Some(Code::UseAttr), "a mailbox cannot be made for that use")
}

/// RFC 6154 §2; `\All` and `\Flagged` are views, which cannot be made.
fn special_use(name: &str) -> Option<pb::SpecialUse> {
    let known = [
        pb::SpecialUse::Archive,
        pb::SpecialUse::Drafts,
        pb::SpecialUse::Junk,
        pb::SpecialUse::Sent,
        pb::SpecialUse::Trash,
    ];
    known
        .into_iter()
        .find(|known| attribute(*known).is_some_and(|text| text.eq_ignore_ascii_case(name)))
}

/// The attribute in LIST.
pub(super) fn attribute(special_use: pb::SpecialUse) -> Option<&'static str> {
    match special_use {
        pb::SpecialUse::Unspecified => None,
        pb::SpecialUse::Archive => Some("\\Archive"),
        pb::SpecialUse::Drafts => Some("\\Drafts"),
        pb::SpecialUse::Flagged => Some("\\Flagged"),
        pb::SpecialUse::Junk => Some("\\Junk"),
        pb::SpecialUse::Sent => Some("\\Sent"),
        pb::SpecialUse::Trash => Some("\\Trash"),
    }
}
