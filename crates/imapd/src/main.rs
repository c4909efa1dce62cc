//! imapd – IMAP front end
//!
//! Lets mail clients read and order their mail. It keeps nothing: logins are directoryd's,
//! mailboxes are localdeliver's; a session holds what its client was told of one mailbox.
//!
//! SECURITY. Talks to the whole Internet and owns no file but the TLS key. Who takes it over sees
//! the passwords and mail of those who log in from then on.
//!
//! STANDARDS. RFC 3501 (IMAP4rev1), RFC 2177 (IDLE), RFC 2342 (NAMESPACE), RFC 2971 (ID),
//! RFC 3348 (CHILDREN), RFC 3691 (UNSELECT), RFC 4315 (UIDPLUS), RFC 4731 (ESEARCH), RFC 4959
//! (SASL-IR), RFC 5032 (WITHIN), RFC 5161 (ENABLE), RFC 5258 (LIST-EXTENDED), RFC 5530 (response
//! codes), RFC 5819 (LIST-STATUS), RFC 6154 (SPECIAL-USE), RFC 6851 (MOVE), RFC 7162 (CONDSTORE),
//! RFC 7888 (LITERAL+), RFC 8474 (OBJECTID).
//!
//! DIAGNOSTICS. `session.opened`, `session.closed`, `login.ok` and `login.failed` with `sid`.
//!
//! FILES. `correo.toml`, tables `[server]`, `[tls]`, `[rpc]` and `[imapd]`.

mod answer;
mod appender;
mod capability;
mod cmd;
mod connection;
mod conversation;
mod mailboxes;
mod view;

use std::process::ExitCode;
use std::sync::Arc;

use daemon_kit::{ConnectionLimits, Context, Service};
use mail_rpc::auth::Authenticator;
use mail_rpc::mailbox::Fetcher;
use mail_rpc::pb::mailbox::v1::mailbox_service_client::MailboxServiceClient;
use mail_rpc::transport::Endpoint;
use tonic::transport::Channel;
use tracing::warn;

use appender::Appender;
use mailboxes::Mailboxes;

/// The service with TLS from the start.
const IMAPS: &str = "imaps";
/// The service with STARTTLS.
const IMAP: &str = "imap";
/// Said to a client for which there is no place.
const BUSY: &[u8] = b"* BYE [UNAVAILABLE] too many connections, try again later\r\n";
/// A snapshot frame of 50,000 messages has some 2 MB; a STORE of all of them answers as much.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// What all sessions share.
#[derive(Debug)]
struct Shared {
    context: Context,
    authenticator: Authenticator,
    appender: Appender,
    fetcher: Fetcher,
    store: MailboxServiceClient<Channel>,
    mailboxes: Arc<Mailboxes>,
}

fn main() -> ExitCode {
    daemon_kit::run(
        "imapd",
        "IMAP: lets mail clients read and order their mail",
        start,
    )
}

async fn start(context: Context) -> anyhow::Result<()> {
    let config = context.config();
    let channel = |endpoint: &str| context.channel(&endpoint.parse::<Endpoint>()?);
    let mailbox = channel(&config.rpc.mailbox)?;
    let store = MailboxServiceClient::new(mailbox.clone()).max_decoding_message_size(MAX_ANSWER);
    let cache = usize::try_from(config.imapd.mailbox_cache.bytes()).unwrap_or(usize::MAX);
    let shared = Arc::new(Shared {
        context: context.clone(),
        authenticator: Authenticator::new(channel(&config.rpc.directory_auth)?),
        appender: Appender::start(store.clone()),
        fetcher: Fetcher::start(mailbox),
        mailboxes: Mailboxes::new(store.clone(), cache),
        store,
    });
    let mut services = vec![Service {
        name: IMAP,
        listen: config.imapd.listen.clone(),
        busy: BUSY,
    }];
    if context.tls().is_some() {
        let listen = config.imapd.listen_tls.clone();
        services.push(Service {
            name: IMAPS,
            listen,
            busy: &[],
        });
    } else {
        warn!("no tls.certificate: no imaps service, and logins from this host only");
    }
    let limits = ConnectionLimits {
        total: config.imapd.max_connections,
        per_ip: config.imapd.max_connections_per_ip,
    };
    context.serve(&services, limits, move |name, connection| {
        // The task would have room for it twice.
        Box::pin(connection::serve(shared.clone(), name, connection))
    })?;
    context.ready().await;
    context.shutdown().cancelled().await;
    Ok(())
}
