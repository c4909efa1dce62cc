//! The scheduler on a clock that moves when it is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mail_rpc::pb::queue::v1 as pb;
use mail_types::{EnhancedCode, Outcome, QueueId};
use queue_store::{
    BodyType, DsnReturn, Envelope, MemStore, Message, Notify, Origin, Progress, QueueStore,
    Recipient, Route,
};

use super::*;
use crate::read;
use crate::routes::RouteTable;

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

fn settings() -> Settings {
    Settings {
        hostname: "mx.aula.test".parse().unwrap(),
        retry_min: Duration::from_mins(1),
        retry_max: Duration::from_hours(4),
        lifetime: Duration::from_hours(120),
        min_attempts: 5,
        delay_warning: Duration::from_hours(4),
        destination_limit: 2,
        local_limit: 1000,
        task_recipients: 3,
        routing_limit: 16,
        memory: 1 << 20,
        incoming_memory: 1 << 20,
        stream_window: 16,
        max_recipients: 1000,
        alias_depth: 5,
        alias_width: 50,
        report_content: 64 * 1024,
        postmaster: None,
        routes: RouteTable::default(),
    }
}

/// A scheduler whose disk and reports are done at once, unless they are held up.
struct World {
    scheduler: Scheduler,
    store: MemStore,
    now: Now,
    tasks: Vec<(AgentId, pb::Task)>,
    reports: Vec<ReportRequest>,
    resolves: usize,
    disk_works: bool,
    unsaid: Vec<Then>,
}

impl World {
    fn new(settings: Settings) -> Self {
        Self {
            scheduler: Scheduler::new(Arc::new(settings)),
            store: MemStore::new(),
            now: Now {
                steady: 0,
                wall: 20_000 * DAY,
            },
            tasks: Vec::new(),
            reports: Vec::new(),
            resolves: 0,
            disk_works: true,
            unsaid: Vec::new(),
        }
    }

    fn run(&mut self) {
        self.scheduler.handle_timeout(self.now);
        while let Some(action) = self.scheduler.poll_action(self.now) {
            match action {
                Action::Commit(ops, then) => {
                    self.store.apply(&ops).unwrap();
                    if self.disk_works {
                        self.scheduler.committed(self.now, then);
                    } else {
                        self.unsaid.push(then);
                    }
                }
                Action::Load(id) => {
                    let loaded = read::load(&self.store, id);
                    self.scheduler.loaded(self.now, id, loaded);
                }
                Action::Report(request) => self.reports.push(request),
                Action::Resolve { .. } => self.resolves += 1,
                Action::Send(agent, message) => {
                    if let Some(pb::queue_message::Message::Task(task)) = message.message {
                        self.tasks.push((agent, task));
                    }
                }
            }
        }
    }

    fn pass(&mut self, millis: u64) {
        self.now.steady += millis;
        self.now.wall += millis;
        self.run();
    }

    /// Goes to the next time at which something is due. Answers how long that took.
    fn next(&mut self) -> u64 {
        let at = self.scheduler.poll_timeout().expect("something is due");
        let wait = at.saturating_sub(self.now.steady);
        self.pass(wait);
        wait
    }

    fn accept(&mut self, from: &str, to: &[&str]) -> QueueId {
        self.accept_message(message(&self.store, self.now.wall, from, to))
    }

    fn accept_message(&mut self, message: Message) -> QueueId {
        let id = message.id;
        let message = Arc::new(message);
        let content = Bytes::from_static(b"Subject: x\r\n\r\n");
        let insert = queue_store::Op::Insert {
            message: message.clone(),
            put_chunks: 0,
            tail: vec![content.clone()],
        };
        self.store.apply(&[insert]).unwrap();
        let content = Some(content);
        self.scheduler
            .accept(self.now, Accepted { message, content });
        self.run();
        id
    }

    fn agent(&mut self, lane: Lane, tasks: usize) -> AgentId {
        let id = self.scheduler.attach(lane, "test", tasks, 1 << 20);
        self.run();
        id
    }

    fn task(&mut self) -> (AgentId, pb::Task) {
        assert!(!self.tasks.is_empty(), "a task is there");
        self.tasks.remove(0)
    }

    fn report(&mut self, (agent, task): &(AgentId, pb::Task), outcome: &Outcome, down: bool) {
        self.report_as(&(*agent, task.clone()), outcome, false, down);
    }

    fn report_as(
        &mut self,
        (agent, task): &(AgentId, pb::Task),
        outcome: &Outcome,
        reports_passed_on: bool,
        down: bool,
    ) {
        let attempts = task.recipients.iter().map(|recipient| Attempt {
            index: recipient.index,
            outcome: outcome.clone(),
            reports_passed_on,
        });
        let attempts = attempts.collect();
        self.scheduler
            .report(self.now, *agent, task.task_id, attempts, down);
        self.run();
    }

    /// The report is written.
    fn reported(&mut self) -> ReportRequest {
        let request = self.reports.remove(0);
        let message = message(&self.store, self.now.wall, "", &["ana@remote.test"]);
        let report = Report {
            about: request.message.id,
            notices: request.notices.clone(),
            message: Arc::new(message),
            chunks: vec![Bytes::from_static(b"Subject: y\r\n\r\n")],
        };
        self.scheduler.reported(self.now, report);
        self.run();
        request
    }

    /// The process dies and starts again.
    fn restart(&mut self) {
        self.scheduler = Scheduler::new(self.scheduler.settings.clone());
        self.tasks.clear();
        self.reports.clear();
        self.now.steady = 0;
        for item in self.store.scan(None, usize::MAX).unwrap() {
            let queue_store::Scanned::Message(message) = item else {
                panic!("damaged");
            };
            self.scheduler.restore(self.now, *message);
        }
        self.run();
    }

    fn on_disk(&self, id: QueueId) -> Option<Message> {
        self.store.load(id).unwrap()
    }
}

/// `x@local` goes into a mailbox, `x@unrouted` to the directory, the rest by domain.
fn message(store: &MemStore, now: u64, from: &str, to: &[&str]) -> Message {
    let recipient = |(place, address): (u64, &&str)| {
        let mut recipient = Recipient::new(address.parse().unwrap(), None, Notify::Default);
        recipient.progress = match recipient.address.domain.to_string().as_str() {
            "local" => Progress::Waiting(Route::Local {
                account: place.into(),
                quota_bytes: 0,
            }),
            "unrouted" => Progress::Unrouted,
            _ => Progress::Waiting(Route::Domain(recipient.address.domain.clone())),
        };
        recipient
    };
    Message {
        id: store.new_id().unwrap(),
        envelope: Envelope {
            reverse_path: from.parse().unwrap(),
            origin: Origin::default(),
            smtputf8: false,
            body: BodyType::Unspecified,
            envelope_id: None,
            dsn_return: DsnReturn::Unspecified,
            session_id: String::new(),
        },
        size: 14,
        accepted_at: now,
        held: false,
        recipients: (0..).zip(to).map(recipient).collect(),
    }
}

fn done() -> Outcome {
    Outcome::local(EnhancedCode::OK, "done")
}

fn later() -> Outcome {
    Outcome::local(EnhancedCode::NO_ANSWER, "no answer")
}

#[test]
fn waits_double_up_to_the_longest_and_are_spread() {
    let mut world = World::new(settings());
    world.accept("a@b.test", &["x@remote.test"]);
    world.agent(Lane::Smtp, 10);
    let mut expected = MINUTE;
    for _ in 0..12 {
        let task = world.task();
        world.report(&task, &later(), false);
        let wait = world.next();
        assert!(
            wait >= expected * 3 / 4 && wait <= expected * 5 / 4,
            "{wait} for {expected}"
        );
        expected = (expected * 2).min(4 * HOUR);
    }
}

#[test]
fn the_sender_is_warned_once_and_told_at_the_end() {
    let mut world = World::new(settings());
    let id = world.accept("a@b.test", &["x@remote.test"]);
    world.agent(Lane::Smtp, 10);
    let begun = world.now.steady;
    let mut said = Vec::new();
    while world.on_disk(id).is_some() {
        if !world.tasks.is_empty() {
            let task = world.task();
            if task.1.queue_id == id.get() {
                world.report(&task, &later(), false);
            } else {
                world.report(&task, &done(), false);
            }
        } else if !world.reports.is_empty() {
            let request = world.reported();
            said.push((world.now.steady - begun, request.notices[0].outcome.status));
        } else {
            world.next();
        }
    }
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].0 >= 4 * HOUR && said[0].0 < 9 * HOUR, "{said:?}");
    assert_eq!(said[0].1, EnhancedCode::NO_ANSWER);
    assert!(
        said[1].0 >= 5 * DAY && said[1].0 < 5 * DAY + 2 * HOUR,
        "{said:?}"
    );
    assert_eq!(said[1].1, EnhancedCode::EXPIRED);
}

#[test]
fn a_clock_that_jumps_ahead_returns_nothing_at_once() {
    let mut world = World::new(settings());
    let id = world.accept("a@b.test", &["x@remote.test"]);
    world.agent(Lane::Smtp, 10);
    let task = world.task();
    world.report(&task, &later(), false);
    world.now.wall += 1000 * DAY;
    for restarted in [false, true] {
        if restarted {
            world.restart();
            world.agent(Lane::Smtp, 10);
            assert!(world.next() <= 3 * MINUTE);
        } else {
            assert!(
                world.next() <= 2 * MINUTE,
                "the jump does not change the wait"
            );
        }
        let task = world.task();
        world.report(&task, &later(), false);
        let recipients = world.on_disk(id).unwrap().recipients;
        assert!(!recipients[0].is_finished());
    }
}

#[test]
fn a_clock_that_jumps_back_makes_nothing_wait_for_ever() {
    let mut world = World::new(settings());
    world.accept("a@b.test", &["x@remote.test"]);
    world.agent(Lane::Smtp, 10);
    let task = world.task();
    world.report(&task, &later(), false);
    world.now.wall -= 1000 * DAY;
    world.restart();
    world.agent(Lane::Smtp, 10);
    let mut waited = 0;
    let mut attempts = 0;
    while world.reports.is_empty()
        || world.reports[0].notices[0].outcome.status != EnhancedCode::EXPIRED
    {
        if !world.reports.is_empty() {
            world.reported();
        }
        let wait = world.next();
        assert!(wait <= 5 * HOUR, "{wait}");
        waited += wait;
        if !world.tasks.is_empty() {
            let task = world.task();
            attempts += 1;
            world.report(&task, &later(), false);
        }
        assert!(waited < 10 * DAY, "it expires all the same");
    }
    assert!(attempts > 20);
}

#[test]
fn a_restart_takes_up_everything_and_repeats_nothing() {
    let mut world = World::new(settings());
    let id = world.accept("a@b.test", &["x@local", "y@remote.test", "z@other.test"]);
    world.agent(Lane::Smtp, 10);
    let mailbox = world.agent(Lane::Local, 10);
    let mut tasks: BTreeMap<String, (AgentId, pb::Task)> = BTreeMap::new();
    for task in std::mem::take(&mut world.tasks) {
        tasks.insert(task.1.recipients[0].address.clone(), task);
    }
    assert_eq!(tasks["x@local"].0, mailbox);
    world.report(&tasks["x@local"], &done(), false);
    world.report(&tasks["y@remote.test"], &later(), false);
    world.restart();
    world.agent(Lane::Smtp, 10);
    world.agent(Lane::Local, 10);
    let task = world.task();
    assert_eq!(task.1.recipients[0].address, "z@other.test");
    assert_eq!((task.1.queue_id, task.1.recipients[0].index), (id.get(), 2));
    assert_eq!(
        task.1.attempt, 1,
        "it was with an agent, but it was not attempted"
    );
    assert!(world.tasks.is_empty(), "y waits, x is done");
    world.report(&task, &done(), false);
    world.next();
    let task = world.task();
    assert_eq!((task.1.recipients[0].index, task.1.attempt), (1, 2));
    world.report(&task, &done(), false);
    assert_eq!(world.on_disk(id), None);
}

#[test]
fn a_report_that_was_not_queued_is_written_again() {
    let mut world = World::new(settings());
    let id = world.accept("a@b.test", &["x@local"]);
    world.agent(Lane::Local, 10);
    let task = world.task();
    let failed = Outcome::local(EnhancedCode::MAILBOX_FULL, "full");
    world.report(&task, &failed, false);
    assert_eq!(world.reports.len(), 1);
    assert!(world.on_disk(id).unwrap().recipients[0].is_finished());
    world.restart();
    assert_eq!(world.reports.len(), 1, "nobody was told yet");
    let request = world.reported();
    assert_eq!(request.notices[0].outcome, failed);
    assert_eq!(world.on_disk(id), None);
    let count = world.store.scan(None, 10).unwrap().len();
    assert_eq!(count, 1, "the report is there instead");
    world.restart();
    assert!(world.reports.is_empty(), "and nobody is told twice");
}

#[test]
fn many_recipients_go_in_tasks_of_some() {
    let mut world = World::new(settings());
    let to: Vec<String> = (0..8).map(|n| format!("r{n}@remote.test")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let id = world.accept("a@b.test", &to);
    world.agent(Lane::Smtp, 10);
    let mut seen = Vec::new();
    for size in [3, 3, 2] {
        let task = world.task();
        assert_eq!(task.1.recipients.len(), size);
        seen.extend(task.1.recipients.iter().map(|r| r.index));
        world.report(&task, &done(), false);
    }
    assert_eq!(seen, (0..8).collect::<Vec<_>>());
    assert_eq!(world.on_disk(id), None);
}

#[test]
fn a_destination_has_its_limit_and_others_go_on() {
    let mut world = World::new(settings());
    for n in 0..5 {
        world.accept(&format!("a{n}@b.test"), &["x@remote.test"]);
    }
    world.accept("a@b.test", &["x@other.test"]);
    world.agent(Lane::Smtp, 10);
    let to = |world: &World| -> Vec<String> {
        let tasks = world.tasks.iter();
        tasks
            .map(|(_, task)| task.recipients[0].address.clone())
            .collect()
    };
    let mut running = to(&world);
    running.sort();
    assert_eq!(running, ["x@other.test", "x@remote.test", "x@remote.test"]);
}

#[test]
fn messages_behind_a_dead_destination_are_told_in_time() {
    let mut world = World::new(settings());
    for n in 0..10 {
        world.accept(&format!("a{n}@b.test"), &["x@remote.test"]);
    }
    world.agent(Lane::Smtp, 10);
    let mut attempts = 0;
    let (mut warned, mut returned) = (0, 0);
    while returned < 10 {
        if !world.tasks.is_empty() {
            let task = world.task();
            if task.1.recipients[0].address == "x@remote.test" {
                attempts += 1;
                world.report(&task, &later(), true);
            } else {
                world.report(&task, &done(), false);
            }
        } else if !world.reports.is_empty() {
            match world.reported().notices[0].outcome.status {
                EnhancedCode::EXPIRED => returned += 1,
                _ => warned += 1,
            }
        } else {
            world.next();
        }
        assert!(
            world.now.steady < 6 * DAY,
            "{warned} warned, {returned} returned"
        );
    }
    assert_eq!(warned, 10);
    assert!(attempts < 500, "{attempts} attempts at a dead host");
}

#[test]
fn an_agent_that_dies_of_a_message_does_not_get_it_all_the_time() {
    let mut world = World::new(settings());
    world.accept("a@b.test", &["x@local"]);
    for _ in 0..3 {
        let agent = world.agent(Lane::Local, 1);
        let task = world.task();
        assert_eq!(task.0, agent);
        world.scheduler.detach(world.now, agent);
        world.run();
    }
    world.agent(Lane::Local, 1);
    assert!(world.tasks.is_empty());
    world.next();
    assert_eq!(world.tasks.len(), 1);
}

#[test]
fn what_an_alias_adds_is_on_disk_before_it_is_sent() {
    let mut world = World::new(settings());
    world.disk_works = false;
    world.accept("a@b.test", &["team@unrouted"]);
    world.agent(Lane::Local, 10);
    assert_eq!(world.resolves, 1);
    let mut added = Recipient::new("x@local".parse().unwrap(), None, Notify::Default);
    added.progress = Progress::Waiting(Route::Local {
        account: 1.into(),
        quota_bytes: 0,
    });
    let expanded = Outcome {
        action: mail_types::Action::Expanded,
        ..done()
    };
    let resolved = Resolved {
        changes: vec![(0, crate::router::Change::Finish(expanded))],
        added: vec![added],
    };
    world.scheduler.resolved(world.now, 1, resolved);
    world.run();
    assert!(world.tasks.is_empty());
    for then in std::mem::take(&mut world.unsaid) {
        world.scheduler.committed(world.now, then);
    }
    world.run();
    assert_eq!(world.task().1.recipients[0].index, 1);
}

#[test]
fn memory_is_given_back() {
    let mut world = World::new(settings());
    let many: Vec<QueueId> = (0..500)
        .map(|n| world.accept("a@b.test", &[&format!("x@d{n}.test")]))
        .collect();
    world.agent(Lane::Smtp, 1000);
    for task in std::mem::take(&mut world.tasks) {
        let outcome = if task.1.queue_id % 2 == 0 {
            done()
        } else {
            later()
        };
        world.report(&task, &outcome, false);
    }
    assert!(world.scheduler.resident.is_empty());
    assert_eq!(world.scheduler.resident_octets, 0);
    assert_eq!(world.scheduler.entries.len(), 250);
    assert_eq!(world.scheduler.dests.len(), 252);
    assert!(many.iter().any(|id| world.on_disk(*id).is_none()));
    world.pass(2 * HOUR);
    for task in std::mem::take(&mut world.tasks) {
        world.report(&task, &done(), false);
    }
    assert!(world.scheduler.entries.is_empty());
    assert_eq!(
        world.scheduler.dests.len(),
        2,
        "only the router and the mailboxes stay"
    );
    assert!(world.scheduler.dest_ids.is_empty());
}

#[test]
fn a_dead_destination_holds_up_no_report_on_others() {
    let mut world = World::new(settings());
    world.agent(Lane::Smtp, 1);
    world.accept("a@b.test", &["x@dead.test"]);
    let first = world.task();
    let both = world.accept("a@b.test", &["y@dead.test", "z@other.test"]);
    world.report(&first, &later(), true);
    let task = world.task();
    assert_eq!(task.1.recipients[0].address, "z@other.test");
    let failed = Outcome::local(EnhancedCode::NO_SUCH_USER, "nobody");
    world.report(&task, &failed, false);
    assert_eq!(world.reported().notices[0].index, 1);
    let recipients = world.on_disk(both).unwrap().recipients;
    assert!(recipients[1].told && !recipients[0].is_finished());

    // The destination dies while the report waits for it.
    let mut world = World::new(settings());
    world.agent(Lane::Smtp, 3);
    world.accept("a@b.test", &["x@dead.test"]);
    world.accept("a@b.test", &["x@dead.test"]);
    let busy = [world.task(), world.task()];
    world.accept("a@b.test", &["y@dead.test", "z@other.test"]);
    let task = world.task();
    world.report(&task, &failed, false);
    assert!(world.reports.is_empty(), "y is about to be tried");
    world.report(&busy[0], &later(), true);
    assert_eq!(world.reported().notices[0].index, 1);
}

// Tests RFC 3461 §5.2.1 and §5.2.2 (b)
#[test]
fn success_is_reported_by_one_mta() {
    let success = Notify::On {
        success: true,
        failure: false,
        delay: false,
    };
    for (passed_on, reports) in [(false, 1), (true, 0)] {
        let mut world = World::new(settings());
        world.agent(Lane::Smtp, 1);
        let mut message = message(&world.store, world.now.wall, "a@b.test", &["x@remote.test"]);
        message.recipients[0].notify = success;
        world.accept_message(message);
        let task = world.task();
        let relayed = Outcome {
            action: mail_types::Action::Relayed,
            ..done()
        };
        world.report_as(&task, &relayed, passed_on, false);
        assert_eq!(world.reports.len(), reports, "passed on: {passed_on}");
    }
    // What was not relayed is reported here, whatever the agent says.
    let mut world = World::new(settings());
    world.agent(Lane::Smtp, 1);
    world.accept("a@b.test", &["x@remote.test"]);
    let task = world.task();
    let failed = Outcome::local(EnhancedCode::NO_SUCH_USER, "nobody");
    world.report_as(&task, &failed, true, false);
    assert_eq!(world.reported().notices.len(), 1);
}
