//! What an address is, for all daemons that route or refuse mail.

use std::pin::Pin;

use daemon_kit::Context;
use futures_util::{Stream, StreamExt};
use mail_rpc::pb::directory::v1 as pb;
use mail_types::EmailAddress;
use pb::directory_service_server::DirectoryService;
use pb::resolve_response::Result as Answer;
use tokio::task::spawn_blocking;
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::error;

use crate::names::qualified;
use crate::store::{Account, Found, Reader, Store};

/// How many questions that wait already are answered from one look at the database.
const BATCH: usize = 64;

/// Serves `DirectoryService`.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) context: Context,
    pub(crate) store: Store,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl DirectoryService for Service {
    type ResolveStream = Answers<pb::ResolveResponse>;
    type WatchChangesStream = Answers<pb::DirectoryChanged>;

    async fn resolve(
        &self,
        request: Request<Streaming<pb::ResolveRequest>>,
    ) -> Result<Response<Self::ResolveStream>, Status> {
        let (store, context) = (self.store.clone(), self.context.clone());
        let answers = request
            .into_inner()
            .ready_chunks(BATCH)
            .then(move |batch| answer(store.clone(), context.clone(), batch))
            .flat_map(futures_util::stream::iter)
            .take_until(self.context.shutdown().clone().cancelled_owned());
        Ok(Response::new(Box::pin(answers)))
    }

    async fn watch_changes(
        &self,
        _request: Request<pb::WatchChangesRequest>,
    ) -> Result<Response<Self::WatchChangesStream>, Status> {
        let changes = WatchStream::new(self.store.changes())
            .map(|generation| pb::DirectoryChanged { generation })
            .map(Ok)
            .take_until(self.context.shutdown().clone().cancelled_owned());
        Ok(Response::new(Box::pin(changes)))
    }
}

type Batch = Vec<Result<pb::ResolveRequest, Status>>;

async fn answer(
    store: Store,
    context: Context,
    batch: Batch,
) -> Vec<Result<pb::ResolveResponse, Status>> {
    let config = context.config();
    let postmaster = qualified(&config.directoryd.postmaster, &config.server.domain).ok();
    let looked_up = spawn_blocking(move || {
        let reader = store.reader();
        if let Err(error) = &reader {
            error!(%error, "cannot read the directory");
        }
        let find = |request: pb::ResolveRequest| pb::ResolveResponse {
            id: request.id,
            result: Some(match &reader {
                Ok(reader) => lookup(reader, &request.address, postmaster.as_ref()),
                Err(error) => unavailable(error),
            }),
        };
        batch.into_iter().map(|request| request.map(find)).collect()
    });
    looked_up
        .await
        .unwrap_or_else(|error| vec![Err(Status::internal(error.to_string()))])
}

fn lookup(reader: &Reader, address: &str, postmaster: Option<&EmailAddress>) -> Answer {
    let Ok(address) = address.parse::<EmailAddress>() else {
        // No address of ours, and none that could be sent to either; the asker has checked it.
        return Answer::NotLocal(pb::NotLocal {});
    };
    match reader.find(&address, postmaster) {
        Ok(Found::Account(found)) => Answer::Account(account(&found)),
        Ok(Found::Alias { address, targets }) => Answer::Alias(pb::Alias {
            address: address.to_string(),
            targets: targets.iter().map(ToString::to_string).collect(),
        }),
        Ok(Found::NoSuchUser) => Answer::NoSuchUser(pb::NoSuchUser {}),
        Ok(Found::NotLocal) => Answer::NotLocal(pb::NotLocal {}),
        Err(error) => {
            error!(%error, %address, "cannot look up an address");
            unavailable(&error)
        }
    }
}

fn unavailable(error: &dyn std::error::Error) -> Answer {
    Answer::Unavailable(pb::Unavailable {
        reason: error.to_string(),
    })
}

/// The message of an account.
pub(crate) fn account(account: &Account) -> pb::Account {
    pb::Account {
        account_id: account.id.get(),
        address: account.address.to_string(),
        quota_bytes: account.quota,
    }
}
