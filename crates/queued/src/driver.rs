//! Runs the scheduler: brings it what happens and does what it wants.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mail_rpc::pb::queue::v1 as pb;
use mail_types::QueueId;
use queue_store::{Op, Scanned, StoreError};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tonic::Status;
use tracing::{error, info};

use crate::queue::Queue;
use crate::router::Resolved;
use crate::scheduler::{
    Accepted, Action, AgentId, Attempt, Counts, Lane, Loaded, Report, Scheduler, State, Then,
    Ticket, Verb,
};
use crate::settings::Settings;
use crate::submission::Share;
use crate::{read, report};

/// What happens.
#[derive(Debug)]
pub(crate) enum Event {
    Accepted(Accepted, Option<Share>),
    Attach {
        lane: Lane,
        name: String,
        max_tasks: usize,
        max_octets: usize,
        messages: mpsc::Sender<Result<pb::QueueMessage, Status>>,
        reply: oneshot::Sender<AgentId>,
    },
    Change(Verb, Vec<QueueId>, Arc<Ticket>),
    Committed(Result<Vec<Then>, StoreError>),
    Count(oneshot::Sender<Counts>),
    Detach(AgentId),
    Loaded(Vec<(QueueId, Loaded)>),
    Reported(Report),
    Resolved(u64, Resolved),
    Settings(Arc<Settings>),
    States(Vec<QueueId>, oneshot::Sender<Vec<Option<Known>>>),
    TaskReport {
        /// Its place among the agent's reports that are under way.
        permit: OwnedSemaphorePermit,
        agent: AgentId,
        task: u64,
        attempts: Vec<Attempt>,
        destination_down: bool,
    },
}

/// A message's state and when its next attempt is due in Unix milliseconds.
pub(crate) type Known = (State, Option<u64>);

/// Events taken at once.
const EVENTS: usize = 512;
/// Pages of records that are read ahead at the start.
const PAGES: usize = 4;
/// How often the gauges are set.
const GAUGES: Duration = Duration::from_secs(10);
/// And no more of the time than a two-hundredth.
const GAUGES_SHARE: u32 = 200;

struct Driver {
    queue: Queue,
    scheduler: Scheduler,
    agents: HashMap<AgentId, mpsc::Sender<Result<pb::QueueMessage, Status>>>,
    /// Batches on their way to the disk.
    commits: usize,
    /// Messages that were in the store at the start.
    restored: u64,
}

/// Runs until the queue is drained or the store fails.
pub(crate) async fn run(queue: Queue, mut events: mpsc::UnboundedReceiver<Event>) {
    let mut driver = Driver {
        scheduler: Scheduler::new(queue.settings()),
        queue,
        agents: HashMap::new(),
        commits: 0,
        restored: 0,
    };
    let found = driver.read_store();
    driver.drive(&mut events, found).await;
    // Whoever waits for it learns that nothing comes any more.
    driver.queue.restored.cancel();
    // The agents' streams end with their senders.
    driver.agents.clear();
    driver.queue.drained.cancel();
}

/// Some of what was in the store at the start.
type Found = Result<Vec<Scanned>, StoreError>;

impl Driver {
    /// Reads what is in the store, while new mail comes in already. The thread ends with the
    /// receiver.
    fn read_store(&self) -> mpsc::Receiver<Found> {
        let (pages, found) = mpsc::channel(PAGES);
        let store = self.queue.store.clone();
        tokio::task::spawn_blocking(move || {
            let read = store.recover(&mut |page| pages.blocking_send(Ok(page)).is_ok());
            if let Err(failure) = read {
                // The driver may have ended.
                let _ = pages.blocking_send(Err(failure));
            }
        });
        found
    }

    /// Takes what was found; true while there may be more.
    fn restore(&mut self, found: Option<Found>) -> Result<bool, StoreError> {
        let Some(found) = found else {
            info!(messages = self.restored, "queue.restored");
            self.queue.restored.cancel();
            return Ok(false);
        };
        let now = self.queue.clock.now();
        for item in found? {
            match item {
                Scanned::Damaged(id) => error!(qid = %id, "msg.damaged"),
                // It came in meanwhile, and is in the schedule by that.
                Scanned::Message(message) if message.id >= self.queue.first_new => {}
                Scanned::Message(message) => {
                    self.scheduler.restore(now, *message);
                    self.restored += 1;
                }
            }
        }
        Ok(true)
    }

    async fn drive(
        &mut self,
        events: &mut mpsc::UnboundedReceiver<Event>,
        mut found: mpsc::Receiver<Found>,
    ) {
        let mut restoring = true;
        let shutdown = self.queue.shutdown.clone();
        let mut taken = Vec::with_capacity(EVENTS);
        let mut draining = false;
        let mut gauges = tokio::time::interval(GAUGES);
        loop {
            self.act();
            if draining && self.scheduler.tasks() == 0 && self.commits == 0 {
                return;
            }
            let wake = self.wake();
            tokio::select! {
                biased;
                () = shutdown.cancelled(), if !draining => {
                    info!(tasks = self.scheduler.tasks(), "queue.draining");
                    draining = true;
                    self.scheduler.drain();
                }
                _ = events.recv_many(&mut taken, EVENTS) => {}
                page = found.recv(), if restoring => match self.restore(page) {
                    Ok(more) => restoring = more,
                    Err(failure) => return self.fail(&failure),
                },
                () = sleep_until(wake) => {}
                _ = gauges.tick() => {
                    // A committer that panicked says nothing any more.
                    if let Some(failure) = self.queue.failure() {
                        return self.fail(&failure);
                    }
                    let begun = Instant::now();
                    self.set_gauges();
                    // With a million messages that takes a while, and others wait meanwhile.
                    gauges.reset_after(GAUGES.max(begun.elapsed() * GAUGES_SHARE));
                }
            }
            for event in taken.drain(..) {
                if let Err(failure) = self.handle(event) {
                    return self.fail(&failure);
                }
            }
            // Here too: old mail gets its turn however much new mail comes in.
            if restoring && let Ok(page) = found.try_recv() {
                match self.restore(Some(page)) {
                    Ok(more) => restoring = more,
                    Err(failure) => return self.fail(&failure),
                }
            }
            let now = self.queue.clock.now();
            self.scheduler.handle_timeout(now);
        }
    }

    fn wake(&self) -> Instant {
        let now = self.queue.clock.now();
        let far = Duration::from_hours(1);
        let wait = self.scheduler.poll_timeout().map_or(far, |at| {
            Duration::from_millis(at.saturating_sub(now.steady)).min(far)
        });
        Instant::now() + wait
    }

    fn handle(&mut self, event: Event) -> Result<(), StoreError> {
        let now = self.queue.clock.now();
        match event {
            Event::Accepted(accepted, share) => {
                self.scheduler.accept(now, accepted);
                drop(share);
            }
            Event::Attach {
                lane,
                name,
                max_tasks,
                max_octets,
                messages,
                reply,
            } => {
                let id = self.scheduler.attach(lane, &name, max_tasks, max_octets);
                self.agents.insert(id, messages);
                if reply.send(id).is_err() {
                    self.detach(id);
                }
            }
            Event::Change(verb, ids, ticket) => self.scheduler.change(now, verb, &ids, &ticket),
            Event::Committed(thens) => {
                self.commits = self.commits.saturating_sub(1);
                for then in thens? {
                    self.scheduler.committed(now, then);
                }
            }
            // Whoever asked may be gone; then nobody misses the answer.
            Event::Count(reply) => drop(reply.send(self.scheduler.count())),
            Event::Detach(id) => self.detach(id),
            Event::Loaded(loaded) => {
                for (id, loaded) in loaded {
                    self.scheduler.loaded(now, id, loaded);
                }
            }
            Event::Reported(report) => self.scheduler.reported(now, report),
            Event::Resolved(task, resolved) => self.scheduler.resolved(now, task, resolved),
            Event::Settings(settings) => self.scheduler.configure(now, settings),
            Event::States(ids, reply) => {
                let states = ids.into_iter().map(|id| self.scheduler.state(now, id));
                drop(reply.send(states.collect()));
            }
            Event::TaskReport {
                permit,
                agent,
                task,
                attempts,
                destination_down,
            } => {
                let scheduler = &mut self.scheduler;
                scheduler.report(now, agent, task, attempts, destination_down);
                drop(permit);
            }
        }
        Ok(())
    }

    fn detach(&mut self, id: AgentId) {
        self.agents.remove(&id);
        self.scheduler.detach(self.queue.clock.now(), id);
    }

    /// Does all that the scheduler wants. All changes of one turn are one request to the disk.
    fn act(&mut self) {
        let now = self.queue.clock.now();
        let (mut ops, mut thens, mut loads) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(action) = self.scheduler.poll_action(now) {
            match action {
                Action::Commit(more, then) => {
                    ops.extend(more);
                    thens.push(then);
                }
                Action::Load(id) => loads.push(id),
                Action::Report(request) => {
                    let queue = self.queue.clone();
                    self.queue.tracker.spawn(report::write(queue, request));
                }
                Action::Resolve { task, message } => {
                    let queue = self.queue.clone();
                    self.queue.tracker.spawn(async move {
                        let resolved = queue.router.resolve(&message).await;
                        queue.tell(Event::Resolved(task, resolved));
                    });
                }
                Action::Send(agent, message) => self.send(agent, message),
            }
        }
        if !ops.is_empty() {
            self.commit(ops, thens);
        }
        if !loads.is_empty() {
            let queue = self.queue.clone();
            self.queue.tracker.spawn_blocking(move || {
                let loaded = loads
                    .into_iter()
                    .map(|id| (id, read::load(&*queue.store, id)));
                queue.tell(Event::Loaded(loaded.collect()));
            });
        }
    }

    fn commit(&mut self, ops: Vec<Op>, thens: Vec<Then>) {
        self.commits += 1;
        let urgent = thens.iter().any(Then::is_urgent);
        let events = self.queue.events.clone();
        let done = move |result: Result<(), StoreError>| {
            // The driver waits for this one before it ends.
            let _ = events.send(Event::Committed(result.map(|()| thens)));
        };
        if urgent {
            self.queue.committer.commit(ops, Box::new(done));
        } else {
            self.queue.committer.commit_later(ops, Box::new(done));
        }
    }

    fn send(&mut self, agent: AgentId, message: pb::QueueMessage) {
        let Some(messages) = self.agents.get(&agent) else {
            return;
        };
        // There is room for all that an agent may have outstanding. One that is gone, or so slow
        // that even cancellations fill the channel, is not served any more.
        if messages.try_send(Ok(message)).is_err() {
            self.detach(agent);
        }
    }

    fn set_gauges(&self) {
        #[expect(clippy::cast_precision_loss, reason = "gauges are floating point")]
        let set = |name: &'static str, value: u64| metrics::gauge!(name).set(value as f64);
        let counts = self.scheduler.count();
        set("queued_incoming", counts.incoming);
        set("queued_active", counts.active);
        set("queued_deferred", counts.deferred);
        set("queued_held", counts.held);
        set("queued_octets", counts.octets);
        let now = self.queue.clock.now().wall;
        let oldest = counts.oldest.map_or(0, |at| now.saturating_sub(at) / 1000);
        set("queued_oldest_seconds", oldest);
        let stats = self.queue.committer.stats();
        metrics::counter!("queued_fsyncs_total").absolute(stats.batches);
        metrics::counter!("queued_changes_total").absolute(stats.ops);
        set("queued_fsync_seconds", stats.flushing.as_secs());
    }

    /// Mail that was acknowledged is on disk; what is in memory is not to be trusted any more.
    fn fail(&self, failure: &StoreError) {
        error!(%failure, "queue.failed");
        self.queue.shutdown.cancel();
    }
}
