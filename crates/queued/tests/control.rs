//! Queue control, refusals, restarts and the end.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use common::agent::{delivered, later};
use common::submit::{MESSAGE, envelope, frames};
use common::{Rig, eventually, settings};
use mail_rpc::pb::queue::v1 as pb;
use mail_types::QueueId;
use pb::Transport::{Local, Smtp};
use pb::change_request::Verb;
use pb::submit_response::Result as Answer;
use queue_store::{
    FsckReport, MemStore, Message, Op, QueueStore, Scanned, SledOptions, SledStore, StoreError,
};

async fn rig() -> Rig {
    let rig = Rig::start(settings(), Arc::new(MemStore::new())).await;
    rig.directory.account("lois@aula.test", 7);
    rig.directory.account("ana@aula.test", 8);
    rig
}

async fn change(rig: &Rig, verb: Verb, selector: pb::Selector) -> pb::ChangeResponse {
    let request = pb::ChangeRequest {
        verb: verb.into(),
        selector: Some(selector),
    };
    rig.admin()
        .await
        .change(request)
        .await
        .unwrap()
        .into_inner()
}

fn ids(ids: &[u64]) -> pb::Selector {
    pb::Selector {
        queue_ids: ids.to_vec(),
        ..pb::Selector::default()
    }
}

async fn list(rig: &Rig, selector: pb::Selector, limit: u64) -> Vec<pb::QueueEntry> {
    let request = pb::ListRequest {
        selector: Some(selector),
        limit,
    };
    let mut entries = rig.admin().await.list(request).await.unwrap().into_inner();
    let mut all = Vec::new();
    while let Some(entry) = entries.message().await.unwrap() {
        all.push(entry);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_waits_for_its_release() {
    let rig = rig().await;
    let mut submitter = rig.submitter().await;
    let one = submitter
        .accepted(envelope("ana@aula.test", &["lois@aula.test"]), MESSAGE)
        .await;
    let two = submitter
        .accepted(envelope("ana@aula.test", &["lois@aula.test"]), MESSAGE)
        .await;
    let answer = change(&rig, Verb::Hold, ids(&[one, 99])).await;
    assert_eq!((answer.changed, answer.unknown), (1, vec![99]));
    let mut agent = rig.agent(Local, 10).await;
    let task = agent.task().await;
    assert_eq!(task.queue_id, two);
    agent.report(&task, &delivered()).await;
    assert!(agent.is_idle(Duration::from_millis(150)).await);
    assert_eq!(rig.count().await.held, 1);
    // Flushing and holding again do not release it.
    change(&rig, Verb::Flush, ids(&[one])).await;
    assert_eq!(change(&rig, Verb::Hold, ids(&[one])).await.changed, 0);
    assert!(agent.is_idle(Duration::from_millis(150)).await);
    assert_eq!(change(&rig, Verb::Release, ids(&[one])).await.changed, 1);
    let task = agent.task().await;
    assert_eq!(task.queue_id, one);
    agent.report(&task, &delivered()).await;
    rig.empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_flushed_is_tried_at_once() {
    let mut settings = settings();
    settings.retry_min = Duration::from_secs(1000);
    settings.retry_max = Duration::from_secs(1000);
    let rig = Rig::start(settings, Arc::new(MemStore::new())).await;
    let mut submitter = rig.submitter().await;
    let id = submitter
        .accepted(envelope("ana@aula.test", &["x@remote.test"]), MESSAGE)
        .await;
    let mut agent = rig.agent(Smtp, 10).await;
    let task = agent.task().await;
    agent.report_each(&task, |_| later(), true).await;
    eventually("it is deferred", async || rig.count().await.deferred == 1).await;
    // The list is read from the disk, which may be some milliseconds behind.
    eventually("the list says why", async || {
        let entry = list(&rig, ids(&[id]), 0).await.remove(0);
        entry.recipients[0].last.is_some()
    })
    .await;
    let entry = list(&rig, ids(&[id]), 0).await.remove(0);
    assert!(entry.next_attempt_at > entry.accepted_at + 600_000);
    assert_eq!(
        entry.recipients[0].last.as_ref().unwrap().diagnostic,
        "no answer"
    );
    assert_eq!(
        change(&rig, Verb::Flush, pb::Selector::default())
            .await
            .changed,
        1
    );
    let task = agent.task().await;
    assert_eq!(task.attempt, 2);
    agent.report(&task, &delivered()).await;
    rig.empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_requeued_is_resolved_again() {
    let mut settings = settings();
    settings.retry_min = Duration::from_secs(1000);
    let rig = Rig::start(settings, Arc::new(MemStore::new())).await;
    let mut submitter = rig.submitter().await;
    let id = submitter
        .accepted(envelope("ana@aula.test", &["x@remote.test"]), MESSAGE)
        .await;
    let mut smtp = rig.agent(Smtp, 10).await;
    let task = smtp.task().await;
    smtp.report(&task, &later()).await;
    eventually("it is deferred", async || rig.count().await.deferred == 1).await;
    rig.directory.account("x@remote.test", 5);
    assert_eq!(change(&rig, Verb::Requeue, ids(&[id])).await.changed, 1);
    let mut local = rig.agent(Local, 10).await;
    let task = local.task().await;
    assert_eq!((task.queue_id, task.recipients[0].account_id), (id, 5));
    local.report(&task, &delivered()).await;
    rig.empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_is_gone_and_its_agent_is_told() {
    let rig = rig().await;
    let mut submitter = rig.submitter().await;
    let mut agent = rig.agent(Local, 1).await;
    let one = submitter
        .accepted(envelope("ana@aula.test", &["lois@aula.test"]), MESSAGE)
        .await;
    let two = submitter
        .accepted(envelope("ana@aula.test", &["lois@aula.test"]), MESSAGE)
        .await;
    let three = submitter
        .accepted(envelope("ana@aula.test", &["lois@aula.test"]), MESSAGE)
        .await;
    let task = agent.task().await;
    assert_eq!(task.queue_id, one);
    assert_eq!(change(&rig, Verb::Drop, ids(&[one, two])).await.changed, 2);
    match agent.message().await {
        pb::queue_message::Message::Cancel(cancel) => assert_eq!(cancel.task_id, task.task_id),
        pb::queue_message::Message::Task(task) => panic!("{task:?}"),
    }
    agent.report(&task, &delivered()).await;
    let task = agent.task().await;
    assert_eq!(task.queue_id, three);
    agent.report(&task, &delivered()).await;
    rig.empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_is_listed_as_it_is() {
    let rig = rig().await;
    rig.directory
        .alias("team@aula.test", &["lois@aula.test", "x@remote.test"]);
    let mut submitter = rig.submitter().await;
    let one = submitter
        .accepted(envelope("ana@aula.test", &["team@aula.test"]), MESSAGE)
        .await;
    let large = vec![b'x'; 200_000];
    let two = submitter
        .accepted(envelope("", &["lois@aula.test"]), &large)
        .await;
    let all = list(&rig, pb::Selector::default(), 0).await;
    assert_eq!(
        all.iter().map(|e| e.queue_id).collect::<Vec<_>>(),
        [one, two]
    );
    let entry = &all[0];
    assert_eq!(entry.state(), pb::State::Incoming);
    let seen: Vec<_> = entry
        .recipients
        .iter()
        .map(|r| {
            (
                r.address.as_str(),
                r.original.as_deref(),
                r.destination.as_str(),
                r.finished,
            )
        })
        .collect();
    let team = Some("team@aula.test");
    assert_eq!(
        seen,
        [
            ("team@aula.test", None, "", true),
            ("lois@aula.test", team, "0000000000007", false),
            ("x@remote.test", team, "remote.test", false),
        ]
    );
    for (selector, expected) in [
        (
            pb::Selector {
                from: "ana@aula.test".into(),
                ..Default::default()
            },
            vec![one],
        ),
        (
            pb::Selector {
                from: "<>".into(),
                ..Default::default()
            },
            vec![two],
        ),
        (
            pb::Selector {
                to: "@remote.test".into(),
                ..Default::default()
            },
            vec![one],
        ),
        (
            pb::Selector {
                min_size: 1000,
                ..Default::default()
            },
            vec![two],
        ),
        (
            pb::Selector {
                min_age_seconds: 1000,
                ..Default::default()
            },
            vec![],
        ),
        (
            pb::Selector {
                state: pb::State::Held.into(),
                ..Default::default()
            },
            vec![],
        ),
        (ids(&[two, 5]), vec![two]),
    ] {
        let found = list(&rig, selector.clone(), 0).await;
        let found: Vec<_> = found.iter().map(|entry| entry.queue_id).collect();
        assert_eq!(found, expected, "{selector:?}");
    }
    assert_eq!(list(&rig, pb::Selector::default(), 1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_shown_as_it_is() {
    let rig = rig().await;
    let mut submitter = rig.submitter().await;
    let large = vec![b'x'; 200_000];
    let mut submitted = envelope("ana@aula.test", &["lois@aula.test"]);
    submitted.origin = Some(pb::Origin {
        peer: "192.0.2.9".into(),
        account_id: 8,
        helo: "pc".into(),
    });
    let id = submitter.accepted(submitted, &large).await;
    let mut admin = rig.admin().await;
    let show = admin
        .show(pb::ShowRequest { queue_id: id })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(show.origin.unwrap().peer, "192.0.2.9");
    assert_eq!(show.expires_at, show.entry.unwrap().accepted_at + 3_600_000);
    let none = admin
        .show(pb::ShowRequest { queue_id: 3 })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(none.entry, None);
    let mut chunks = admin
        .cat(pb::CatRequest { queue_id: id })
        .await
        .unwrap()
        .into_inner();
    let mut content = Vec::new();
    while let Some(chunk) = chunks.message().await.unwrap() {
        content.extend_from_slice(&chunk.data);
    }
    assert_eq!(content, large);
    let bad = pb::Selector {
        from: "no address".into(),
        ..Default::default()
    };
    let request = pb::CountRequest {
        selector: Some(bad),
    };
    assert!(admin.count(request).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_explained() {
    let rig = rig().await;
    rig.directory.alias(
        "team@aula.test",
        &["lois@aula.test", "x@remote.test", "no@aula.test"],
    );
    let request = pb::ExplainRequest {
        address: "team@aula.test".into(),
    };
    let explained = rig
        .admin()
        .await
        .explain(request)
        .await
        .unwrap()
        .into_inner();
    let steps: Vec<_> = explained
        .steps
        .iter()
        .map(|s| (s.depth, s.address.as_str()))
        .collect();
    assert_eq!(
        steps,
        [
            (0, "team@aula.test"),
            (1, "lois@aula.test"),
            (1, "x@remote.test"),
            (1, "no@aula.test")
        ]
    );
    let targets: Vec<_> = explained
        .targets
        .iter()
        .map(|t| t.destination.as_str())
        .collect();
    assert_eq!(targets, ["0000000000007", "remote.test", ""]);
    assert!(explained.targets[2].failure.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_new_mail_for_now() {
    let store = Arc::new(MemStore::new());
    let rig = Rig::start(settings(), store.clone()).await;
    rig.directory.account("lois@aula.test", 7);
    let mut submitter = rig.submitter().await;
    let mut agent = rig.agent(Local, 10).await;
    submitter
        .accepted(envelope("ana@aula.test", &["lois@aula.test"]), MESSAGE)
        .await;
    store.set_full(true);
    for content in [MESSAGE, &vec![b'x'; 200_000]] {
        let answer = submitter
            .submit(envelope("ana@aula.test", &["lois@aula.test"]), content)
            .await;
        let Answer::Refused(refused) = answer else {
            panic!("{answer:?}")
        };
        let status = refused.status.unwrap();
        assert_eq!((status.class, status.subject, status.detail), (4, 3, 1));
    }
    // What is in the queue goes on.
    let task = agent.task().await;
    agent.report(&task, &delivered()).await;
    rig.empty().await;
    store.set_full(false);
    submitter
        .accepted(envelope("ana@aula.test", &["lois@aula.test"]), MESSAGE)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_many_messages_may_be_mixed() {
    let rig = rig().await;
    let mut submitter = rig.submitter().await;
    let large = vec![b'x'; 200_000];
    let envelope = || envelope("ana@aula.test", &["lois@aula.test"]);
    let (one, two, three) = (submitter.token(), submitter.token(), submitter.token());
    let aborted = frames(three, envelope(), &large);
    submitter.send(aborted[0].clone()).await;
    for (a, b) in frames(one, envelope(), &large)
        .into_iter()
        .zip(frames(two, envelope(), &large))
    {
        submitter.send(a).await;
        submitter.send(b).await;
    }
    submitter
        .send(pb::SubmitRequest {
            token: three,
            abort: true,
            ..Default::default()
        })
        .await;
    let mut tokens = [
        submitter.response().await.token,
        submitter.response().await.token,
    ];
    tokens.sort_unstable();
    assert_eq!(tokens, [one, two]);
    assert_eq!(rig.count().await.bytes, 400_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_takes_back_what_was_not_ended() {
    let rig = rig().await;
    let mut submitter = rig.submitter().await;
    let envelope = || envelope("ana@aula.test", &["lois@aula.test"]);
    submitter.accepted(envelope(), MESSAGE).await;
    let token = submitter.token();
    let unended = frames(token, envelope(), &vec![b'x'; 200_000]);
    for frame in &unended[..3] {
        submitter.send(frame.clone()).await;
    }
    drop(submitter);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(rig.count().await.bytes, MESSAGE.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_ends_the_stream_and_nothing_else() {
    let rig = rig().await;
    let mut bad = rig.submitter().await;
    bad.send(pb::SubmitRequest {
        token: 9,
        end: true,
        ..Default::default()
    })
    .await;
    assert!(bad.responses.message().await.is_err());
    let mut good = rig.submitter().await;
    let answer = good
        .submit(envelope("ana@aula.test", &["no address"]), MESSAGE)
        .await;
    assert!(matches!(answer, Answer::Refused(_)));
    let many: Vec<String> = (0..1001).map(|n| format!("r{n}@aula.test")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let answer = good.submit(envelope("ana@aula.test", &many), MESSAGE).await;
    assert!(matches!(answer, Answer::Refused(_)));
    good.accepted(envelope("ana@aula.test", &["lois@aula.test"]), MESSAGE)
        .await;
}

fn sled(folder: &std::path::Path) -> Arc<SledStore> {
    let options = SledOptions {
        folder: folder.to_owned(),
        cache: 8 << 20,
        min_free: 0,
        now: 1_800_000_000_000,
        lock_wait: Duration::from_secs(10),
    };
    Arc::new(SledStore::open(&options).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_waits_for_agents_and_the_next_start_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = sled(folder.path());
    let rig = Rig::start(settings(), store.clone()).await;
    rig.directory.account("lois@aula.test", 7);
    let mut submitter = rig.submitter().await;
    let mut agent = rig.agent(Local, 1).await;
    let one = submitter
        .accepted(envelope("ana@aula.test", &["lois@aula.test"]), MESSAGE)
        .await;
    let two = submitter
        .accepted(envelope("ana@aula.test", &["lois@aula.test"]), MESSAGE)
        .await;
    let task = agent.task().await;
    rig.shutdown.cancel();
    tokio::time::sleep(Duration::from_millis(100)).await;
    agent.report(&task, &delivered()).await;
    assert!(agent.end().await, "no further task, and the stream ends");
    rig.queue.drained().await;
    assert_eq!(rig.queue.failure().map(|f| f.to_string()), None);
    rig.tracker.close();
    tokio::time::timeout(Duration::from_secs(5), rig.tracker.wait())
        .await
        .unwrap();
    assert_eq!(store.load(one.into()).unwrap(), None);
    let rig = rig.restart(settings(), store).await;
    let mut agent = rig.agent(Local, 1).await;
    let task = agent.task().await;
    assert_eq!((task.queue_id, task.attempt), (two, 1));
    assert_eq!(task.content.as_deref(), Some(MESSAGE));
    agent.report(&task, &delivered()).await;
    rig.empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_messages_with_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let store = sled(folder.path());
    let mut settings = settings();
    settings.memory = 64 * 1024;
    settings.incoming_memory = 256 * 1024;
    let rig = Rig::start(settings, store.clone()).await;
    rig.directory.account("lois@aula.test", 7);
    let mut submitter = rig.submitter().await;
    let requests = submitter.requests.clone();
    let sending = tokio::spawn(async move {
        for token in 1..=10_000 {
            let envelope = envelope("ana@aula.test", &["lois@aula.test"]);
            for frame in frames(token, envelope, MESSAGE) {
                requests.send(frame).await.unwrap();
            }
        }
    });
    for _ in 0..10_000 {
        let answer = submitter.response().await.result.unwrap();
        assert!(matches!(answer, Answer::Accepted(_)), "{answer:?}");
    }
    sending.await.unwrap();
    let mut agent = rig.agent(Local, 200).await;
    let mut seen = std::collections::HashSet::new();
    for _ in 0..10_000 {
        let task = agent.task().await;
        assert!(seen.insert(task.queue_id));
        assert_eq!(task.content.as_deref(), Some(MESSAGE));
        agent.report(&task, &delivered()).await;
    }
    rig.empty().await;
    eventually("the disk knows it", async || {
        store.fsck(false).unwrap().messages == 0
    })
    .await;
    assert_eq!(store.fsck(false).unwrap().problems, []);
}

/// Slow clients may take all the memory that there is for their kind; others do not wait for them,
/// and neither do their own next pieces.
#[tokio::test(flavor = "multi_thread")]
async fn large_messages_that_do_not_end_hold_up_nobody() {
    let mut settings = settings();
    settings.incoming_memory = 512 * 1024;
    let rig = Rig::start(settings, Arc::new(MemStore::new())).await;
    rig.directory.account("lois@aula.test", 7);
    let mut submitter = rig.submitter().await;
    let envelope = || envelope("ana@aula.test", &["lois@aula.test"]);
    let large = vec![b'x'; 100 * 1024];
    let mut last = Vec::new();
    for token in 101..=104 {
        let mut pieces = frames(token, envelope(), &large);
        last.extend(pieces.pop());
        for piece in pieces {
            submitter.send(piece).await;
        }
    }
    for _ in 0..200 {
        submitter.accepted(envelope(), MESSAGE).await;
    }
    for piece in last {
        submitter.send(piece).await;
    }
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..4 {
        match submitter.response().await.result.unwrap() {
            Answer::Accepted(_) => accepted += 1,
            Answer::Refused(answer) => {
                assert_eq!(answer.reason, "too much mail is coming in at the moment");
                refused += 1;
            }
        }
    }
    assert_eq!((accepted, refused), (2, 2), "256 KiB are room for two");
}

/// A disk that fails when it is told to.
struct Failing {
    inner: MemStore,
    appends: AtomicBool,
    syncs: AtomicBool,
}

impl Failing {
    fn new() -> Self {
        Self {
            inner: MemStore::new(),
            appends: AtomicBool::new(false),
            syncs: AtomicBool::new(false),
        }
    }

    fn fail(when: &AtomicBool) -> Result<(), StoreError> {
        if when.load(SeqCst) {
            Err(StoreError::Failed("the disk is on fire".into()))
        } else {
            Ok(())
        }
    }
}

impl QueueStore for Failing {
    fn new_id(&self) -> Result<QueueId, StoreError> {
        self.inner.new_id()
    }
    fn put_chunk(&self, id: QueueId, chunk: u32, data: &[u8]) -> Result<(), StoreError> {
        self.inner.put_chunk(id, chunk, data)
    }
    fn discard(&self, id: QueueId) {
        self.inner.discard(id);
    }
    fn append(&self, ops: &[Op]) -> Result<(), StoreError> {
        Self::fail(&self.appends)?;
        self.inner.append(ops)
    }
    fn sync(&self) -> Result<(), StoreError> {
        Self::fail(&self.syncs)?;
        self.inner.sync()
    }
    fn load(&self, id: QueueId) -> Result<Option<Message>, StoreError> {
        self.inner.load(id)
    }
    fn read_chunk(&self, id: QueueId, chunk: u32) -> Result<Option<Bytes>, StoreError> {
        self.inner.read_chunk(id, chunk)
    }
    fn recover(&self, each: &mut dyn FnMut(Vec<Scanned>) -> bool) -> Result<(), StoreError> {
        self.inner.recover(each)
    }

    fn scan(&self, after: Option<QueueId>, limit: usize) -> Result<Vec<Scanned>, StoreError> {
        self.inner.scan(after, limit)
    }
    fn check_room(&self, octets: u64) -> Result<(), StoreError> {
        self.inner.check_room(octets)
    }
    fn disk_size(&self) -> Result<u64, StoreError> {
        self.inner.disk_size()
    }
    fn fsck(&self, repair: bool) -> Result<FsckReport, StoreError> {
        self.inner.fsck(repair)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_ends_the_queue_and_accepts_nothing() {
    let store = Arc::new(Failing::new());
    let rig = Rig::start(settings(), store.clone()).await;
    rig.directory.account("lois@aula.test", 7);
    let mut submitter = rig.submitter().await;
    submitter
        .accepted(envelope("ana@aula.test", &["lois@aula.test"]), MESSAGE)
        .await;
    store.appends.store(true, SeqCst);
    let answer = submitter
        .submit(envelope("ana@aula.test", &["lois@aula.test"]), MESSAGE)
        .await;
    assert!(matches!(answer, Answer::Refused(_)), "{answer:?}");
    tokio::time::timeout(Duration::from_secs(5), rig.queue.drained())
        .await
        .unwrap();
    assert!(rig.queue.failure().is_some());
    assert_eq!(store.fsck(false).unwrap().messages, 1);
}

/// Behind a failed sync the record may be on disk. Then its content must be there as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_refused_by_a_failed_sync_is_whole_or_not_there() {
    let store = Arc::new(Failing::new());
    let rig = Rig::start(settings(), store.clone()).await;
    rig.directory.account("lois@aula.test", 7);
    let mut submitter = rig.submitter().await;
    store.syncs.store(true, SeqCst);
    let content = vec![b'x'; 150_000];
    let answer = submitter
        .submit(envelope("ana@aula.test", &["lois@aula.test"]), &content)
        .await;
    assert!(matches!(answer, Answer::Refused(_)), "{answer:?}");
    tokio::time::timeout(Duration::from_secs(5), rig.queue.drained())
        .await
        .unwrap();
    let report = store.fsck(false).unwrap();
    assert_eq!((report.messages, report.octets), (1, 150_000));
    let Some(Scanned::Message(message)) = store.scan(None, 1).unwrap().pop() else {
        panic!("the record is gone")
    };
    for chunk in 0..3 {
        let data = store.read_chunk(message.id, chunk).unwrap();
        assert!(data.is_some_and(|data| !data.is_empty()), "{chunk}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_change_while_the_queue_runs() {
    let mut few = settings();
    few.local_limit = 1;
    let rig = Rig::start(few, Arc::new(MemStore::new())).await;
    rig.directory.account("lois@aula.test", 7);
    let mut submitter = rig.submitter().await;
    let mut agent = rig.agent(Local, 10).await;
    for _ in 0..2 {
        submitter
            .accepted(envelope("ana@aula.test", &["lois@aula.test"]), MESSAGE)
            .await;
    }
    let first = agent.task().await;
    assert!(agent.is_idle(Duration::from_millis(100)).await);
    rig.queue.configure(settings());
    let second = agent.task().await;
    for task in [first, second] {
        agent.report(&task, &delivered()).await;
    }
    rig.empty().await;
}
