//! directoryd: domains, accounts, aliases and credentials.
//!
//! # Description
//!
//! Keeps the directory in one database under its folder and serves it on three sockets: to resolve
//! addresses (`DirectoryService`), to check logins (`AuthenticationService`), and to change it
//! (`DirectoryAdminService`). A change is on disk before it is answered, and is told to all daemons
//! that cache what they resolved.
//!
//! `postmaster` of a domain always leads somewhere (RFC 5321 §4.5.1): to the account or alias of
//! that name, to `directoryd.postmaster`, or to the domain's first account.
//!
//! # Security
//!
//! The only program that can read credentials: argon2id hashes and SCRAM keys, never passwords. The
//! front ends carry SASL messages here and learn the outcome alone. Guessing is slowed by delays, for
//! an address and for an account; an account is never locked. Unknown users take as long, and answer
//! SCRAM with as stable a salt, as known ones. Opens nothing but its folder, and no TCP socket unless
//! `rpc` says so.
//!
//! # Standards
//!
//! RFC 4422 (SASL), RFC 4616 (PLAIN), RFC 5802 and RFC 7677 (SCRAM-SHA-256), RFC 4013 (SASLprep),
//! RFC 9106 (argon2).
//!
//! # Diagnostics
//!
//! One INFO event for each login (`login.ok`, `login.failed`) and each change (`account.added`, …).
//! Exit status 78 for a bad configuration, 1 for a database that cannot be opened.
//!
//! # Files
//!
//! `directory/directory.redb` under the home folder.

mod admin_service;
mod auth_service;
mod directory_service;
mod names;
mod password;
mod store;
mod throttle;
mod verifier;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use daemon_kit::Context;
use mail_rpc::pb::directory::v1 as pb;
use mail_rpc::transport::Endpoint;
use pb::authentication_service_server::AuthenticationServiceServer;
use pb::directory_admin_service_server::DirectoryAdminServiceServer;
use pb::directory_service_server::DirectoryServiceServer;
use tonic::service::Routes;

use store::Store;
use throttle::Throttle;
use verifier::Verifier;

/// All daemons of the suite may resolve and check logins: those of its group.
const GROUP: u32 = 0o660;
/// Changes are for the owner alone.
const OWNER: u32 = 0o600;

fn main() -> ExitCode {
    daemon_kit::run(
        "directoryd",
        "The directory: domains, accounts, aliases and credentials",
        serve,
    )
}

async fn serve(context: Context) -> anyhow::Result<()> {
    let config = context.config();
    let folder = config.directoryd.data_dir.clone();
    let first_id = first_account_id();
    let opened = tokio::task::spawn_blocking(move || Store::open(&folder, first_id)).await?;
    let store = opened.with_context(|| {
        let folder = config.directoryd.data_dir.display();
        format!("cannot open the directory in {folder}; is another directoryd using it?")
    })?;
    let shared = auth_service::Shared {
        context: context.clone(),
        store: store.clone(),
        throttle: Throttle::new(&config.directoryd),
        verifier: Verifier::new(&config.directoryd)?,
    };

    let directory = DirectoryServiceServer::new(directory_service::Service {
        context: context.clone(),
        store: store.clone(),
    });
    let authentication = AuthenticationServiceServer::new(auth_service::Service(Arc::new(shared)));
    let admin = DirectoryAdminServiceServer::new(admin_service::Service {
        context: context.clone(),
        store,
    });
    let rpc = &config.rpc;
    let endpoint = |text: &str| text.parse::<Endpoint>();
    context
        .serve_grpc(&endpoint(&rpc.directory)?, GROUP, Routes::new(directory))
        .await?;
    let routes = Routes::new(authentication);
    context
        .serve_grpc(&endpoint(&rpc.directory_auth)?, GROUP, routes)
        .await?;
    context
        .serve_grpc(&endpoint(&rpc.directory_admin)?, OWNER, Routes::new(admin))
        .await?;
    context.ready().await;
    context.shutdown().cancelled().await;
    Ok(())
}

/// The first id of a new directory: later than any that a lost one can have given, as long as it
/// made fewer than a million accounts a second.
fn first_account_id() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs()) << 20
}
