//! remotedeliver: SMTP out.
//!
//! Attaches to queued, takes messages for other domains, looks up where they go (MX, A, AAAA, or a
//! smart host), and delivers them by SMTP. Each recipient's outcome goes back to queued, which
//! decides what becomes of the message. Any number of these daemons may run.
//!
//! # SECURITY
//! Reads what any server on the Internet answers, and owns nothing: no mail but that under way, no
//! files but the passwords of smart hosts. Whoever takes it over sees the mail that goes out, and
//! can say that it was delivered. TLS with mail exchangers is opportunistic by default: it keeps
//! listeners out, not somebody who can redirect the connection; `tls_required` names the domains
//! for which certificates count. Passwords go only to a host with a valid certificate.
//!
//! # STANDARDS
//! RFC 5321 (SMTP), RFC 7505 (null MX), RFC 2920 (PIPELINING), RFC 3030 (CHUNKING), RFC 1870
//! (SIZE), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8), RFC 3461 (DSN), RFC 3207 (STARTTLS), RFC 7435
//! (opportunistic security), RFC 8314 (implicit TLS), RFC 4954 (AUTH).
//!
//! # DIAGNOSTICS
//! `msg.delivered`, `msg.deferred` and `msg.failed` in the log, with `qid`, `to`, the server as `mx`
//! and its words; metrics as `correo_remote_*`.
//!
//! # FILES
//! `correo.toml`, tables `[server]`, `[rpc]` and `[remotedeliver]`; the files of
//! `[[remotedeliver.credentials]]`.

use std::process::ExitCode;

use daemon_kit::Context;
use mail_rpc::transport::Endpoint;
use remotedeliver::Remote;
use tracing::error;

fn main() -> ExitCode {
    daemon_kit::run(
        "remotedeliver",
        "SMTP out: delivers mail to other servers",
        start,
    )
}

async fn start(context: Context) -> anyhow::Result<()> {
    let config = context.config();
    let remote = Remote::new(&config, context.tracker().clone())?;
    follow_config(&context, remote.clone());
    let channel = context.channel(&config.rpc.queue_agent.parse::<Endpoint>()?)?;
    // On the tracker: the daemon's end waits, within server.grace, for what is in its transaction.
    let shutdown = context.shutdown().clone();
    context.spawn(async move { remote.serve(&config, channel, shutdown).await });
    context.ready().await;
    context.shutdown().cancelled().await;
    Ok(())
}

fn follow_config(context: &Context, remote: Remote) {
    let mut changes = context.config_changes();
    let follower = context.clone();
    context.spawn(async move {
        loop {
            tokio::select! {
                () = follower.shutdown().cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
            if let Err(error) = remote.reload(&follower.config()) {
                error!(
                    error = format!("{error:#}"),
                    "the new configuration is not used"
                );
            }
        }
    });
}
