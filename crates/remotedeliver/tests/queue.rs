//! The stream with queued: queued that restarts, tasks that are cancelled, and the end.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod common;

use std::time::Duration;

use common::dns::Zone;
use common::sink::{Manner, Sink};
use common::{Bench, at, config, free_port, outcomes};
use mail_rpc::pb::queue::v1 as pb;

const TAKEN: &str = "Relayed 2.0.0: 250 2.0.0 taken";

async fn bench(manner: Manner) -> (Sink, Bench) {
    let port = free_port(&["127.0.0.2"]);
    let sink = Sink::start(at("127.0.0.2", port), manner).await;
    let zone = Zone::default()
        .host("x.test", "127.0.0.2")
        .host("dead.test", "127.0.0.3");
    (sink, Bench::start(config(port), zone).await)
}

#[tokio::test]
async fn it_says_hello() {
    let (_sink, mut bench) = bench(Manner::default()).await;
    let hello = bench.queue.agent().await.hello.clone();
    assert_eq!(hello.transport(), pb::Transport::Smtp);
    assert!(hello.name.starts_with("us.test "));
    assert_eq!((hello.max_tasks, hello.max_bytes), (1000, 64 << 20));
    bench.stop().await;
}

#[tokio::test]
async fn what_was_delivered_is_not_delivered_again_when_queued_forgot() {
    let (sink, mut bench) = bench(Manner::default()).await;
    let task = bench
        .queue
        .task(&["a@x.test", "later@x.test"], b"Subject: x\r\n\r\nhi\r\n");
    bench.queue.send(task.clone()).await;
    bench.queue.report().await;
    bench.queue.restart().await;
    let again = pb::Task {
        task_id: 77,
        ..task
    };
    let (outcomes, _) = bench.perform(again).await;
    assert_eq!(outcomes, [TAKEN, "Delayed 4.2.1: 450 4.2.1 later"]);
    assert_eq!(sink.mails().len(), 1);
    bench.stop().await;
}

#[tokio::test]
async fn what_is_being_delivered_is_not_begun_again() {
    let (sink, mut bench) = bench(Manner {
        think: Duration::from_millis(1500),
        ..Manner::default()
    })
    .await;
    let task = bench.queue.task(&["a@x.test"], b"Subject: x\r\n\r\nhi\r\n");
    bench.queue.send(task.clone()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    bench.queue.restart().await;
    assert_eq!(bench.perform(task).await.0, [TAKEN]);
    assert_eq!(sink.mails().len(), 1);
    bench.stop().await;
}

#[tokio::test]
async fn the_end_waits_for_transactions_and_gives_the_rest_back() {
    let (sink, mut bench) = bench(Manner {
        think: Duration::from_millis(500),
        ..Manner::default()
    })
    .await;
    // More than there may be connections: some wait.
    for _ in 0..30 {
        let task = bench.queue.task(&["a@x.test"], b"Subject: x\r\n\r\nhi\r\n");
        bench.queue.send(task).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut queue = bench.stop().await;
    let mut reports = 0;
    while let Some(report) = queue.try_report(Duration::from_millis(100)).await {
        assert_eq!(outcomes(&report), [TAKEN]);
        reports += 1;
    }
    assert_eq!(reports, 20);
    assert_eq!(sink.mails().len(), 20);
}

#[tokio::test]
async fn a_cancelled_task_that_waits_is_given_up() {
    let (sink, mut bench) = bench(Manner {
        think: Duration::from_millis(500),
        ..Manner::default()
    })
    .await;
    let mut last = 0;
    for _ in 0..21 {
        let task = bench.queue.task(&["a@x.test"], b"Subject: x\r\n\r\nhi\r\n");
        last = task.task_id;
        bench.queue.send(task).await;
    }
    let cancel = pb::TaskCancel { task_id: last };
    bench
        .queue
        .tell(pb::queue_message::Message::Cancel(cancel))
        .await;
    for _ in 0..20 {
        assert_ne!(bench.queue.report().await.task_id, last);
    }
    assert!(
        bench
            .queue
            .try_report(Duration::from_secs(1))
            .await
            .is_none()
    );
    assert_eq!(sink.mails().len(), 20);
    bench.stop().await;
}

#[tokio::test]
async fn a_task_that_makes_no_sense_is_told_so() {
    let (_sink, mut bench) = bench(Manner::default()).await;
    let mut task = bench.queue.task(&["a@x.test"], b"hi\r\n");
    task.recipients[0].address = "no address".into();
    let (outcomes, _) = bench.perform(task).await;
    assert!(outcomes[0].starts_with("Delayed 4.3.0: "), "{outcomes:?}");
    bench.stop().await;
}

const COUNT: u32 = 5000;

/// Prints how fast it is; run it with `--release -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn speed() {
    let (sink, mut bench) = bench(Manner::default()).await;
    let content = [
        b"Subject: x\r\n\r\n".to_vec(),
        b"0123456789abcde\r\n".repeat(60),
    ]
    .concat();
    let mut tasks = Vec::new();
    for _ in 0..COUNT {
        tasks.push(bench.queue.task(&["a@x.test"], &content));
    }
    let started = std::time::Instant::now();
    let mut open = 0;
    let mut tasks = tasks.into_iter();
    let mut done = 0;
    while done < COUNT {
        while open < 20
            && let Some(task) = tasks.next()
        {
            bench.queue.send(task).await;
            open += 1;
        }
        assert_eq!(outcomes(&bench.queue.report().await), [TAKEN]);
        open -= 1;
        done += 1;
    }
    let rate = f64::from(COUNT) / started.elapsed().as_secs_f64();
    println!(
        "{rate:.0} messages/s over {} connections",
        sink.connections()
    );
    bench.stop().await;
}
