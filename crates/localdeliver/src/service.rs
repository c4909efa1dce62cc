//! MailboxService and MailboxAdminService: the contract's verbs, a file for each group.

mod append;
mod changes;
mod export;
mod fetch;
mod import;
mod listing;
mod maintain;
mod watch;

use std::pin::Pin;
use std::sync::Arc;

use daemon_kit::Context;
use futures_util::Stream;
use mail_rpc::convert::uid_set;
use mail_rpc::pb::mailbox::v1 as pb;
use mail_types::{AccountId, UidSet};
use mailbox_store::Account;
use pb::failure::Kind;
use pb::mailbox_admin_service_server::MailboxAdminService;
use pb::mailbox_service_server::MailboxService;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::budget::Budget;
use crate::convert::{failure, out_of_range, store_failed};
use crate::search::{self, Key};
use crate::stores::{StoreResult, Stores, now};
use watch::Locks;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service; clones are the same one.
#[derive(Clone)]
pub(crate) struct Service(Arc<Inner>);

struct Inner {
    context: Context,
    stores: Stores,
    locks: Locks,
    budget: Budget,
    searches: Semaphore,
    /// Told with what accounts tell of their own epoch: another process begins another history.
    epoch: u64,
}

impl Service {
    pub(crate) fn new(context: &Context, stores: Stores) -> Self {
        let config = context.config();
        Self(Arc::new(Inner {
            context: context.clone(),
            stores,
            locks: Locks::default(),
            budget: Budget::new(config.localdeliver.max_memory.bytes() / 2),
            searches: Semaphore::new(config.localdeliver.max_searches.max(1)),
            epoch: rand::random(),
        }))
    }

    /// Answers that `work` sends in the background, until it is done, the caller goes or we end.
    fn answer<T, F>(
        &self,
        waiting: usize,
        work: impl FnOnce(Self, mpsc::Sender<Result<T, Status>>) -> F,
    ) -> Answers<T>
    where
        T: Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel(waiting);
        let caller = sender.clone();
        let work = work(self.clone(), sender);
        let shutdown = self.0.context.shutdown().clone();
        self.0.context.spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = caller.closed() => {}
                () = work => {}
            }
        });
        self.until_shutdown(ReceiverStream::new(receiver))
    }

    /// Ends a stream of answers when the daemon ends, so that its end does not wait for clients.
    fn until_shutdown<T: Send + 'static>(
        &self,
        answers: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> Answers<T> {
        let shutdown = self.0.context.shutdown().clone().cancelled_owned();
        Box::pin(futures_util::StreamExt::take_until(answers, shutdown))
    }

    async fn search(&self, request: pb::SearchRequest) -> Result<pb::SearchResponse, Status> {
        let account = AccountId::from(request.account_id);
        let within = uid_set(request.within.as_ref())?;
        let key = request.key.ok_or_else(|| out_of_range("search"))?;
        let mailbox = request.mailbox_id.into();
        let _place = self.0.searches.acquire().await;
        let found = self.0.stores.with(account, move |account| {
            let Some(keywords) = account.keywords(mailbox) else {
                return Ok(None);
            };
            let Ok(mut key) = Key::compile(&key, &keywords, 0) else {
                return Ok(Some(Err(out_of_range("search key"))));
            };
            key.sort();
            run_search(account, mailbox, &within, &key).map(|found| Some(Ok(found)))
        });
        Ok(match found.await {
            Ok(Some(found)) => found?,
            Ok(None) => {
                let gone = failure(Kind::NoSuchMailbox, "there is no such mailbox");
                pb::SearchResponse {
                    failure: Some(gone),
                    ..Default::default()
                }
            }
            Err(error) => pb::SearchResponse {
                failure: Some(store_failed(&error)),
                ..Default::default()
            },
        })
    }
}

fn run_search(
    account: &Account,
    mailbox: mail_types::MailboxId,
    within: &UidSet,
    key: &Key,
) -> StoreResult<pb::SearchResponse> {
    let found = search::run(account, mailbox, within, key, now())?;
    Ok(pb::SearchResponse {
        uids: Some((&found.uids).into()),
        highest_modseq: found.highest,
        failure: None,
    })
}

#[tonic::async_trait]
impl MailboxService for Service {
    type WatchStream = Answers<pb::WatchEvent>;
    type FetchStream = Answers<pb::FetchResponse>;
    type AppendStream = Answers<pb::AppendResponse>;

    async fn watch(
        &self,
        request: Request<pb::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(
            self.watch_mailbox(request.into_inner()).await,
        ))
    }

    async fn fetch(
        &self,
        requests: Request<Streaming<pb::FetchRequest>>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        Ok(Response::new(self.fetch_messages(requests.into_inner())))
    }

    async fn append(
        &self,
        requests: Request<Streaming<pb::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        Ok(Response::new(self.append_messages(requests.into_inner())))
    }

    async fn store(
        &self,
        request: Request<pb::StoreRequest>,
    ) -> Result<Response<pb::StoreResponse>, Status> {
        self.change_flags(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn copy(
        &self,
        request: Request<pb::CopyRequest>,
    ) -> Result<Response<pb::CopyResponse>, Status> {
        self.copy_messages(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn expunge(
        &self,
        request: Request<pb::ExpungeRequest>,
    ) -> Result<Response<pb::ExpungeResponse>, Status> {
        self.expunge_messages(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn search(
        &self,
        request: Request<pb::SearchRequest>,
    ) -> Result<Response<pb::SearchResponse>, Status> {
        Self::search(self, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_mailboxes(
        &self,
        request: Request<pb::ListMailboxesRequest>,
    ) -> Result<Response<pb::ListMailboxesResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await))
    }

    async fn get_status(
        &self,
        request: Request<pb::GetStatusRequest>,
    ) -> Result<Response<pb::GetStatusResponse>, Status> {
        Ok(Response::new(self.statuses(request.into_inner()).await))
    }

    async fn create_mailbox(
        &self,
        request: Request<pb::CreateMailboxRequest>,
    ) -> Result<Response<pb::MailboxResponse>, Status> {
        Ok(Response::new(self.create(request.into_inner()).await))
    }

    async fn delete_mailbox(
        &self,
        request: Request<pb::DeleteMailboxRequest>,
    ) -> Result<Response<pb::MailboxResponse>, Status> {
        Ok(Response::new(self.delete(request.into_inner()).await))
    }

    async fn rename_mailbox(
        &self,
        request: Request<pb::RenameMailboxRequest>,
    ) -> Result<Response<pb::MailboxResponse>, Status> {
        Ok(Response::new(self.rename(request.into_inner()).await))
    }

    async fn subscribe(
        &self,
        request: Request<pb::SubscribeRequest>,
    ) -> Result<Response<pb::MailboxResponse>, Status> {
        Ok(Response::new(
            self.change_subscription(request.into_inner()).await,
        ))
    }
}

#[tonic::async_trait]
impl MailboxAdminService for Service {
    type MaintainStream = Answers<pb::MaintainEvent>;
    type ExportStream = Answers<pb::ExportItem>;
    type ImportStream = Answers<pb::ImportResponse>;

    async fn maintain(
        &self,
        request: Request<pb::MaintainRequest>,
    ) -> Result<Response<Self::MaintainStream>, Status> {
        self.maintain_account(&request.into_inner())
            .map(Response::new)
    }

    async fn list_stores(
        &self,
        _: Request<pb::ListStoresRequest>,
    ) -> Result<Response<pb::ListStoresResponse>, Status> {
        Ok(Response::new(self.stored().await))
    }

    async fn export(
        &self,
        request: Request<pb::ExportRequest>,
    ) -> Result<Response<Self::ExportStream>, Status> {
        let account = AccountId::from(request.into_inner().account_id);
        Ok(Response::new(self.export_account(account)))
    }

    async fn import(
        &self,
        requests: Request<Streaming<pb::ImportRequest>>,
    ) -> Result<Response<Self::ImportStream>, Status> {
        Ok(Response::new(self.import_messages(requests.into_inner())))
    }

    async fn remove_account(
        &self,
        request: Request<pb::RemoveAccountRequest>,
    ) -> Result<Response<pb::RemoveAccountResponse>, Status> {
        let account = AccountId::from(request.into_inner().account_id);
        let result = self.0.stores.remove_account(account).await;
        let failure = result.err().map(|error| store_failed(&error));
        Ok(Response::new(pb::RemoveAccountResponse { failure }))
    }

    async fn get_usage(
        &self,
        request: Request<pb::GetUsageRequest>,
    ) -> Result<Response<pb::GetUsageResponse>, Status> {
        let account = AccountId::from(request.into_inner().account_id);
        let usage = self
            .0
            .stores
            .with(account, |account| Ok(account.usage()))
            .await;
        Ok(Response::new(match usage {
            Ok(usage) => pb::GetUsageResponse {
                messages: usage.messages,
                bytes: usage.bytes,
                mailboxes: u32::try_from(usage.mailboxes).unwrap_or(u32::MAX),
                failure: None,
            },
            Err(error) => pb::GetUsageResponse {
                failure: Some(store_failed(&error)),
                ..pb::GetUsageResponse::default()
            },
        }))
    }
}
