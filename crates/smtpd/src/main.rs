//! smtpd: SMTP in.
//!
//! Takes mail from other servers (port 25) and from the suite's users (587 with STARTTLS, 465 with
//! TLS from the start), and hands each message to queued. A message is accepted, 250, when queued
//! says that it is on disk, and not before.
//!
//! # SECURITY
//! Talks to the whole Internet, and so owns nothing: no file but the TLS key, no password (logins
//! are directoryd's), no mail (content goes straight to queued). Whoever takes it over can hand in
//! mail and see what passes. It never relays for a client that has not logged in and is in no
//! configured network.
//!
//! # STANDARDS
//! RFC 5321 (SMTP), RFC 6409 (submission), RFC 8314 (implicit TLS), RFC 3207 (STARTTLS), RFC 4954
//! (AUTH), RFC 1870 (SIZE), RFC 2034 and RFC 3463 (enhanced status codes), RFC 2920 (PIPELINING),
//! RFC 3030 (CHUNKING, BINARYMIME), RFC 3461 (DSN), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8).
//!
//! # DIAGNOSTICS
//! `session.opened`, `session.closed`, `login.ok`, `login.failed`, `msg.accepted` and `msg.refused`
//! in the log, with the session's id as `sid` and the queue's as `qid`; metrics as `correo_smtp_*`.
//!
//! # FILES
//! `correo.toml`, tables `[server]`, `[tls]`, `[rpc]` and `[smtpd]`.

mod client;
mod connection;
mod conversation;
mod envelope;
mod live;
mod message;
mod networks;
mod policy;
mod role;
mod shared;
mod submit;

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;

use daemon_kit::{ConnectionLimits, Context, Service};
use mail_config::Smtpd;
use mail_rpc::auth::Authenticator;
use mail_rpc::directory::Directory;
use mail_rpc::transport::Endpoint;
use smtp_proto::server::BUSY;
use tokio::sync::{Semaphore, watch};
use tonic::transport::Channel;
use tracing::{error, warn};

use crate::live::Live;
use crate::role::Role;
use crate::shared::{PAGE, Shared};
use crate::submit::Submitter;

fn main() -> ExitCode {
    daemon_kit::run("smtpd", "SMTP in: takes mail and hands it to queued", start)
}

async fn start(context: Context) -> anyhow::Result<()> {
    let config = context.config();
    let (live, receiver) = watch::channel(Arc::new(Live::new(&config)?));
    follow_config(&context, live);
    let rpc = &config.rpc;
    let capacity = NonZeroUsize::new(config.smtpd.directory_cache).unwrap_or(NonZeroUsize::MIN);
    // A budget below one message's share would let none in.
    let pages = (config.smtpd.max_memory.as_usize() / PAGE).clamp(64, Semaphore::MAX_PERMITS);
    let shared = Arc::new(Shared {
        live: receiver,
        directory: Directory::start(channel(&context, &rpc.directory)?, capacity),
        authenticator: Authenticator::new(channel(&context, &rpc.directory_auth)?),
        mechanisms: shared::Mechanisms::default(),
        submitter: Submitter::new(channel(&context, &rpc.queue_submit)?),
        memory: Arc::new(Semaphore::new(pages)),
    });
    let limits = ConnectionLimits {
        total: config.smtpd.max_connections,
        per_ip: config.smtpd.max_connections_per_ip,
    };
    let handler = {
        let context = context.clone();
        move |name: &'static str, connection| {
            let (context, shared) = (context.clone(), shared.clone());
            async move {
                if let Some(role) = Role::from_name(name) {
                    connection::serve(context, shared, role, connection).await;
                }
            }
        }
    };
    if context.tls().is_none() {
        warn!("no tls.certificate: no submissions service, and logins from this host only");
    }
    context.serve(
        &services(&config.smtpd, context.tls().is_some()),
        limits,
        handler,
    )?;
    context.ready().await;
    context.shutdown().cancelled().await;
    Ok(())
}

fn channel(context: &Context, endpoint: &str) -> anyhow::Result<Channel> {
    context.channel(&endpoint.parse::<Endpoint>()?)
}

fn services(config: &Smtpd, tls: bool) -> Vec<Service> {
    let service = |role: Role, listen: &[_]| Service {
        name: role.name(),
        listen: listen.to_vec(),
        busy: if role.is_implicit_tls() { &[] } else { BUSY },
    };
    let mut services = vec![
        service(Role::Mx, &config.mx.listen),
        service(Role::Submission, &config.submission.listen),
    ];
    if tls {
        services.push(service(Role::Submissions, &config.submissions.listen));
    }
    services
}

/// Keeps what sessions take from the configuration up to date.
fn follow_config(context: &Context, live: watch::Sender<Arc<Live>>) {
    let mut changes = context.config_changes();
    let follower = context.clone();
    context.spawn(async move {
        loop {
            tokio::select! {
                () = follower.shutdown().cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
            match Live::new(&follower.config()) {
                Ok(new) => {
                    live.send_replace(Arc::new(new));
                }
                Err(error) => error!(%error, "the new configuration is not used"),
            }
        }
    });
}
