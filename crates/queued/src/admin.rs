//! Queue control, for operators. Answers wait until all that was in the store at the start is
//! known.

mod select;

use mail_rpc::pb::queue::v1 as pb;
use mail_rpc::pb::queue::v1::queue_admin_service_server::QueueAdminService;
use mail_types::{EmailAddress, QueueId};
use queue_store::{Message, Progress, Recipient, Scanned};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::convert;
use crate::driver::{Event, Known};
use crate::queue::Queue;
use crate::read;
use crate::scheduler::{State, Ticket, Verb};
use select::Selection;

/// Records read at once, and ids that are changed at once.
const PAGE: usize = 256;
/// Entries that are made ahead of a slow reader.
const AHEAD: usize = 64;

#[derive(Debug)]
pub(crate) struct Admin(Queue);

impl Admin {
    pub(crate) fn new(queue: Queue) -> Self {
        Self(queue)
    }
}

#[tonic::async_trait]
impl QueueAdminService for Admin {
    type ListStream = ReceiverStream<Result<pb::QueueEntry, Status>>;
    type CatStream = ReceiverStream<Result<pb::ContentChunk, Status>>;

    async fn list(
        &self,
        request: Request<pb::ListRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let request = request.into_inner();
        let selection = Selection::new(request.selector)?;
        self.0.restored().await;
        let (entries, receiver) = mpsc::channel(AHEAD);
        let queue = self.0.clone();
        self.0.tracker.spawn(async move {
            let listing = list(&queue, &selection, request.limit, &entries).await;
            if let Err(status) = listing {
                // Nobody may read it any more.
                let _ = entries.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn show(
        &self,
        request: Request<pb::ShowRequest>,
    ) -> Result<Response<pb::ShowResponse>, Status> {
        let id = QueueId::from(request.into_inner().queue_id);
        self.0.restored().await;
        let store = self.0.store.clone();
        let message = read::blocking(move || store.load(id)).await?;
        let known = states(&self.0, vec![id]).await?;
        let (Some(message), Some(Some(known))) = (message, known.first()) else {
            return Ok(Response::new(pb::ShowResponse::default()));
        };
        let lifetime = self.0.settings().lifetime.as_millis();
        let lifetime = u64::try_from(lifetime).unwrap_or(u64::MAX);
        Ok(Response::new(pb::ShowResponse {
            origin: Some(convert::origin_to_pb(&message.envelope.origin)),
            expires_at: message.accepted_at.saturating_add(lifetime),
            entry: Some(entry(&message, *known)),
        }))
    }

    async fn cat(
        &self,
        request: Request<pb::CatRequest>,
    ) -> Result<Response<Self::CatStream>, Status> {
        let id = QueueId::from(request.into_inner().queue_id);
        self.0.restored().await;
        let chunks = read::stream(&self.0, id, |data| pb::ContentChunk { data }).await?;
        Ok(Response::new(ReceiverStream::new(chunks)))
    }

    async fn count(
        &self,
        request: Request<pb::CountRequest>,
    ) -> Result<Response<pb::CountResponse>, Status> {
        let selection = Selection::new(request.into_inner().selector)?;
        self.0.restored().await;
        let mut counts = pb::CountResponse::default();
        if selection.is_all() {
            let (reply, answer) = oneshot::channel();
            self.0.tell(Event::Count(reply));
            let all = answer.await.map_err(|_| gone())?;
            counts.incoming = all.incoming;
            counts.active = all.active;
            counts.deferred = all.deferred;
            counts.held = all.held;
            counts.bytes = all.octets;
            return Ok(Response::new(counts));
        }
        let mut walk = Walk::new(&self.0, &selection);
        while let Some(page) = walk.next().await? {
            for (message, (state, _)) in page {
                match state {
                    State::Active => counts.active += 1,
                    State::Deferred => counts.deferred += 1,
                    State::Held => counts.held += 1,
                    State::Incoming => counts.incoming += 1,
                }
                counts.bytes += message.size;
            }
        }
        Ok(Response::new(counts))
    }

    async fn change(
        &self,
        request: Request<pb::ChangeRequest>,
    ) -> Result<Response<pb::ChangeResponse>, Status> {
        let request = request.into_inner();
        let verb = match request.verb() {
            pb::change_request::Verb::Drop => Verb::Drop,
            pb::change_request::Verb::Flush => Verb::Flush,
            pb::change_request::Verb::Hold => Verb::Hold,
            pb::change_request::Verb::Release => Verb::Release,
            pb::change_request::Verb::Requeue => Verb::Requeue,
            pb::change_request::Verb::Unspecified => {
                return Err(Status::invalid_argument("which verb?"));
            }
        };
        let selection = Selection::new(request.selector)?;
        self.0.restored().await;
        let mut response = pb::ChangeResponse::default();
        let mut change = async |ids: Vec<QueueId>| {
            let (reply, answer) = oneshot::channel();
            self.0.tell(Event::Change(verb, ids, Ticket::new(reply)));
            let count = answer.await.map_err(|_| gone())?;
            response.changed += count.changed;
            response
                .unknown
                .extend(count.unknown.iter().map(|id| id.get()));
            Ok::<_, Status>(())
        };
        if let Some(ids) = selection.only_ids() {
            for ids in ids.chunks(PAGE) {
                change(ids.to_vec()).await?;
            }
            return Ok(Response::new(response));
        }
        let mut walk = Walk::new(&self.0, &selection);
        while let Some(page) = walk.next().await? {
            change(page.iter().map(|(message, _)| message.id).collect()).await?;
        }
        Ok(Response::new(response))
    }

    async fn explain(
        &self,
        request: Request<pb::ExplainRequest>,
    ) -> Result<Response<pb::ExplainResponse>, Status> {
        let address = request.into_inner().address;
        let address: EmailAddress = address
            .parse()
            .map_err(|error| Status::invalid_argument(format!("{address}: {error}")))?;
        let explained = self.0.router.explain(&address).await;
        let steps = explained.steps.into_iter().map(|step| pb::ExplainStep {
            depth: u32::try_from(step.depth).unwrap_or(u32::MAX),
            address: step.address.to_string(),
            finding: step.finding,
        });
        let targets = explained.targets.into_iter().map(|target| {
            let (transport, destination) = match &target.route {
                Ok(route) => convert::destination(route),
                Err(_) => (pb::Transport::Unspecified, String::new()),
            };
            pb::ExplainTarget {
                address: target.address.to_string(),
                transport: transport.into(),
                destination,
                failure: target.route.as_ref().err().map(Into::into),
            }
        });
        Ok(Response::new(pb::ExplainResponse {
            steps: steps.collect(),
            targets: targets.collect(),
        }))
    }
}

async fn list(
    queue: &Queue,
    selection: &Selection,
    limit: u64,
    entries: &mpsc::Sender<Result<pb::QueueEntry, Status>>,
) -> Result<(), Status> {
    let mut left = if limit == 0 { u64::MAX } else { limit };
    let mut walk = Walk::new(queue, selection);
    while let Some(page) = walk.next().await? {
        for (message, known) in page {
            if left == 0 || entries.send(Ok(entry(&message, known))).await.is_err() {
                return Ok(());
            }
            left -= 1;
        }
    }
    Ok(())
}

/// Goes through the queue page by page. What comes in meanwhile may or may not be met.
struct Walk<'a> {
    queue: &'a Queue,
    selection: &'a Selection,
    after: Option<QueueId>,
}

impl<'a> Walk<'a> {
    fn new(queue: &'a Queue, selection: &'a Selection) -> Self {
        Self {
            queue,
            selection,
            after: None,
        }
    }

    /// What the selection holds of the next page; `None` behind the last one.
    async fn next(&mut self) -> Result<Option<Vec<(Message, Known)>>, Status> {
        if let Some(ids) = self.selection.only_these() {
            // Asked for by id: then there is one page.
            if self.after.is_some() {
                return Ok(None);
            }
            self.after = Some(QueueId::from(u64::MAX));
            let (store, ids) = (self.queue.store.clone(), ids.to_vec());
            let load = move || ids.into_iter().map(|id| store.load(id)).collect();
            let found: Vec<Option<Message>> = read::blocking(load).await?;
            let found = found.into_iter().flatten().collect();
            return self.select(found).await.map(Some);
        }
        let (store, after) = (self.queue.store.clone(), self.after);
        let found = read::blocking(move || store.scan(after, PAGE)).await?;
        let Some(last) = found.last() else {
            return Ok(None);
        };
        self.after = Some(last.id());
        let found = found.into_iter().filter_map(|item| match item {
            Scanned::Message(message) => Some(*message),
            Scanned::Damaged(_) => None,
        });
        self.select(found.collect()).await.map(Some)
    }

    async fn select(&self, found: Vec<Message>) -> Result<Vec<(Message, Known)>, Status> {
        let now = self.queue.clock.now().wall;
        let found = found.into_iter();
        let found: Vec<_> = found.filter(|m| self.selection.matches(m, now)).collect();
        let ids = found.iter().map(|message| message.id).collect();
        let known = states(self.queue, ids).await?;
        let found = found.into_iter().zip(known);
        Ok(found
            .filter_map(|(message, known)| known.map(|known| (message, known)))
            .filter(|(_, (state, _))| self.selection.matches_state(*state))
            .collect())
    }
}

async fn states(queue: &Queue, ids: Vec<QueueId>) -> Result<Vec<Option<Known>>, Status> {
    let (reply, answer) = oneshot::channel();
    queue.tell(Event::States(ids, reply));
    answer.await.map_err(|_| gone())
}

fn gone() -> Status {
    Status::unavailable("the queue is shutting down")
}

fn entry(message: &Message, (state, next): Known) -> pb::QueueEntry {
    let recipients = message.recipients.iter();
    pb::QueueEntry {
        queue_id: message.id.get(),
        state: select::state_to_pb(state).into(),
        reverse_path: Some((&message.envelope.reverse_path).into()),
        size: message.size,
        accepted_at: message.accepted_at,
        next_attempt_at: next.unwrap_or(0),
        recipients: recipients.map(|r| recipient_entry(message, r)).collect(),
    }
}

fn recipient_entry(message: &Message, recipient: &Recipient) -> pb::RecipientEntry {
    let (transport, destination) = match &recipient.progress {
        Progress::Finished | Progress::Unrouted => (pb::Transport::Unspecified, String::new()),
        Progress::Waiting(route) => convert::destination(route),
    };
    // The address that the sender wrote: that of the outermost alias.
    let mut parent = recipient.parent;
    let mut original = None;
    while let Some(above) = parent.and_then(|index| message.recipients.get(index as usize)) {
        original = Some(above.address.to_string());
        parent = above.parent.filter(|next| Some(*next) < parent);
    }
    pb::RecipientEntry {
        address: recipient.address.to_string(),
        original,
        transport: transport.into(),
        destination,
        attempts: recipient.attempts,
        next_attempt_at: recipient.next_attempt_at,
        last: recipient.last.as_ref().map(Into::into),
        finished: recipient.is_finished(),
    }
}
