//! Mail from a queue into mailboxes, over real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Job, Rig, eventually};
use mail_rpc::mailbox::Fetcher;
use mail_rpc::pb::mailbox::v1 as pb;
use mail_rpc::pb::mailbox::v1::mailbox_service_client::MailboxServiceClient;
use pb::fetch_response::Item;
use pb::watch_event::Event;
use tonic::Streaming;
use tonic::transport::Channel;

const ACCOUNTS: u64 = 7;

fn job(queue_id: u64, size: usize) -> Job {
    let body = "x".repeat(size);
    let content = format!("From: ana@aula.test\r\nSubject: q{queue_id}\r\n\r\n{body}\r\n");
    Job {
        queue_id,
        account: 1 + queue_id % ACCOUNTS,
        quota: 0,
        content: Bytes::from(content),
    }
}

async fn watch(
    client: &mut MailboxServiceClient<Channel>,
    account_id: u64,
) -> (pb::Snapshot, Streaming<pb::WatchEvent>) {
    let request = pb::WatchRequest {
        account_id,
        name: "INBOX".to_owned(),
        ..pb::WatchRequest::default()
    };
    let mut events = client.watch(request).await.unwrap().into_inner();
    let mut all: Option<pb::Snapshot> = None;
    loop {
        match events.message().await.unwrap().unwrap().event.unwrap() {
            Event::Snapshot(snapshot) => match &mut all {
                Some(all) => all.uids.extend(snapshot.uids),
                None => all = Some(snapshot),
            },
            Event::SnapshotEnd(_) => return (all.unwrap(), events),
            other => panic!("{other:?}"),
        }
    }
}

/// All contents of an account's INBOX.
async fn contents(channel: &Channel, account_id: u64) -> Vec<Vec<u8>> {
    let mut client = MailboxServiceClient::new(channel.clone());
    let (snapshot, _events) = watch(&mut client, account_id).await;
    let fetcher = Fetcher::start(channel.clone());
    let request = pb::FetchRequest {
        account_id,
        mailbox_id: snapshot.mailbox_id,
        uids: Some(pb::UidSet {
            bounds: vec![1, u32::MAX],
        }),
        content: Some(pb::ByteRange::default()),
        ..pb::FetchRequest::default()
    };
    let mut found: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let mut fetched = fetcher.fetch(request, u64::MAX).await.unwrap();
    while let Some(item) = fetched.next().await {
        match item.unwrap() {
            Item::Content(content) => {
                assert!(content.data.len() <= 64 * 1024);
                found.entry(content.uid).or_default().extend(&content.data);
            }
            Item::Done(done) => {
                assert_eq!(done.failure, None);
                assert!(done.damaged.unwrap_or_default().bounds.is_empty());
            }
            Item::Summary(_) | Item::Packed(_) => panic!("what nobody asked for"),
        }
    }
    assert_eq!(found.len(), snapshot.uids.len());
    found.into_values().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_while_tasks_flow_delivers_each_once() {
    let rig = Rig::start().await;
    rig.queue.forget_every(9);
    let mut sent = BTreeMap::new();
    let mut next = 0;
    let mut push = |count: u64| {
        for _ in 0..count {
            next += 1;
            // Some are read with ReadContent, and some of those are too large for the journal.
            let size = match next % 40 {
                7 => 100_000,
                17 => 400_000,
                _ => 1500,
            };
            let job = job(next, size);
            sent.insert(next, job.clone());
            rig.queue.push(job);
        }
    };
    for round in 0..8_u64 {
        push(400);
        let mut daemon = rig.daemon();
        let before = rig.queue.count();
        eventually("mail flows", async || rig.queue.count() > before + 60).await;
        tokio::time::sleep(Duration::from_millis(19 * round)).await;
        daemon.kill().await.unwrap();
    }
    let daemon = rig.daemon();
    eventually("all is delivered", async || rig.queue.count() == sent.len()).await;
    let reported = rig.queue.reported();
    assert!(reported.values().all(|(status, _)| status == "2.1.5"));
    assert!(reported.values().any(|(_, reports)| *reports > 1));
    let channel = rig.channel().await;
    for account in 1..=ACCOUNTS {
        let found = contents(&channel, account).await;
        let ours: Vec<&Job> = sent.values().filter(|job| job.account == account).collect();
        let mut left: BTreeMap<&[u8], u64> = ours
            .iter()
            .map(|job| (&job.content[..], job.queue_id))
            .collect();
        for content in &found {
            let prefix = b"Return-Path: <ana@aula.test>\r\nDelivered-To: lois@aula.test\r\n";
            let rest = content.strip_prefix(&prefix[..]).expect("trace fields");
            assert!(left.remove(rest).is_some(), "twice, or not what was sent");
        }
        assert!(left.is_empty(), "lost: {:?}", left.values());
    }
    drop(daemon);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_hears_at_once_and_sigterm_ends_in_order() {
    let rig = Rig::start().await;
    let mut daemon = rig.daemon();
    let mut client = rig.client().await;
    let (snapshot, mut events) = watch(&mut client, 2).await;
    assert_eq!(snapshot.uids, Vec::<u32>::new());
    // The first delivery also waits for the agent to attach.
    let mut times = Vec::new();
    for n in 0..20_u64 {
        let started = Instant::now();
        rig.queue.push(job(1 + n * ACCOUNTS, 4000));
        let event = tokio::time::timeout(Duration::from_secs(10), events.message()).await;
        let Event::Change(change) = event.unwrap().unwrap().unwrap().event.unwrap() else {
            panic!("no change")
        };
        times.push(started.elapsed());
        assert_eq!(change.appended.len(), 1);
        assert_eq!(u64::from(change.appended[0].uid), n + 1);
    }
    times.sort_unstable();
    println!("from the task to the watcher: {times:?}");
    assert!(
        times[times.len() / 2] < Duration::from_millis(100),
        "{times:?}"
    );
    let mut full = job(1, 1000);
    full.queue_id = 1000;
    full.quota = 100;
    rig.queue.push(full);
    eventually("over quota is told", async || {
        rig.queue
            .reported()
            .get(&1000)
            .is_some_and(|(status, _)| status == "5.2.2")
    })
    .await;
    let pid = daemon.id().unwrap().to_string();
    let sent = std::process::Command::new("kill")
        .args(["-TERM", &pid])
        .status();
    assert!(sent.unwrap().success());
    let status = tokio::time::timeout(Duration::from_secs(20), daemon.wait()).await;
    assert!(status.unwrap().unwrap().success());
    // Nothing is left in the journal, and all is there.
    let _daemon = rig.daemon();
    let channel = rig.channel().await;
    assert_eq!(contents(&channel, 2).await.len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_begins_another_epoch() {
    let rig = Rig::start().await;
    let mut epochs = Vec::new();
    for _ in 0..2 {
        let mut daemon = rig.daemon();
        let mut client = rig.client().await;
        let (first, _events) = watch(&mut client, 3).await;
        let request = pb::WatchRequest {
            account_id: 3,
            mailbox_id: first.mailbox_id,
            known: Some(pb::KnownMailbox {
                mailbox_id: first.mailbox_id,
                epoch: first.epoch,
                highest_modseq: first.highest_modseq,
            }),
            ..pb::WatchRequest::default()
        };
        let mut events = client.watch(request).await.unwrap().into_inner();
        let event = events.message().await.unwrap().unwrap().event.unwrap();
        assert!(matches!(event, Event::Snapshot(frame) if frame.unchanged));
        epochs.push(first.epoch);
        daemon.kill().await.unwrap();
    }
    assert_ne!(epochs[0], epochs[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_pop3_session_has_the_maildrop() {
    let rig = Rig::start().await;
    let _daemon = rig.daemon();
    let mut client = rig.client().await;
    let request = pb::WatchRequest {
        account_id: 5,
        name: "INBOX".to_owned(),
        pop3_lock: true,
        ..pb::WatchRequest::default()
    };
    let mut first = client.watch(request.clone()).await.unwrap().into_inner();
    first.message().await.unwrap().unwrap();
    let mut second = client.watch(request.clone()).await.unwrap().into_inner();
    let event = second.message().await.unwrap().unwrap().event.unwrap();
    let Event::Failure(failure) = event else {
        panic!("{event:?}")
    };
    assert_eq!(failure.kind(), pb::failure::Kind::Locked);
    drop(first);
    eventually("the lock is given back", async || {
        let mut stream = client.watch(request.clone()).await.unwrap().into_inner();
        let event = stream.message().await.unwrap().unwrap().event.unwrap();
        matches!(event, Event::Snapshot(_))
    })
    .await;
}
