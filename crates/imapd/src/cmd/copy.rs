//! COPY, MOVE and EXPUNGE (RFC 3501 §6.4.3 and §6.4.7, RFC 4315, RFC 6851).

use imap_proto::encode::push_status;
use imap_proto::{Code, Condition, MailboxName, SequenceSet, Tag};
use mail_rpc::convert::uid_set;
use mail_rpc::pb::mailbox::v1 as pb;
use mail_types::{UidSet, UidValidity};
use tonic::{Response, Status};

use super::store::{no_such_message, read_only};
use crate::answer::{NOT_KNOWN, No, check, may_be_done};
use crate::conversation::Conversation;

impl Conversation {
    pub(super) async fn copy(
        &mut self,
        tag: &Tag,
        uid: bool,
        set: &SequenceSet,
        mailbox: &MailboxName,
        remove: bool,
    ) {
        let Some(view) = &self.view else {
            return self.bad(tag, "no mailbox is selected");
        };
        if remove && view.read_only {
            return read_only().push(&mut self.out, tag);
        }
        let Some(places) = view.places(set, uid) else {
            return self.bad(tag, no_such_message());
        };
        let request = pb::CopyRequest {
            account_id: view.account(),
            mailbox_id: view.mailbox_id(),
            uids: Some(view.uid_set(&places)),
            target: mailbox.as_str().to_owned(),
            r#move: remove,
            quota_bytes: self.quota(),
        };
        // An empty set would name nothing to the store.
        if places.is_empty() {
            self.update(true).await;
            return self.ok(tag, None, "no messages");
        }
        let answer = self.shared.store.clone().copy(request).await;
        if answer.as_ref().is_err_and(may_be_done) {
            return self.end(NOT_KNOWN);
        }
        match copied(answer) {
            Ok((validity, source, target)) => {
                self.tell_copied(tag, validity, &source, &target, remove)
                    .await;
            }
            Err(no) => {
                self.update(uid).await;
                no.push(&mut self.out, tag);
            }
        }
    }

    async fn tell_copied(
        &mut self,
        tag: &Tag,
        validity: u32,
        source: &UidSet,
        target: &UidSet,
        remove: bool,
    ) {
        let validity = UidValidity::new(validity).filter(|_| !source.is_empty());
        let code = validity.map(|validity| Code::CopyUid(validity, source, target));
        if remove {
            // RFC 6851 §4.3: before the EXPUNGEs, so that the client knows what goes where.
            push_status(&mut self.out, None, Condition::Ok, code.as_ref(), "moved");
            self.await_gone(source).await;
        }
        self.update(true).await;
        self.ok(tag, code.as_ref().filter(|_| !remove), "done");
    }

    /// Waits until the feed tells that these messages are gone.
    async fn await_gone(&mut self, uids: &UidSet) {
        if let Some(view) = &self.view {
            view.reach_expunged(uids).await;
        }
    }

    pub(super) async fn expunge(&mut self, tag: &Tag, set: Option<&SequenceSet>) {
        let Some(view) = &mut self.view else {
            return self.bad(tag, "no mailbox is selected");
        };
        if view.read_only {
            return read_only().push(&mut self.out, tag);
        }
        let uids = match set {
            Some(set) => {
                let places = view.places(set, true).unwrap_or_default();
                if places.is_empty() {
                    self.update(true).await;
                    return self.ok(tag, None, "no messages");
                }
                Some(view.uid_set(&places))
            }
            None => None,
        };
        let request = pb::ExpungeRequest {
            account_id: view.account(),
            mailbox_id: view.mailbox_id(),
            uids,
            only_deleted: true,
        };
        let answer = self.shared.store.clone().expunge(request).await;
        let result = match answer.map(Response::into_inner) {
            Ok(answer) => match check(answer.failure) {
                Ok(()) => {
                    view.reach(answer.modseq).await;
                    Ok(())
                }
                Err(no) => Err(no),
            },
            Err(status) => Err(status.into()),
        };
        self.update(true).await;
        self.finish(tag, result, "EXPUNGE done");
    }
}

fn copied(answer: Result<Response<pb::CopyResponse>, Status>) -> Result<(u32, UidSet, UidSet), No> {
    let answer = answer?.into_inner();
    check(answer.failure).map_err(|mut no| {
        // RFC 3501 §6.4.7: the client may create it and try again.
        if no.code == Some(Code::NonExistent) {
            no.code = Some(Code::TryCreate);
        }
        no
    })?;
    let set =
        |set: Option<&pb::UidSet>| uid_set(set).map_err(|error| No::from(Status::from(error)));
    let source = set(answer.source_uids.as_ref())?;
    let target = set(answer.target_uids.as_ref())?;
    Ok((answer.target_uid_validity, source, target))
}
