//! What most scenarios need: a suite that they share, accounts of their own, sending and reading.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use testkit::{Dialogue, Suite, wait_until};

/// The domain of the shared suite.
pub(crate) const DOMAIN: &str = "aula.test";

/// An account.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) address: String,
    pub(crate) password: String,
}

/// The suite that the running scenarios share. The last one to let go of it ends it.
pub(crate) fn shared() -> Result<Arc<Suite>> {
    static SHARED: Mutex<Weak<Suite>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(suite) = shared.upgrade() {
        return Ok(suite);
    }
    let suite = Arc::new(Suite::of(DOMAIN).start()?);
    *shared = Arc::downgrade(&suite);
    Ok(suite)
}

/// A word that no other call gives.
pub(crate) fn unique(start: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{start}{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A new account.
pub(crate) fn new_user(suite: &Suite, local: &str) -> Result<User> {
    let user = User {
        address: suite.address(&unique(local)),
        password: unique("secret-"),
    };
    suite.add_account(&user.address, &user.password)?;
    Ok(user)
}

/// A small message.
pub(crate) fn message(from: &str, to: &str, subject: &str) -> String {
    format!("From: <{from}>\r\nTo: <{to}>\r\nSubject: {subject}\r\n\r\nHello, {to}.\r\n")
}

/// The initial response of AUTH PLAIN.
pub(crate) fn plain(user: &User) -> String {
    BASE64.encode(format!("\0{}\0{}", user.address, user.password))
}

/// A submission session of an authenticated user, up to MAIL.
pub(crate) fn submission(suite: &Suite, user: &User) -> Result<Dialogue> {
    let mut smtp = Dialogue::connect(suite.at(suite.ports().submission))?;
    smtp.expect("220")?;
    smtp.command("EHLO client.example", "250")?;
    smtp.command(&format!("AUTH PLAIN {}", plain(user)), "235")?;
    Ok(smtp)
}

/// Sends a transaction in an open session; gives the reply to the final dot.
pub(crate) fn transaction(
    smtp: &mut Dialogue,
    from: &str,
    to: &[&str],
    message: &str,
) -> Result<String> {
    smtp.command(&format!("MAIL FROM:<{from}>"), "250")?;
    for to in to {
        smtp.command(&format!("RCPT TO:<{to}>"), "250")?;
    }
    smtp.command("DATA", "354")?;
    let stuffed = message.replace("\r\n.", "\r\n..");
    smtp.send_raw(stuffed.as_bytes())?;
    smtp.command(".", "250 2.0.0")
}

/// Submits a message.
pub(crate) fn submit(suite: &Suite, user: &User, to: &[&str], message: &str) -> Result<String> {
    let mut smtp = submission(suite, user)?;
    let reply = transaction(&mut smtp, &user.address, to, message)?;
    smtp.command("QUIT", "221")?;
    Ok(reply)
}

/// The 13 characters of a queue id in the reply to the final dot.
pub(crate) fn queue_id(reply: &str) -> Result<String> {
    let is_id = |word: &&str| word.len() == 13 && word.bytes().all(|b| b.is_ascii_alphanumeric());
    let mut words = reply.split(|c: char| !c.is_ascii_alphanumeric());
    Ok(words
        .rfind(is_id)
        .context("no queue id in the reply")?
        .to_owned())
}

/// An IMAP session with a mailbox selected.
pub(crate) fn imap(suite: &Suite, user: &User, mailbox: &str) -> Result<Dialogue> {
    let mut imap = Dialogue::connect(suite.at(suite.ports().imap))?;
    imap.line()?.context("no greeting")?;
    imap.imap("l", &format!("LOGIN {} {}", user.address, user.password))?;
    imap.imap("s", &format!("SELECT {mailbox}"))?;
    Ok(imap)
}

/// All messages of INBOX.
pub(crate) fn inbox(suite: &Suite, user: &User) -> Result<Vec<String>> {
    let mut imap = imap(suite, user, "INBOX")?;
    imap.send("f UID FETCH 1:* BODY.PEEK[]")?;
    let mut messages = Vec::new();
    loop {
        let line = imap.line()?.context("the server closed the connection")?;
        if let Some(size) = line
            .strip_suffix('}')
            .and_then(|line| line.rsplit_once('{'))
        {
            let octets = imap.octets(size.1.parse()?)?;
            messages.push(String::from_utf8_lossy(&octets).into_owned());
        } else if let Some(status) = line.strip_prefix("f ") {
            ensure!(status.starts_with("OK"), "{status}");
            break;
        }
    }
    imap.imap("q", "LOGOUT")?;
    Ok(messages)
}

/// Waits for a message in INBOX that contains a text, and gives it.
pub(crate) fn wait_mail(suite: &Suite, user: &User, text: &str) -> Result<String> {
    wait_until(&format!("{} gets a mail with {text}", user.address), || {
        Ok(inbox(suite, user)?
            .into_iter()
            .find(|mail| mail.contains(text)))
    })
    .with_context(|| suite.recent_logs())
}

/// Splits a message at its empty line.
pub(crate) fn body(message: &str) -> &str {
    message.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}
