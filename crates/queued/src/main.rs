//! queued – the durable queue
//!
//! Takes mail from smtpd, finds each recipient's way through directoryd, gives tasks to the
//! delivery agents that attach, tries again what did not work, and tells senders what became of
//! their mail. The instant of acceptance is the answer `SubmitAccepted`: by then the message is on
//! disk. `docs/queue-states.md` lists every state a message can be in.
//!
//! SECURITY. Reads and writes its own folder alone. Three sockets, one a trust level: handing in
//! mail (smtpd), taking tasks (localdeliver, remotedeliver), control (operators). It parses neither
//! SMTP nor, but for the header that a report returns, messages. Who owns it can read and lose mail
//! that is in the queue; it knows no credentials.
//!
//! STANDARDS. RFC 5321 §4.5.4 (retrying), §6.1 (reports), RFC 3461 (what senders want to know),
//! RFC 3464 (reports), RFC 6533 (reports on internationalised addresses).
//!
//! DIAGNOSTICS. `msg.accepted`, `msg.delivered`, `msg.deferred`, `msg.failed`, `msg.bounced` (a
//! report went to the sender), `msg.dropped` (a failure that nobody can be told),
//! `msg.damaged`, each with `qid`; `queue.restored`, `queue.draining`, `queue.failed`. When the disk
//! cannot be written the process ends with an error, so that nothing is promised any more.
//!
//! FILES. `queued.data_dir`, by default `queue` under the home folder.

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use daemon_kit::Context;
use mail_rpc::directory::Directory;
use mail_rpc::transport::Endpoint;
use queue_store::{SledOptions, SledStore};
use queued::clock::Clock;
use queued::queue::Queue;
use tracing::error;

/// Peer daemons have users of their own; they are in the socket's group.
const PEERS: u32 = 0o660;
/// How long a predecessor that was killed may still have the folder.
const LOCK_WAIT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    daemon_kit::run("queued", "The durable queue", run)
}

async fn run(context: Context) -> anyhow::Result<()> {
    let config = context.config();
    let settings = queued::settings(&config)?;
    let options = SledOptions {
        folder: config.queued.data_dir.clone(),
        cache: config.queued.cache.bytes(),
        min_free: config.queued.min_free.bytes(),
        now: Clock::start().now().wall,
        lock_wait: LOCK_WAIT,
    };
    let store = tokio::task::spawn_blocking(move || SledStore::open(&options))
        .await?
        .with_context(|| format!("opening {}", config.queued.data_dir.display()))?;
    let endpoint = |text: &str| text.parse::<Endpoint>();
    let channel = context.channel(&endpoint(&config.rpc.directory)?)?;
    let capacity = NonZeroUsize::new(config.queued.directory_cache).unwrap_or(NonZeroUsize::MIN);
    let directory = Directory::start(channel, capacity);
    let queue = Queue::start(
        settings,
        Arc::new(store),
        Arc::new(directory),
        context.shutdown().clone(),
        context.tracker().clone(),
    )?;
    for (socket, routes) in [
        (&config.rpc.queue_submit, queue.submission_routes()),
        (&config.rpc.queue_agent, queue.agent_routes()),
        (&config.rpc.queue_admin, queue.admin_routes()),
    ] {
        context
            .serve_grpc(&endpoint(socket)?, PEERS, routes)
            .await?;
    }
    context.spawn(follow_configuration(context.clone(), queue.clone()));
    context.ready().await;
    queue.drained().await;
    match queue.failure() {
        Some(failure) => Err(failure.into()),
        None => Ok(()),
    }
}

/// Takes what SIGHUP changed. Where the queue is, its sockets and its memory stay as they are.
async fn follow_configuration(context: Context, queue: Queue) {
    let mut changes = context.config_changes();
    loop {
        tokio::select! {
            () = context.shutdown().cancelled() => return,
            changed = changes.changed() => if changed.is_err() {
                return;
            },
        }
        match queued::settings(&context.config()) {
            Ok(settings) => queue.configure(settings),
            Err(error) => error!(%error, "the old settings of the queue stay"),
        }
    }
}
