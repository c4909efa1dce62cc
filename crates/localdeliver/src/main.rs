//! localdeliver – delivery into mailboxes, and their owner
//!
//! Attaches to queued as an agent for local delivery, stores each message once, and serves
//! mailboxes to imapd and pop3d, with a feed of all that changes in them.
//!
//! SECURITY. Reads and writes the mail store alone; no other daemon can. It parses messages, which
//! are hostile, in memory-safe code with bounded depth. Who owns it can read and lose all mail; it
//! knows no passwords and opens no connection to other hosts.
//!
//! STANDARDS. RFC 5321 §4.4 (Return-Path), RFC 3501 (what mailboxes are), RFC 4315, RFC 6851,
//! RFC 7162 (MODSEQ), RFC 8474 (object ids).
//!
//! DIAGNOSTICS. `msg.delivered`, `msg.deferred` and `msg.failed` with `qid`; `store.failed` before
//! the process ends because a sync failed: what is on disk is then read anew at the next start.
//!
//! FILES. `localdeliver.data_dir`, by default `mail` under the home folder: a folder an account.

mod agent;
mod budget;
mod convert;
mod delivery;
mod search;
mod service;
mod stores;

use std::num::NonZeroUsize;
use std::process::ExitCode;

use anyhow::Context as _;
use daemon_kit::Context;
use mail_rpc::pb::mailbox::v1::mailbox_admin_service_server::MailboxAdminServiceServer;
use mail_rpc::pb::mailbox::v1::mailbox_service_server::MailboxServiceServer;
use mail_rpc::transport::Endpoint;
use mailbox_store::{MailStore, Options};
use tonic::service::Routes;

use crate::service::Service;
use crate::stores::Stores;

/// Peer daemons have users of their own; they are in the socket's group.
const PEERS: u32 = 0o660;
/// The largest request: a list of UIDs or a search can be long.
const MAX_REQUEST: usize = 16 * 1024 * 1024;

fn main() -> ExitCode {
    daemon_kit::run(
        "localdeliver",
        "Local delivery and the owner of all mailboxes",
        run,
    )
}

async fn run(context: Context) -> anyhow::Result<()> {
    let config = context.config();
    let own = &config.localdeliver;
    let options = Options {
        index_cache: usize::try_from(own.index_cache.bytes())?,
        segment_size: own.segment_size.bytes(),
        journal_size: own.journal_size.bytes(),
        reclaim_percent: own.reclaim_percent,
        reclaim_rate: own.reclaim_rate.bytes(),
        pending: usize::try_from(own.pending_memory.bytes())?,
        open_accounts: NonZeroUsize::new(own.open_accounts).unwrap_or(NonZeroUsize::MIN),
        ..Options::default()
    };
    let store = MailStore::open(own.data_dir.clone(), options)
        .with_context(|| format!("opening {}", own.data_dir.display()))?;
    let stores = Stores::new(store, context.shutdown().clone())?;
    let service = Service::new(&context, stores.clone());
    let endpoint = |text: &str| text.parse::<Endpoint>();
    let mailbox = MailboxServiceServer::new(service.clone()).max_decoding_message_size(MAX_REQUEST);
    context
        .serve_grpc(&endpoint(&config.rpc.mailbox)?, PEERS, Routes::new(mailbox))
        .await?;
    let admin = Routes::new(MailboxAdminServiceServer::new(service));
    context
        .serve_grpc(&endpoint(&config.rpc.mailbox_admin)?, PEERS, admin)
        .await?;
    context.ready().await;
    agent::run(&context, &stores, &endpoint(&config.rpc.queue_agent)?).await?;
    stores.result()
}
