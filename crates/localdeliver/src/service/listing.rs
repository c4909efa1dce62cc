//! ListMailboxes, GetStatus, and the verbs that change the list.

use mail_rpc::pb::mailbox::v1 as pb;
use mail_types::AccountId;
use mailbox_store::{Operation, Target};
use pb::failure::Kind;

use super::Service;
use crate::convert::{failure, name, special_use_in, special_use_out, store_failed};

impl Service {
    pub(super) async fn list(
        &self,
        request: pb::ListMailboxesRequest,
    ) -> pb::ListMailboxesResponse {
        let account = AccountId::from(request.account_id);
        let read = self.0.stores.with(account, |account| {
            Ok((account.mailboxes(), account.subscriptions()))
        });
        match read.await {
            Ok((mailboxes, subscriptions)) => pb::ListMailboxesResponse {
                mailboxes: mailboxes
                    .into_iter()
                    .map(|mailbox| pb::MailboxEntry {
                        mailbox_id: mailbox.id.get(),
                        name: mailbox.name,
                        special_use: special_use_out(mailbox.special_use).into(),
                    })
                    .collect(),
                subscriptions,
                failure: None,
            },
            Err(error) => pb::ListMailboxesResponse {
                failure: Some(store_failed(&error)),
                ..pb::ListMailboxesResponse::default()
            },
        }
    }

    pub(super) async fn statuses(&self, request: pb::GetStatusRequest) -> pb::GetStatusResponse {
        let account = AccountId::from(request.account_id);
        let names = request.names.clone();
        let read = self.0.stores.with(account, move |account| {
            let statuses = names.iter().map(|text| {
                let status = match name(text) {
                    Ok(name) => account
                        .status(&Target::Name(name))
                        .ok_or_else(|| failure(Kind::NoSuchMailbox, "there is no such mailbox")),
                    Err(failure) => Err(failure),
                };
                status_message(text, status)
            });
            Ok(statuses.collect())
        });
        let statuses = read.await.unwrap_or_else(|error| {
            let failed = |text: &String| status_message(text, Err(store_failed(&error)));
            request.names.iter().map(failed).collect()
        });
        pb::GetStatusResponse { statuses }
    }

    pub(super) async fn create(&self, request: pb::CreateMailboxRequest) -> pb::MailboxResponse {
        let special_use = special_use_in(request.special_use());
        let operation = name(&request.name).map(|name| Operation::Create(name, special_use));
        self.mailbox_verb(request.account_id, operation).await
    }

    pub(super) async fn delete(&self, request: pb::DeleteMailboxRequest) -> pb::MailboxResponse {
        let operation = name(&request.name).map(Operation::Delete);
        self.mailbox_verb(request.account_id, operation).await
    }

    pub(super) async fn rename(&self, request: pb::RenameMailboxRequest) -> pb::MailboxResponse {
        let operation = name(&request.name)
            .and_then(|old| name(&request.new_name).map(|new| Operation::Rename(old, new)));
        self.mailbox_verb(request.account_id, operation).await
    }

    pub(super) async fn change_subscription(
        &self,
        request: pb::SubscribeRequest,
    ) -> pb::MailboxResponse {
        let subscribed = request.subscribed;
        let operation = name(&request.name).map(|name| Operation::Subscribe(name, subscribed));
        self.mailbox_verb(request.account_id, operation).await
    }
}

fn status_message(
    name: &str,
    status: Result<mailbox_store::MailboxStatus, pb::Failure>,
) -> pb::MailboxStatus {
    let name = name.to_owned();
    match status {
        Ok(status) => pb::MailboxStatus {
            name,
            mailbox_id: status.id.get(),
            messages: status.messages,
            recent: status.recent,
            uid_next: status.uid_next,
            uid_validity: status.uid_validity,
            unseen: status.unseen,
            highest_modseq: status.highest_modseq,
            size: status.size,
            deleted: status.deleted,
            failure: None,
        },
        Err(failure) => pb::MailboxStatus {
            name,
            failure: Some(failure),
            ..pb::MailboxStatus::default()
        },
    }
}
