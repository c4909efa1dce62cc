//! A mail from one account to the other, through every daemon.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Zoned;
use jiff::fmt::rfc2822;
use mail_config::{Config, Size};
use mail_rpc::pb::directory::v1 as pb;
use pb::admin_refused::Reason;
use pb::admin_response::Result as Answer;
use tokio::time::{Instant, sleep};

use super::steps::Steps;
use super::wire::{Trust, Wire};
use crate::cmd::directory;
use crate::init::{DemoAccount, Demonstration};

/// How long the mail may take from the sender to the mailbox.
const DELIVERY: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(25);

/// Creates what is not there yet.
pub(super) async fn add_accounts(
    config: &Config,
    demonstration: &Demonstration,
) -> Result<(), String> {
    let mut admin = directory::connect(config)
        .await
        .map_err(|error| error.to_string())?;
    let request = pb::AddDomainRequest {
        domain: demonstration.domain.clone(),
    };
    there(admin.add_domain(request).await)?;
    for account in &demonstration.accounts {
        let request = pb::AddAccountRequest {
            address: account.address.clone(),
            password: account.password.clone().into(),
            quota_bytes: Size::default().bytes(),
        };
        there(admin.add_account(request).await)?;
    }
    Ok(())
}

/// What is there already is as good as what was added.
fn there(
    response: Result<tonic::Response<pb::AdminResponse>, tonic::Status>,
) -> Result<(), String> {
    let response = response.map_err(|status| status.message().to_owned())?;
    match response.into_inner().result {
        Some(Answer::Done(_)) => Ok(()),
        Some(Answer::Refused(refused)) if refused.reason() == Reason::AlreadyExists => Ok(()),
        Some(Answer::Refused(refused)) => Err(refused.detail),
        None => Err("directoryd gave no result".to_owned()),
    }
}

/// Sends and reads back.
pub(super) async fn run(config: &Config, demonstration: &Demonstration, steps: &mut Steps) {
    let [from, to, ..] = demonstration.accounts.as_slice() else {
        return;
    };
    let hostname = config.server.hostname.to_string();
    let trusted = async { Trust::new(&config.tls.certificate, &hostname) };
    let Some(trust) = steps.run("the certificate can be trusted", trusted).await else {
        return;
    };
    let token = format!("{:032x}", rand::random::<u128>());
    let mail = compose(from, to, &token);
    let sent = send(config, &trust, (from, to), &mail);
    steps
        .run("a mail is accepted: submission, STARTTLS, AUTH", sent)
        .await;
    let fetched = fetch_pop3(config, &trust, to, &token);
    steps.run("it is in the mailbox: POP3S", fetched).await;
    let fetched = fetch_imap(config, &trust, to, &token);
    steps.run("it is in the mailbox: IMAPS", fetched).await;
}

fn compose(from: &DemoAccount, to: &DemoAccount, token: &str) -> String {
    let date = rfc2822::to_string(&Zoned::now()).unwrap_or_default();
    let (sender, recipient) = (&from.address, &to.address);
    format!(
        "From: <{sender}>\r\nTo: <{recipient}>\r\nDate: {date}\r\n\
         Message-ID: <{token}@{}>\r\nSubject: A test of this Correo\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: 8bit\r\n\r\n\
         ¡Hola! Sent by `correo up`, through every daemon.\r\n\
         .A line that begins with a dot stays as it is.\r\n{token}\r\n",
        sender.rsplit('@').next().unwrap_or_default()
    )
}

/// RFC 6409, RFC 3207, RFC 4954.
async fn send(
    config: &Config,
    trust: &Trust,
    (from, to): (&DemoAccount, &DemoAccount),
    mail: &str,
) -> Result<String, String> {
    let mut wire = Wire::plain(config.smtpd.submission.listen.first()).await?;
    wire.reply("220").await?;
    wire.smtp("EHLO localhost", "250").await?;
    wire.smtp("STARTTLS", "220").await?;
    let mut wire = wire.secure(trust).await?;
    wire.smtp("EHLO localhost", "250").await?;
    let login = format!("\0{}\0{}", from.address, from.password);
    wire.smtp(&format!("AUTH PLAIN {}", STANDARD.encode(login)), "235")
        .await?;
    wire.smtp(
        &format!("MAIL FROM:<{}> BODY=8BITMIME", from.address),
        "250",
    )
    .await?;
    wire.smtp(&format!("RCPT TO:<{}>", to.address), "250")
        .await?;
    wire.smtp("DATA", "354").await?;
    // RFC 5321 §4.5.2: a leading dot is doubled.
    wire.send(mail.replace("\r\n.", "\r\n..").as_bytes())
        .await?;
    let accepted = wire.smtp(".", "250").await?;
    wire.smtp("QUIT", "221").await?;
    Ok(accepted)
}

/// RFC 1939: polls, since a POP3 session sees the mailbox as it was at its login.
async fn fetch_pop3(
    config: &Config,
    trust: &Trust,
    to: &DemoAccount,
    token: &str,
) -> Result<(), String> {
    let until = Instant::now() + DELIVERY;
    loop {
        let mut wire = Wire::tls(config.pop3d.listen_tls.first(), trust).await?;
        wire.pop3_status().await?;
        wire.pop3(&format!("USER {}", to.address)).await?;
        wire.pop3(&format!("PASS {}", to.password)).await?;
        let count = wire.pop3("STAT").await?;
        let count: u32 = count
            .split(' ')
            .next()
            .and_then(|n| n.parse().ok())
            .unwrap_or(0);
        // The newest is the last.
        let mut found = None;
        if count > 0 {
            wire.pop3(&format!("RETR {count}")).await?;
            let mail = multi_line(&mut wire).await?;
            found = mail.contains(token).then_some(mail);
        }
        wire.pop3("QUIT").await?;
        if let Some(mail) = found {
            return intact(&mail);
        }
        if Instant::now() > until {
            return Err(late());
        }
        sleep(POLL).await;
    }
}

async fn multi_line(wire: &mut Wire) -> Result<String, String> {
    let mut text = String::new();
    loop {
        let line = wire.line().await?;
        if line == "." {
            return Ok(text);
        }
        text.push_str(line.strip_prefix('.').unwrap_or(&line));
        text.push_str("\r\n");
    }
}

/// RFC 3501.
async fn fetch_imap(
    config: &Config,
    trust: &Trust,
    to: &DemoAccount,
    token: &str,
) -> Result<(), String> {
    let mut wire = Wire::tls(config.imapd.listen_tls.first(), trust).await?;
    let greeting = wire.line().await?;
    if !greeting.starts_with("* OK") {
        return Err(format!("the server says {greeting:?}"));
    }
    wire.imap("a1", &format!("LOGIN {} {}", to.address, to.password))
        .await?;
    wire.imap("a2", "SELECT INBOX").await?;
    let until = Instant::now() + DELIVERY;
    let uid = loop {
        let search = format!("UID SEARCH HEADER Message-ID {token}");
        let found = wire.imap("a3", &search).await?;
        let uid = found
            .lines()
            .find_map(|line| line.strip_prefix("* SEARCH "))
            .and_then(|uids| uids.split(' ').next())
            .map(str::to_owned);
        match uid {
            Some(uid) if !uid.is_empty() => break uid,
            _ if Instant::now() > until => return Err(late()),
            _ => sleep(POLL).await,
        }
    };
    let mail = wire
        .imap("a4", &format!("UID FETCH {uid} (BODY.PEEK[])"))
        .await?;
    wire.imap("a5", "LOGOUT").await?;
    if mail.contains(token) {
        intact(&mail)
    } else {
        Err("the mail that was found is another one".to_owned())
    }
}

/// What was sent is what came.
fn intact(mail: &str) -> Result<(), String> {
    let whole = mail.contains("¡Hola! Sent by `correo up`")
        && mail.contains("\r\n.A line that begins with a dot stays as it is.\r\n");
    if whole {
        Ok(())
    } else {
        Err(format!("the mail has changed on its way:\n{mail}"))
    }
}

fn late() -> String {
    format!(
        "the mail did not come within {} s; `correo queue list` says what became of it",
        DELIVERY.as_secs()
    )
}
