//! The queue as a whole: its parts, and how they find each other.

use std::sync::Arc;

use arc_swap::ArcSwap;
use mail_rpc::pb::queue::v1::delivery_agent_service_server::DeliveryAgentServiceServer;
use mail_rpc::pb::queue::v1::queue_admin_service_server::QueueAdminServiceServer;
use mail_rpc::pb::queue::v1::submission_service_server::SubmissionServiceServer;
use mail_types::QueueId;
use queue_store::{CHUNK_SIZE, Committer, QueueStore, StoreError};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

use crate::admin::Admin;
use crate::agents::Agents;
use crate::clock::Clock;
use crate::driver::{self, Event};
use crate::router::{Resolve, Router};
use crate::settings::Settings;
use crate::submission::Submission;

/// A running queue; cheap to clone.
#[derive(Clone, Debug)]
pub struct Queue(Arc<Parts>);

/// What the parts of a queue share.
pub struct Parts {
    settings: Arc<ArcSwap<Settings>>,
    pub(crate) store: Arc<dyn QueueStore>,
    pub(crate) committer: Committer,
    pub(crate) router: Router,
    pub(crate) clock: Clock,
    /// To the driver. Not bounded itself: mail that comes in carries its share of
    /// `incoming_memory`, each agent's reports have places, answers are bounded by what was asked.
    pub(crate) events: mpsc::UnboundedSender<Event>,
    /// Octets of mail that is coming in, each message in one frame.
    pub(crate) incoming: Arc<Semaphore>,
    /// How many there are in all; no message may ask for more.
    pub(crate) incoming_total: u32,
    /// Octets of mail that is coming in piece by piece. Apart from the others: these last as long
    /// as a slow client likes, and whoever waited for them would stop the stream that they end on.
    pub(crate) uploads: Arc<Semaphore>,
    pub(crate) shutdown: CancellationToken,
    /// Cancelled when what was in the store is in the schedule.
    pub(crate) restored: CancellationToken,
    /// Cancelled when the agents have no more tasks.
    pub(crate) drained: CancellationToken,
    pub(crate) tracker: TaskTracker,
    /// Messages from this id on came in after the start.
    pub(crate) first_new: QueueId,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl std::ops::Deref for Queue {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Queue {
    /// Starts the queue on the current runtime. New mail is accepted from then on; what is in the
    /// store comes into the schedule meanwhile. The queue drains when `shutdown` is cancelled, and cancels it itself
    /// when the store fails; its tasks are on `tracker`.
    pub fn start(
        settings: Settings,
        store: Arc<dyn QueueStore>,
        directory: Arc<dyn Resolve>,
        shutdown: CancellationToken,
        tracker: TaskTracker,
    ) -> std::io::Result<Self> {
        // Half for each kind; one message of either must fit, whatever is configured.
        let incoming = (settings.incoming_memory / 2).max(2 * CHUNK_SIZE);
        let incoming = incoming.min(Semaphore::MAX_PERMITS);
        let incoming_total = u32::try_from(incoming).unwrap_or(u32::MAX);
        let settings = Arc::new(ArcSwap::from_pointee(settings));
        let first_new = store.new_id().map_err(std::io::Error::other)?;
        let committer = Committer::start(store.clone())?;
        let (events, queue) = mpsc::unbounded_channel();
        let parts = Parts {
            router: Router::new(directory, settings.clone()),
            settings,
            store,
            committer,
            clock: Clock::start(),
            events,
            incoming: Arc::new(Semaphore::new(incoming_total as usize)),
            incoming_total,
            uploads: Arc::new(Semaphore::new(incoming)),
            shutdown,
            restored: CancellationToken::new(),
            drained: CancellationToken::new(),
            tracker,
            first_new,
        };
        let started = Self(Arc::new(parts));
        let driven = started.clone();
        started.tracker.spawn(driver::run(driven, queue));
        Ok(started)
    }

    /// Changes the settings. Memory for mail that comes in stays as it was at the start.
    pub fn configure(&self, settings: Settings) {
        let settings = Arc::new(settings);
        self.settings.store(settings.clone());
        self.tell(Event::Settings(settings));
    }

    /// The settings as they are now.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Why the process must end, if it must.
    pub fn failure(&self) -> Option<StoreError> {
        self.committer.failure().cloned()
    }

    /// Waits until what was in the store is in the schedule.
    pub async fn restored(&self) {
        self.restored.cancelled().await;
    }

    /// Waits until the queue has ended: after `shutdown`, when no agent has a task any more.
    pub async fn drained(&self) {
        self.drained.cancelled().await;
    }

    /// For the submission socket.
    pub fn submission_routes(&self) -> Routes {
        Routes::new(SubmissionServiceServer::new(Submission::new(self.clone())))
    }

    /// For the agents' socket.
    pub fn agent_routes(&self) -> Routes {
        Routes::new(DeliveryAgentServiceServer::new(Agents::new(self.clone())))
    }

    /// For the operators' socket.
    pub fn admin_routes(&self) -> Routes {
        Routes::new(QueueAdminServiceServer::new(Admin::new(self.clone())))
    }

    /// Tells the driver. It ends only behind everybody who could tell it anything.
    pub(crate) fn tell(&self, event: Event) {
        if self.events.send(event).is_err() {
            tracing::debug!("the driver has ended");
        }
    }
}
