//! pop3d – POP3 front end
//!
//! Lets mail clients fetch and delete the mail in their INBOX. It keeps nothing: logins are
//! directoryd's, mailboxes are localdeliver's.
//!
//! SECURITY. Talks to the whole Internet and owns no file but the TLS key. Who takes it over sees
//! the passwords and mail of those who log in from then on.
//!
//! STANDARDS. RFC 1939 (POP3), RFC 2449 (CAPA, response codes, pipelining), RFC 2595 (STLS),
//! RFC 5034 (AUTH), RFC 3206 (SYS/TEMP, AUTH), RFC 8314 (implicit TLS).
//!
//! DIAGNOSTICS. `session.opened`, `session.closed`, `login.ok` and `login.failed` with `sid`;
//! `maildrop.lock_lost` and `maildrop.lock_retaken` where localdeliver restarts.
//!
//! FILES. `correo.toml`, tables `[server]`, `[tls]`, `[rpc]` and `[pop3d]`.

mod ahead;
mod connection;
mod lock;
mod login;
mod maildrop;

use std::process::ExitCode;
use std::sync::Arc;

use daemon_kit::{ConnectionLimits, Context, Service};
use mail_rpc::auth::Authenticator;
use mail_rpc::mailbox::Fetcher;
use mail_rpc::pb::mailbox::v1::mailbox_service_client::MailboxServiceClient;
use mail_rpc::transport::Endpoint;
use pop3_proto::BUSY;
use tonic::transport::Channel;
use tracing::warn;

use crate::ahead::Budget;

/// The service with TLS from the start.
const POP3S: &str = "pop3s";
/// The service with STLS.
const POP3: &str = "pop3";
/// A snapshot frame of 50,000 messages has some 2 MB.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// What all sessions share.
#[derive(Debug)]
struct Shared {
    context: Context,
    authenticator: Authenticator,
    fetcher: Fetcher,
    mailboxes: MailboxServiceClient<Channel>,
    read_ahead: Budget,
}

fn main() -> ExitCode {
    daemon_kit::run("pop3d", "POP3: lets mail clients fetch their mail", start)
}

async fn start(context: Context) -> anyhow::Result<()> {
    let config = context.config();
    let channel = |endpoint: &str| context.channel(&endpoint.parse::<Endpoint>()?);
    let mailbox = channel(&config.rpc.mailbox)?;
    let shared = Arc::new(Shared {
        context: context.clone(),
        authenticator: Authenticator::new(channel(&config.rpc.directory_auth)?),
        fetcher: Fetcher::start(mailbox.clone()),
        mailboxes: MailboxServiceClient::new(mailbox).max_decoding_message_size(MAX_ANSWER),
        read_ahead: Budget::new(config.pop3d.read_ahead_memory.bytes()),
    });
    let mut services = vec![Service {
        name: POP3,
        listen: config.pop3d.listen.clone(),
        busy: BUSY,
    }];
    if context.tls().is_some() {
        let listen = config.pop3d.listen_tls.clone();
        services.push(Service {
            name: POP3S,
            listen,
            busy: &[],
        });
    } else {
        warn!("no tls.certificate: no pop3s service, and logins from this host only");
    }
    let limits = ConnectionLimits {
        total: config.pop3d.max_connections,
        per_ip: config.pop3d.max_connections_per_ip,
    };
    context.serve(&services, limits, move |name, connection| {
        connection::serve(shared.clone(), name, connection)
    })?;
    context.ready().await;
    context.shutdown().cancelled().await;
    Ok(())
}
