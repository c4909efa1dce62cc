//! Changes and lists, for `correo`.

use std::pin::Pin;
use std::sync::Arc;

use daemon_kit::Context;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use mail_rpc::pb::directory::v1 as pb;
use mail_types::{AccountId, Domain, EmailAddress, Secret};
use pb::admin_refused::Reason;
use pb::admin_response::Result as Answer;
use pb::directory_admin_service_server::DirectoryAdminService;
use tokio::task::spawn_blocking;
use tonic::{Request, Response, Status};
use tracing::{error, info};

use crate::password::{self, Cost};
use crate::store::{ChangeError, Credentials, Refusal, Refused, Store, StoreError};

/// Serves `DirectoryAdminService`.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) context: Context,
    pub(crate) store: Store,
}

type Rows<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl DirectoryAdminService for Service {
    type ListDomainsStream = Rows<pb::DomainEntry>;
    type ListAccountsStream = Rows<pb::AccountEntry>;
    type ListAliasesStream = Rows<pb::AliasEntry>;

    async fn add_domain(
        &self,
        request: Request<pb::AddDomainRequest>,
    ) -> Result<Response<pb::AdminResponse>, Status> {
        let text = request.into_inner().domain;
        self.change("domain.added", text.clone(), move |store| {
            store.add_domain(&domain(&text)?).map(done)
        })
        .await
    }

    async fn remove_domain(
        &self,
        request: Request<pb::RemoveDomainRequest>,
    ) -> Result<Response<pb::AdminResponse>, Status> {
        let text = request.into_inner().domain;
        self.change("domain.removed", text.clone(), move |store| {
            store.remove_domain(&domain(&text)?).map(done)
        })
        .await
    }

    async fn list_domains(
        &self,
        _request: Request<pb::ListDomainsRequest>,
    ) -> Result<Response<Self::ListDomainsStream>, Status> {
        Ok(self.list(Store::domains, |row| pb::DomainEntry {
            domain: row.domain,
            accounts: row.accounts,
            aliases: row.aliases,
        }))
    }

    async fn add_account(
        &self,
        request: Request<pb::AddAccountRequest>,
    ) -> Result<Response<pb::AdminResponse>, Status> {
        let request = request.into_inner();
        let secret = Secret::new(request.password.to_vec());
        let cost = self.cost();
        self.change("account.added", request.address.clone(), move |store| {
            let address = address(&request.address)?;
            let credentials = credentials(&secret, &cost)?;
            store
                .add_account(&address, request.quota_bytes, &credentials)
                .map(|id| done_to(id, Vec::new()))
        })
        .await
    }

    async fn set_password(
        &self,
        request: Request<pb::SetPasswordRequest>,
    ) -> Result<Response<pb::AdminResponse>, Status> {
        let request = request.into_inner();
        let secret = Secret::new(request.password.to_vec());
        let cost = self.cost();
        self.change("account.password", request.address.clone(), move |store| {
            let address = address(&request.address)?;
            let credentials = credentials(&secret, &cost)?;
            store
                .set_credentials(&address, &credentials)
                .map(|id| done_to(id, Vec::new()))
        })
        .await
    }

    async fn set_quota(
        &self,
        request: Request<pb::SetQuotaRequest>,
    ) -> Result<Response<pb::AdminResponse>, Status> {
        let request = request.into_inner();
        self.change("account.quota", request.address.clone(), move |store| {
            store
                .set_quota(&address(&request.address)?, request.quota_bytes)
                .map(|id| done_to(id, Vec::new()))
        })
        .await
    }

    async fn remove_account(
        &self,
        request: Request<pb::RemoveAccountRequest>,
    ) -> Result<Response<pb::AdminResponse>, Status> {
        let text = request.into_inner().address;
        self.change("account.removed", text.clone(), move |store| {
            store
                .remove_account(&address(&text)?)
                .map(|id| done_to(id, Vec::new()))
        })
        .await
    }

    async fn list_accounts(
        &self,
        request: Request<pb::ListAccountsRequest>,
    ) -> Result<Response<Self::ListAccountsStream>, Status> {
        let only = only_domain(&request.into_inner().domain)?;
        Ok(self.list(
            move |store, after| store.accounts(only.as_ref(), after),
            |row| pb::AccountEntry {
                address: row.address.to_string(),
                account_id: row.id.get(),
                quota_bytes: row.quota,
            },
        ))
    }

    async fn add_alias(
        &self,
        request: Request<pb::AddAliasRequest>,
    ) -> Result<Response<pb::AdminResponse>, Status> {
        let request = request.into_inner();
        self.change("alias.added", request.alias.clone(), move |store| {
            let targets: Vec<_> = request
                .targets
                .iter()
                .map(|target| address(target))
                .collect::<Result<_, _>>()?;
            let added = store.add_alias(&address(&request.alias)?, &targets)?;
            let warn = |target: &EmailAddress| {
                format!("{target} does not exist yet: mail to it is refused until it is added")
            };
            Ok(done_to(0.into(), added.missing.iter().map(warn).collect()))
        })
        .await
    }

    async fn remove_alias(
        &self,
        request: Request<pb::RemoveAliasRequest>,
    ) -> Result<Response<pb::AdminResponse>, Status> {
        let text = request.into_inner().alias;
        self.change("alias.removed", text.clone(), move |store| {
            let left = store.remove_alias(&address(&text)?)?;
            let warn = |alias: &String| format!("{alias} still leads to {text}");
            Ok(done_to(0.into(), left.iter().map(warn).collect()))
        })
        .await
    }

    async fn list_aliases(
        &self,
        request: Request<pb::ListAliasesRequest>,
    ) -> Result<Response<Self::ListAliasesStream>, Status> {
        let only = only_domain(&request.into_inner().domain)?;
        Ok(self.list(
            move |store, after| store.aliases(only.as_ref(), after),
            |row| pb::AliasEntry {
                alias: row.alias.to_string(),
                targets: row.targets.iter().map(ToString::to_string).collect(),
            },
        ))
    }
}

impl Service {
    fn cost(&self) -> Cost {
        Cost::new(&self.context.config().directoryd)
    }

    /// Makes a change off the runtime's threads, since it hashes and syncs, and turns its result
    /// into an answer and a line in the log.
    async fn change(
        &self,
        event: &'static str,
        subject: String,
        change: impl FnOnce(Store) -> Result<pb::AdminDone, ChangeError> + Send + 'static,
    ) -> Result<Response<pb::AdminResponse>, Status> {
        let store = self.store.clone();
        let result = spawn_blocking(move || change(store))
            .await
            .map_err(|error| Status::internal(error.to_string()))?;
        let result = match result {
            Ok(done) => {
                info!(subject, "{event}");
                Answer::Done(done)
            }
            Err(ChangeError::Refused(refused)) => Answer::Refused(refusal(refused)),
            Err(ChangeError::Store(error)) => {
                error!(%error, subject, "the directory cannot be changed");
                return Err(Status::internal(error.to_string()));
            }
        };
        Ok(Response::new(pb::AdminResponse {
            result: Some(result),
        }))
    }

    /// Streams pages; the next one is read when the client has taken the last.
    fn list<R, M>(
        &self,
        page: impl Fn(&Store, &str) -> Result<(Vec<R>, Option<String>), StoreError>
        + Send
        + Sync
        + 'static,
        message: impl Fn(R) -> M + Send + Sync + 'static,
    ) -> Response<Rows<M>>
    where
        R: Send + 'static,
        M: Send + 'static,
    {
        let (page, store) = (Arc::new(page), self.store.clone());
        let pages = stream::try_unfold(Some(String::new()), move |after| {
            let (page, store) = (page.clone(), store.clone());
            async move {
                let Some(after) = after else {
                    return Ok::<_, Status>(None);
                };
                let read = spawn_blocking(move || page(&store, &after))
                    .await
                    .map_err(|error| Status::internal(error.to_string()))?;
                let (rows, next) = read.map_err(|error| Status::internal(error.to_string()))?;
                Ok(Some((stream::iter(rows.into_iter().map(Ok)), next)))
            }
        });
        Response::new(pages.try_flatten().map_ok(message).boxed())
    }
}

fn done(_: ()) -> pb::AdminDone {
    pb::AdminDone::default()
}

fn done_to(id: AccountId, warnings: Vec<String>) -> pb::AdminDone {
    pb::AdminDone {
        account_id: id.get(),
        warnings,
    }
}

fn refusal(refused: Refused) -> pb::AdminRefused {
    let reason = match refused.reason {
        Refusal::AlreadyExists => Reason::AlreadyExists,
        Refusal::InUse => Reason::InUse,
        Refusal::Invalid => Reason::Invalid,
        Refusal::Loop => Reason::Loop,
        Refusal::NoSuchAccount => Reason::NoSuchAccount,
        Refusal::NoSuchAlias => Reason::NoSuchAlias,
        Refusal::NoSuchDomain => Reason::NoSuchDomain,
        Refusal::NotEmpty => Reason::NotEmpty,
    };
    pb::AdminRefused {
        reason: reason.into(),
        detail: refused.detail,
    }
}

fn invalid(detail: String) -> Refused {
    Refused {
        reason: Refusal::Invalid,
        detail,
    }
}

fn domain(text: &str) -> Result<Domain, Refused> {
    text.parse()
        .map_err(|error| invalid(format!("{text:?} is no domain: {error}")))
}

fn address(text: &str) -> Result<EmailAddress, Refused> {
    text.parse()
        .map_err(|error| invalid(format!("{text:?} is no address: {error}")))
}

fn credentials(secret: &Secret<Vec<u8>>, cost: &Cost) -> Result<Credentials, Refused> {
    password::credentials(secret, cost).map_err(|error| invalid(error.to_string()))
}

fn only_domain(text: &str) -> Result<Option<Domain>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    domain(text)
        .map(Some)
        .map_err(|error| Status::invalid_argument(error.to_string()))
}
