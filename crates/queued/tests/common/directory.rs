use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures_util::{Stream, StreamExt};
use mail_rpc::pb::directory::v1 as pb;
use pb::directory_service_server::{DirectoryService, DirectoryServiceServer};
use pb::resolve_response::Result as Answer;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

/// Knows what it was told; other names of `aula.test` are nobody, other domains are not ours.
#[derive(Clone, Default)]
pub struct FakeDirectory(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    known: HashMap<String, Answer>,
    unavailable: bool,
}

impl FakeDirectory {
    pub fn account(&self, address: &str, id: u64) {
        let account = pb::Account {
            account_id: id,
            address: address.to_owned(),
            quota_bytes: 1000 * id,
        };
        self.set(address, Answer::Account(account));
    }

    pub fn alias(&self, address: &str, targets: &[&str]) {
        let alias = pb::Alias {
            address: address.to_owned(),
            targets: targets.iter().map(|&target| target.to_owned()).collect(),
        };
        self.set(address, Answer::Alias(alias));
    }

    pub fn set_unavailable(&self, unavailable: bool) {
        self.0.lock().unwrap().unavailable = unavailable;
    }

    fn set(&self, address: &str, answer: Answer) {
        let mut state = self.0.lock().unwrap();
        state.known.insert(address.to_owned(), answer);
    }

    pub fn routes(&self) -> Routes {
        Routes::new(DirectoryServiceServer::new(self.clone()))
    }

    fn answer(&self, address: &str) -> Answer {
        let state = self.0.lock().unwrap();
        if state.unavailable {
            let reason = "out for lunch".to_owned();
            return Answer::Unavailable(pb::Unavailable { reason });
        }
        match state.known.get(&address.to_lowercase()) {
            Some(answer) => answer.clone(),
            None if address.ends_with("@aula.test") => Answer::NoSuchUser(pb::NoSuchUser {}),
            None => Answer::NotLocal(pb::NotLocal {}),
        }
    }
}

type Boxed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl DirectoryService for FakeDirectory {
    type ResolveStream = Boxed<pb::ResolveResponse>;
    type WatchChangesStream = Boxed<pb::DirectoryChanged>;

    async fn resolve(
        &self,
        requests: Request<Streaming<pb::ResolveRequest>>,
    ) -> Result<Response<Self::ResolveStream>, Status> {
        let this = self.clone();
        let answers = requests.into_inner().map(move |request| {
            let request = request?;
            let result = Some(this.answer(&request.address));
            Ok(pb::ResolveResponse {
                id: request.id,
                result,
            })
        });
        Ok(Response::new(answers.boxed()))
    }

    /// There is no feed, so nothing is cached and each question arrives.
    async fn watch_changes(
        &self,
        _: Request<pb::WatchChangesRequest>,
    ) -> Result<Response<Self::WatchChangesStream>, Status> {
        Err(Status::unimplemented("no feed"))
    }
}
