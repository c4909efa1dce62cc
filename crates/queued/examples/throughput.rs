//! How many messages a second go through the queue over its sockets:
//! `throughput FOLDER [WAITING] [OCTETS] [SECONDS]`.
#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a program for the developer at the terminal"
)]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mail_rpc::directory::{Account, Resolution};
use mail_rpc::pb::queue::v1 as pb;
use mail_rpc::transport::{Endpoint, bind, connect, routes_served};
use mail_types::{EmailAddress, EnhancedCode, Outcome};
use pb::delivery_agent_service_client::DeliveryAgentServiceClient;
use pb::submission_service_client::SubmissionServiceClient;
use queue_store::{SledOptions, SledStore};
use queued::queue::Queue;
use queued::router::Resolve;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

type Failure = Box<dyn Error + Send + Sync>;

/// Everybody lives here.
struct Everybody;

impl Resolve for Everybody {
    fn resolve<'a>(
        &'a self,
        address: &'a EmailAddress,
    ) -> Pin<Box<dyn Future<Output = Result<Resolution, String>> + Send + 'a>> {
        let account = Account {
            id: 7.into(),
            address: address.clone(),
            quota_bytes: 0,
        };
        Box::pin(async { Ok(Resolution::Account(account)) })
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let folder = PathBuf::from(args.next().ok_or("which folder?")?);
    let mut number = |default| {
        args.next()
            .map_or(Ok(default), |text| text.parse::<usize>())
    };
    let (waiting, octets, seconds) = (number(64)?, number(4096)?, number(5)?);
    let (submit, agent) = (folder.join("submit.sock"), folder.join("agent.sock"));
    start(&folder, &submit, &agent).await?;
    let delivered = Arc::new(AtomicU64::new(0));
    tokio::spawn(deliver(agent, delivered.clone()));

    let begun = Instant::now();
    let end = begun + Duration::from_secs(seconds as u64);
    let accepted = front_end(&submit, waiting, octets, end).await?;
    let took = begun.elapsed();
    let so_far = delivered.load(Relaxed);
    while delivered.load(Relaxed) < accepted {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!(
        "{accepted} messages of {octets} octets, {waiting} waiting: {:.0}/s accepted, {so_far} delivered meanwhile, all after {:.1?}",
        accepted as f64 / took.as_secs_f64(),
        begun.elapsed(),
    );
    Ok(())
}

async fn start(folder: &Path, submit: &Path, agent: &Path) -> Result<(), Failure> {
    let store = SledStore::open(&SledOptions {
        folder: folder.join("queue"),
        cache: 64 << 20,
        min_free: 0,
        now: 1_800_000_000_000,
        lock_wait: Duration::from_secs(5),
    })?;
    let settings = queued::settings(&mail_config::Config::default())?;
    let (shutdown, tracker) = (CancellationToken::new(), TaskTracker::new());
    let queue = Queue::start(
        settings,
        Arc::new(store),
        Arc::new(Everybody),
        shutdown,
        tracker,
    )?;
    queue.restored().await;
    serve(submit, queue.submission_routes()).await?;
    serve(agent, queue.agent_routes()).await
}

async fn serve(socket: &Path, routes: Routes) -> Result<(), Failure> {
    let listener = bind(&Endpoint::Unix(socket.to_owned()), 0o600).await?;
    tokio::spawn(routes_served(
        listener,
        None,
        routes,
        std::future::pending(),
    ));
    Ok(())
}

async fn front_end(
    socket: &Path,
    waiting: usize,
    octets: usize,
    end: Instant,
) -> Result<u64, Failure> {
    let channel = connect(&Endpoint::Unix(socket.to_owned()), None).await?;
    let (requests, outgoing) = mpsc::channel(waiting);
    let mut client = SubmissionServiceClient::new(channel);
    let responses = client.submit(ReceiverStream::new(outgoing)).await?;
    let mut responses = responses.into_inner();
    let data = Bytes::from(vec![b'x'; octets]);
    let (mut token, mut under_way, mut accepted) = (0, 0, 0);
    while Instant::now() < end || under_way > 0 {
        while under_way < waiting && Instant::now() < end {
            token += 1;
            requests.send(request(token, data.clone())).await?;
            under_way += 1;
        }
        let response = responses.message().await?.ok_or("the stream ended")?;
        match response.result {
            Some(pb::submit_response::Result::Accepted(_)) => accepted += 1,
            other => return Err(format!("{other:?}").into()),
        }
        under_way -= 1;
    }
    Ok(accepted)
}

fn request(token: u64, data: Bytes) -> pb::SubmitRequest {
    let address = Some(format!("ana{}@aula.test", token % 100));
    let recipient = pb::Recipient {
        address: "lois@aula.test".into(),
        ..pb::Recipient::default()
    };
    pb::SubmitRequest {
        token,
        envelope: Some(pb::Envelope {
            reverse_path: Some(mail_rpc::pb::common::v1::ReversePath { address }),
            recipients: vec![recipient],
            ..pb::Envelope::default()
        }),
        data,
        end: true,
        abort: false,
    }
}

async fn deliver(socket: PathBuf, delivered: Arc<AtomicU64>) -> Result<(), Failure> {
    let channel = connect(&Endpoint::Unix(socket), None).await?;
    let (messages, outgoing) = mpsc::channel(1000);
    let hello = pb::AgentHello {
        transport: pb::Transport::Local.into(),
        name: "bench".into(),
        max_tasks: 256,
        max_bytes: 64 << 20,
    };
    let message = Some(pb::agent_message::Message::Hello(hello));
    messages.send(pb::AgentMessage { message }).await?;
    let mut client = DeliveryAgentServiceClient::new(channel);
    let tasks = client.attach(ReceiverStream::new(outgoing)).await?;
    let mut tasks = tasks.into_inner();
    let outcome = Outcome::local(EnhancedCode::OK, "stored");
    while let Some(message) = tasks.message().await? {
        let Some(pb::queue_message::Message::Task(task)) = message.message else {
            continue;
        };
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
        messages.send(pb::AgentMessage { message }).await?;
        delivered.fetch_add(1, Relaxed);
    }
    Ok(())
}
