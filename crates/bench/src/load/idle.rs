use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::Sample;
use super::imap::Imap;
use super::message::message;
use super::smtp::{SmtpSession, envelope};

/// How long a session may wait for the news of one message.
const PATIENCE: Duration = Duration::from_mins(1);

/// The time from the 250 for a message to the EXISTS that another session sees in IDLE, with a pause
/// before each message.
pub(crate) fn latency(
    smtp: SocketAddr,
    imap: SocketAddr,
    (address, password): (&str, &str),
    count: usize,
    pause: Duration,
) -> Result<Sample> {
    let (seen, news) = channel();
    let mut watcher = Imap::login(imap, address, password)?;
    let mut there = watcher.count("INBOX")?;
    let all = there + count;
    watcher.command("SELECT INBOX")?;
    let tag = watcher.idle()?;
    let watching = std::thread::spawn(move || -> Result<()> {
        while there < all {
            let exist = watcher.wait_exists()?;
            // One EXISTS may tell of two messages.
            for _ in there..exist.min(all) {
                seen.send(Instant::now())?;
            }
            there = there.max(exist);
        }
        watcher.done(tag)
    });
    let mut session = SmtpSession::open(smtp, false)?;
    let mut content = message(3, 4096);
    content.extend(b".\r\n");
    let mut sample = Sample::default();
    for _ in 0..count {
        std::thread::sleep(pause);
        session.send(&envelope(address), &content)?;
        let accepted = Instant::now();
        let at = news.recv_timeout(PATIENCE).context("no EXISTS came")?;
        // It may come before we have read the 250.
        sample
            .latencies
            .push(at.saturating_duration_since(accepted));
        sample.operations += 1;
    }
    watching
        .join()
        .map_err(|_| anyhow!("the watching session panicked"))??;
    Ok(sample)
}

/// IMAP sessions in IDLE, spread over some accounts. They last as long as what is given back.
pub(crate) fn imap_sessions(
    server: SocketAddr,
    logins: &[String],
    password: &str,
    count: usize,
) -> Result<Vec<Imap>> {
    let mut open = Vec::with_capacity(count);
    for number in 0..count {
        let login = logins
            .get(number % logins.len().max(1))
            .context("no logins")?;
        let mut imap = Imap::login(server, login, password)?;
        imap.command("SELECT INBOX")?;
        imap.idle()?;
        imap.release();
        open.push(imap);
    }
    Ok(open)
}

/// SMTP sessions behind EHLO.
pub(crate) fn smtp_sessions(server: SocketAddr, count: usize) -> Result<Vec<SmtpSession>> {
    let mut open = Vec::with_capacity(count);
    for _ in 0..count {
        let mut session = SmtpSession::open(server, false)?;
        session.release();
        open.push(session);
    }
    Ok(open)
}
