//! kill -9 of the daemon, again and again, while mail flows: what was answered with "accepted" is
//! delivered; what the agent saw twice had the same idempotency key and the same content.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::directory::FakeDirectory;
use common::submit::{envelope, frames};
use common::{eventually, serve};
use mail_rpc::pb::queue::v1 as pb;
use mail_rpc::transport::{Endpoint, connect};
use mail_types::{EnhancedCode, Outcome};
use pb::delivery_agent_service_client::DeliveryAgentServiceClient;
use pb::queue_admin_service_client::QueueAdminServiceClient;
use pb::submission_service_client::SubmissionServiceClient;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// What a front end was told, and what a mailbox has.
#[derive(Default)]
struct Book {
    /// By queue id: the content.
    accepted: BTreeMap<u64, String>,
    /// By idempotency key: the content.
    delivered: BTreeMap<(u64, u32), String>,
    /// Of messages to nobody: the reports by what they return.
    bounced: BTreeMap<String, BTreeSet<u64>>,
    tasks: u64,
}

type Shared = Arc<Mutex<Book>>;

fn start(home: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_queued"))
        .arg("--home")
        .arg(home)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn open(socket: PathBuf, stop: &CancellationToken) -> Option<Channel> {
    let endpoint = Endpoint::Unix(socket);
    while !stop.is_cancelled() {
        if let Ok(channel) = connect(&endpoint, None).await {
            return Some(channel);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    None
}

/// Submits numbered messages, one of nine to nobody and one of twenty large, whatever happens to
/// the daemon.
async fn front_end(socket: PathBuf, name: u32, book: Shared, stop: CancellationToken) {
    let mut number = 0_u64;
    while let Some(channel) = open(socket.clone(), &stop).await {
        let (requests, outgoing) = mpsc::channel(64);
        let mut client = SubmissionServiceClient::new(channel);
        let Ok(responses) = client.submit(ReceiverStream::new(outgoing)).await else {
            continue;
        };
        let mut responses = responses.into_inner();
        let mut waiting = BTreeMap::new();
        loop {
            while waiting.len() < 16 && !stop.is_cancelled() {
                number += 1;
                let text = content(name, number);
                let to = if number.is_multiple_of(9) {
                    "no@aula.test"
                } else {
                    "lois@aula.test"
                };
                let envelope = envelope("ana@aula.test", &[to]);
                for frame in frames(number, envelope, text.as_bytes()) {
                    let _ = requests.send(frame).await;
                }
                waiting.insert(number, text);
            }
            if waiting.is_empty() {
                return;
            }
            let Ok(Some(response)) = responses.message().await else {
                break;
            };
            let text = waiting.remove(&response.token).unwrap();
            if let Some(pb::submit_response::Result::Accepted(accepted)) = response.result {
                let old = book
                    .lock()
                    .unwrap()
                    .accepted
                    .insert(accepted.queue_id, text);
                assert_eq!(old, None, "a queue id was given out twice");
            }
        }
    }
}

fn content(name: u32, number: u64) -> String {
    let subject = format!("{name}-{number}");
    let body = if number.is_multiple_of(20) {
        "x".repeat(150_000)
    } else {
        "x".repeat(2000)
    };
    format!("From: ana@aula.test\r\nSubject: {subject}\r\n\r\n{body}\r\n")
}

/// Delivers into the book, like a store that knows idempotency keys.
async fn deliver(socket: PathBuf, book: Shared, stop: CancellationToken) {
    while let Some(channel) = open(socket.clone(), &stop).await {
        let mut client = DeliveryAgentServiceClient::new(channel);
        let (messages, outgoing) = mpsc::channel(1000);
        let hello = pb::AgentHello {
            transport: pb::Transport::Local.into(),
            name: "book".into(),
            max_tasks: 64,
            max_bytes: 16 << 20,
        };
        let message = Some(pb::agent_message::Message::Hello(hello));
        messages.send(pb::AgentMessage { message }).await.unwrap();
        let Ok(tasks) = client.attach(ReceiverStream::new(outgoing)).await else {
            continue;
        };
        let mut tasks = tasks.into_inner();
        while let Ok(Some(message)) = tasks.message().await {
            let Some(pb::queue_message::Message::Task(task)) = message.message else {
                continue;
            };
            let Some(text) = text_of(&mut client, &task).await else {
                break;
            };
            note(&book, &task, &text);
            let outcome = Outcome::local(EnhancedCode::OK, "stored");
            let outcomes = task
                .recipients
                .iter()
                .map(|recipient| pb::RecipientOutcome {
                    index: recipient.index,
                    outcome: Some((&outcome).into()),
                    ..pb::RecipientOutcome::default()
                });
            let report = pb::TaskReport {
                task_id: task.task_id,
                outcomes: outcomes.collect(),
                destination_down: false,
            };
            let message = Some(pb::agent_message::Message::Report(report));
            let _ = messages.send(pb::AgentMessage { message }).await;
        }
    }
}

async fn text_of(
    client: &mut DeliveryAgentServiceClient<Channel>,
    task: &pb::Task,
) -> Option<String> {
    if let Some(content) = &task.content {
        return String::from_utf8(content.to_vec()).ok();
    }
    let request = pb::ReadContentRequest {
        queue_id: task.queue_id,
    };
    let mut chunks = client.read_content(request).await.ok()?.into_inner();
    let mut content = Vec::new();
    while let Some(chunk) = chunks.message().await.ok()? {
        content.extend_from_slice(&chunk.data);
    }
    String::from_utf8(content).ok()
}

fn note(book: &Shared, task: &pb::Task, text: &str) {
    let mut book = book.lock().unwrap();
    book.tasks += 1;
    for recipient in &task.recipients {
        let key = (task.queue_id, recipient.index);
        let old = book.delivered.insert(key, text.to_owned());
        assert!(old.is_none_or(|old| old == text), "{key:?} changed");
    }
    if task.reverse_path.as_ref().unwrap().address.is_none() {
        // What is returned is behind the report itself, and so is its subject.
        let subject = text.rsplit("Subject: ").next().unwrap();
        let subject = subject.lines().next().unwrap().to_owned();
        book.bounced
            .entry(subject)
            .or_default()
            .insert(task.queue_id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_by_kill_9() {
    let home = tempfile::tempdir().unwrap();
    let run = home.path().join("run");
    let config = "[server]\nhostname = \"mx.aula.test\"\n[queued]\nmin_free = \"0B\"\n";
    std::fs::write(home.path().join("correo.toml"), config).unwrap();
    let directory = FakeDirectory::default();
    directory.account("lois@aula.test", 7);
    directory.account("ana@aula.test", 8);
    serve(&run.join("directory.sock"), directory.routes()).await;
    let (book, stop, end) = (
        Shared::default(),
        CancellationToken::new(),
        CancellationToken::new(),
    );
    let agent = tokio::spawn(deliver(
        run.join("queue-agent.sock"),
        book.clone(),
        end.clone(),
    ));
    let front_ends: Vec<_> = (0..4)
        .map(|name| {
            let socket = run.join("queue-submit.sock");
            tokio::spawn(front_end(socket, name, book.clone(), stop.clone()))
        })
        .collect();
    for round in 0..10_u64 {
        let mut daemon = start(home.path());
        let before = book.lock().unwrap().accepted.len();
        eventually("mail flows", async || {
            book.lock().unwrap().accepted.len() > before + 50
        })
        .await;
        tokio::time::sleep(Duration::from_millis(37 * round)).await;
        daemon.kill().await.unwrap();
    }
    let _daemon = start(home.path());
    stop.cancel();
    for front_end in front_ends {
        front_end.await.unwrap();
    }
    let admin = open(run.join("queue-admin.sock"), &end).await.unwrap();
    let mut admin = QueueAdminServiceClient::new(admin);
    eventually("the queue is empty", async || {
        let count = admin
            .count(pb::CountRequest::default())
            .await
            .unwrap()
            .into_inner();
        count.incoming + count.active + count.deferred == 0
    })
    .await;
    end.cancel();
    agent.abort();
    check(&book.lock().unwrap());
}

fn check(book: &Book) {
    assert!(book.accepted.len() > 500, "too few to mean anything");
    let mut bounces = 0;
    for (id, text) in &book.accepted {
        let subject = text
            .split("Subject: ")
            .nth(1)
            .unwrap()
            .lines()
            .next()
            .unwrap();
        let number: u64 = subject.split('-').nth(1).unwrap().parse().unwrap();
        if number.is_multiple_of(9) {
            bounces += 1;
            assert!(
                book.bounced.contains_key(subject),
                "{subject}: its sender was not told"
            );
        } else {
            assert_eq!(
                book.delivered.get(&(*id, 0)),
                Some(text),
                "{subject} is lost"
            );
        }
    }
    assert!(bounces > 20);
    for (subject, ids) in &book.bounced {
        // A message that was not acknowledged may have been accepted all the same, and its sender
        // sent it once: so one report, whatever was killed.
        assert_eq!(ids.len(), 1, "{subject}: its sender was told twice");
    }
}
