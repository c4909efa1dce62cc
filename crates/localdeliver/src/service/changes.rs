//! Store, Copy and Expunge.

use mail_rpc::convert::uid_set;
use mail_rpc::pb::mailbox::v1 as pb;
use mailbox_store::{Applied, CopyMail, Expunge, FlagChange, FlagMode, Operation};
use tonic::Status;

use super::Service;
use crate::convert::{flag_names, message_state, name, out_of_range, refused, store_failed};

impl Service {
    async fn apply(&self, account: u64, operation: Operation) -> Result<Applied, pb::Failure> {
        match self.0.stores.apply(account.into(), operation).await {
            Ok(Ok(applied)) => Ok(applied),
            Ok(Err(error)) => Err(refused(error)),
            Err(error) => Err(store_failed(&error)),
        }
    }

    pub(super) async fn change_flags(
        &self,
        request: pb::StoreRequest,
    ) -> Result<pb::StoreResponse, Status> {
        use pb::store_request::Mode;
        let mode = match request.mode() {
            Mode::Add => FlagMode::Add,
            Mode::Remove => FlagMode::Remove,
            Mode::Replace => FlagMode::Replace,
            Mode::Unspecified => return Err(out_of_range("mode")),
        };
        let change = FlagChange {
            mailbox: request.mailbox_id.into(),
            uids: uid_set(request.uids.as_ref())?,
            mode,
            flags: flag_names(request.flags),
            unchanged_since: request.unchanged_since,
        };
        Ok(
            match self
                .apply(request.account_id, Operation::Flags(change))
                .await
            {
                Ok(Applied::FlagsChanged {
                    modseq,
                    messages,
                    modified,
                    keywords,
                }) => pb::StoreResponse {
                    modseq: modseq.unwrap_or(0),
                    messages: messages.iter().map(message_state).collect(),
                    modified: Some((&modified).into()),
                    keywords,
                    failure: None,
                },
                Ok(_) => return Err(Status::internal("the store answered another operation")),
                Err(failure) => pb::StoreResponse {
                    failure: Some(failure),
                    ..Default::default()
                },
            },
        )
    }

    pub(super) async fn copy_messages(
        &self,
        request: pb::CopyRequest,
    ) -> Result<pb::CopyResponse, Status> {
        let target = match name(&request.target) {
            Ok(target) => target,
            Err(failure) => {
                return Ok(pb::CopyResponse {
                    failure: Some(failure),
                    ..Default::default()
                });
            }
        };
        let copy = CopyMail {
            mailbox: request.mailbox_id.into(),
            uids: uid_set(request.uids.as_ref())?,
            target,
            remove: request.r#move,
            quota: request.quota_bytes,
        };
        Ok(
            match self.apply(request.account_id, Operation::Copy(copy)).await {
                Ok(Applied::Copied {
                    mailbox,
                    uid_validity,
                    source,
                    target,
                    modseq,
                }) => pb::CopyResponse {
                    target_mailbox_id: mailbox.get(),
                    target_uid_validity: uid_validity,
                    source_uids: Some((&source).into()),
                    target_uids: Some((&target).into()),
                    modseq,
                    failure: None,
                },
                Ok(_) => return Err(Status::internal("the store answered another operation")),
                Err(failure) => pb::CopyResponse {
                    failure: Some(failure),
                    ..Default::default()
                },
            },
        )
    }

    pub(super) async fn expunge_messages(
        &self,
        request: pb::ExpungeRequest,
    ) -> Result<pb::ExpungeResponse, Status> {
        let uids = uid_set(request.uids.as_ref())?;
        let expunge = Expunge {
            mailbox: request.mailbox_id.into(),
            uids: (!uids.is_empty()).then_some(uids),
            only_deleted: request.only_deleted,
        };
        Ok(
            match self
                .apply(request.account_id, Operation::Expunge(expunge))
                .await
            {
                Ok(Applied::Expunged { uids, modseq }) => pb::ExpungeResponse {
                    expunged: Some((&uids).into()),
                    modseq,
                    failure: None,
                },
                Ok(_) => return Err(Status::internal("the store answered another operation")),
                Err(failure) => pb::ExpungeResponse {
                    failure: Some(failure),
                    ..Default::default()
                },
            },
        )
    }

    /// For verbs that answer only a mailbox's id.
    pub(super) async fn mailbox_verb(
        &self,
        account: u64,
        operation: Result<Operation, pb::Failure>,
    ) -> pb::MailboxResponse {
        let applied = match operation {
            Ok(operation) => self.apply(account, operation).await,
            Err(failure) => Err(failure),
        };
        match applied {
            Ok(Applied::Created(id)) => pb::MailboxResponse {
                mailbox_id: id.get(),
                failure: None,
            },
            Ok(_) => pb::MailboxResponse::default(),
            Err(failure) => pb::MailboxResponse {
                mailbox_id: 0,
                failure: Some(failure),
            },
        }
    }
}
