//! The daemon as a process, over real sockets, with the other daemons faked.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic, also in their helper functions"
)]

#[path = "daemon/mailbox.rs"]
mod mailbox;
#[path = "daemon/process.rs"]
mod process;
#[path = "daemon/world.rs"]
mod world;

use std::sync::Arc;
use std::time::Duration;

use process::{Client, Daemon};
use tokio::net::TcpStream;

const SMALL: &str = "Subject: small\r\n\r\n.dot\r\n..\r\n.\r\nend\r\n";

/// UIDs 2, 5 and 9: a small mail, one of many pieces, and a small one.
async fn start(options: &str) -> Daemon {
    let daemon = Daemon::start(options).await;
    let messages = vec![
        (2, SMALL.as_bytes().to_vec()),
        (5, large().into_bytes()),
        (9, b"Subject: no end of line".to_vec()),
    ];
    daemon.world.mailbox.state().messages = messages;
    daemon
}

fn large() -> String {
    let line = "0123456789".repeat(7);
    format!(
        "Subject: large\r\n\r\n{}",
        format!("{line}\r\n.{line}\r\n").repeat(5000)
    )
}

async fn log_in(daemon: &Daemon) -> Client<TcpStream> {
    let mut client = daemon.connect(daemon.pop3).await;
    client.say("", "+OK").await;
    client.say("USER ana@aula.test", "+OK").await;
    client.say("PASS two words", "+OK 3 messages").await;
    client
}

/// What a client makes of the lines of an answer.
fn unstuffed(lines: &[String]) -> String {
    let plain = lines
        .iter()
        .map(|line| line.strip_prefix('.').unwrap_or(line));
    plain.flat_map(|line| [line, "\r\n"]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_is_read_as_it_is_stored() {
    let daemon = start("").await;
    let mut client = log_in(&daemon).await;
    let size = SMALL.len() + large().len() + 23;
    client.say("STAT", &format!("+OK 3 {size}")).await;
    client.say("UIDL", "+OK").await;
    assert_eq!(client.lines().await, ["1 11.2", "2 11.5", "3 11.9"]);
    client.say("RETR 1", "+OK").await;
    assert_eq!(unstuffed(&client.lines().await), SMALL);
    client.say("RETR 2", "+OK").await;
    assert_eq!(unstuffed(&client.lines().await), large());
    client.say("RETR 3", "+OK").await;
    assert_eq!(client.lines().await, ["Subject: no end of line"]);
    client.say("RETR 4", "-ERR").await;
    client.say("QUIT", "+OK").await;
    assert_eq!(client.line().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_at_once() {
    let daemon = start("").await;
    let mut client = log_in(&daemon).await;
    let input = "RETR 3\r\nRETR 1\r\nRETR 2\r\nRETR 1\r\nTOP 1 1\r\nRETR 3\r\nNOOP\r\nRETR 1\r\n";
    client.send(input.repeat(50).as_bytes()).await;
    for _ in 0..50 {
        for want in ["Subject: no end of line\r\n", SMALL, &large(), SMALL] {
            client.say("", "+OK").await;
            assert!(unstuffed(&client.lines().await) == want);
        }
        client.say("", "+OK").await;
        assert_eq!(client.lines().await, ["Subject: small", "", "..dot"]);
        client.say("", "+OK").await;
        client.lines().await;
        client.say("", "+OK").await;
        client.say("", "+OK").await;
        assert_eq!(unstuffed(&client.lines().await), SMALL);
    }
}

/// Fifty small messages with a large one among them.
async fn start_many(options: &str) -> (Daemon, Vec<String>) {
    let daemon = Daemon::start(options).await;
    let mut mails: Vec<String> = (0..50)
        .map(|number| format!("Subject: {number}\r\n\r\n.{number}\r\n"))
        .collect();
    mails[30] = large();
    let uids = (0..50).map(|number| 100 + 2 * number + number / 10);
    let messages = uids.zip(mails.iter().map(|mail| mail.clone().into_bytes()));
    daemon.world.mailbox.state().messages = messages.collect();
    (daemon, mails)
}

fn retrievals(numbers: impl IntoIterator<Item = usize>) -> String {
    let commands = numbers.into_iter().map(|number| format!("RETR {number}"));
    commands
        .flat_map(|command| [command, "\r\n".to_owned()])
        .collect()
}

async fn log_in_to_many(daemon: &Daemon) -> Client<TcpStream> {
    let mut client = daemon.connect(daemon.pop3).await;
    client.say("", "+OK").await;
    client.say("USER ana@aula.test", "+OK").await;
    client.say("PASS two words", "+OK 50 messages").await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn one_after_the_other_is_read_ahead() {
    let (daemon, mails) = start_many("").await;
    for depth in [1, 7, 50] {
        let mut client = log_in_to_many(&daemon).await;
        let numbers: Vec<usize> = (1..=50).collect();
        for numbers in numbers.chunks(depth) {
            client
                .send(retrievals(numbers.iter().copied()).as_bytes())
                .await;
            for number in numbers {
                client.say("", "+OK").await;
                assert!(
                    unstuffed(&client.lines().await) == mails[number - 1],
                    "{number}"
                );
            }
        }
        let (alone, together) = {
            let mut state = daemon.world.mailbox.state();
            let alone = std::mem::take(&mut state.fetched).len();
            (alone, std::mem::take(&mut state.packed))
        };
        // By themselves came the first ones, before their order was seen, and the large one.
        assert!(
            (2..=4).contains(&alone),
            "{alone} by themselves, {depth} at once"
        );
        assert!((2..=6).contains(&together.len()), "{together:?}");
        client.say("QUIT", "+OK").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn back_and_forth_and_deleted_messages() {
    let (daemon, mails) = start_many("").await;
    let mut client = log_in_to_many(&daemon).await;
    let order = [
        1, 2, 3, 4, 10, 11, 12, 5, 6, 7, 7, 8, 50, 29, 30, 31, 32, 33, 1, 2,
    ];
    for number in order {
        client.say(&format!("RETR {number}"), "+OK").await;
        assert!(
            unstuffed(&client.lines().await) == mails[number - 1],
            "{number}"
        );
    }
    client.say("DELE 2", "+OK").await;
    client.say("DELE 5", "+OK").await;
    for number in [1, 3, 4, 6, 7] {
        client
            .say(&format!("RETR {number}\r\nDELE {number}"), "+OK")
            .await;
        assert!(
            unstuffed(&client.lines().await) == mails[number - 1],
            "{number}"
        );
        client.say("", "+OK").await;
    }
    client.say("RETR 5", "-ERR").await;
    client.say("RSET", "+OK").await;
    client.say("RETR 5", "+OK").await;
    assert!(unstuffed(&client.lines().await) == mails[4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_ahead_is_told_in_its_turn() {
    let (daemon, mails) = start_many("").await;
    let mut client = log_in_to_many(&daemon).await;
    let damaged = {
        let mut state = daemon.world.mailbox.state();
        state.messages.remove(5);
        state.damaged = state.messages[7].0;
        state.damaged
    };
    client.send(retrievals(1..=20).as_bytes()).await;
    for number in 1..=20_usize {
        match number {
            6 => drop(client.say("", "-ERR the message").await),
            9 => drop(client.say("", "-ERR [SYS/TEMP]").await),
            _ => {
                client.say("", "+OK").await;
                assert!(
                    unstuffed(&client.lines().await) == mails[number - 1],
                    "{number}"
                );
            }
        }
    }
    assert!(damaged > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_memory_nothing_is_read_ahead() {
    let (daemon, mails) = start_many("read_ahead_memory = \"0B\"").await;
    let mut client = log_in_to_many(&daemon).await;
    client.send(retrievals(1..=50).as_bytes()).await;
    for mail in &mails {
        client.say("", "+OK").await;
        assert!(unstuffed(&client.lines().await) == *mail);
    }
    assert!(daemon.world.mailbox.state().packed.is_empty());
}

/// Waits until the log has a text: lines are written together, a little later.
async fn logged(daemon: &Daemon, text: &str) {
    for _ in 0..100 {
        if daemon.log().contains(text) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no {text}: {}", daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lock_is_taken_again_behind_a_restart() {
    let daemon = start("").await;
    let mut client = log_in(&daemon).await;
    daemon.world.mailbox.restart.notify_waiters();
    logged(&daemon, "maildrop.lock_retaken").await;
    assert!(daemon.world.mailbox.state().locked);
    let mut second = daemon.connect(daemon.pop3).await;
    second.say("", "+OK").await;
    second.say("USER ana@aula.test", "+OK").await;
    second.say("PASS two words", "-ERR [IN-USE]").await;
    client.say("DELE 1", "+OK").await;
    // It has it again, or soon: QUIT waits for that.
    daemon.world.mailbox.restart.notify_waiters();
    client.say("QUIT", "+OK").await;
    assert_eq!(daemon.world.mailbox.state().messages.len(), 2);
    drop(client);

    // Where the maildrop is another one now, nothing is deleted by the old one's UIDs.
    let mut client = daemon.connect(daemon.pop3).await;
    client.say("", "+OK").await;
    client.say("USER ana@aula.test", "+OK").await;
    client.say("PASS two words", "+OK 2 messages").await;
    client.say("DELE 1", "+OK").await;
    daemon.world.mailbox.state().uid_validity = 12;
    daemon.world.mailbox.restart.notify_waiters();
    logged(&daemon, "the maildrop is another one now").await;
    client.say("QUIT", "-ERR [SYS/TEMP]").await;
    assert_eq!(daemon.world.mailbox.state().messages.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn top_reads_little() {
    let daemon = start("").await;
    let mut client = log_in(&daemon).await;
    client.say("TOP 2 1", "+OK").await;
    assert_eq!(client.lines().await.len(), 3);
    assert_eq!(daemon.world.mailbox.state().fetched, [(5, 0, 65536)]);
    client.say("TOP 2 100000", "+OK").await;
    assert_eq!(unstuffed(&client.lines().await), large());
    assert_eq!(daemon.world.mailbox.state().fetched[2], (5, 65536, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_quit_deletes() {
    let daemon = start("").await;
    let uids = || {
        let state = daemon.world.mailbox.state();
        state
            .messages
            .iter()
            .map(|message| message.0)
            .collect::<Vec<_>>()
    };
    let mut client = log_in(&daemon).await;
    client.say("DELE 1", "+OK").await;
    client.say("RETR 1", "-ERR").await;
    drop(client);
    // The lock goes with the connection, and the next login waits for it.
    let mut client = log_in(&daemon).await;
    assert_eq!(uids(), [2, 5, 9]);
    client.say("DELE 1", "+OK").await;
    client.say("DELE 3", "+OK").await;
    daemon.world.mailbox.state().expunge_fails = true;
    client.say("QUIT", "-ERR [SYS/TEMP]").await;
    assert_eq!(client.line().await, None);
    daemon.world.mailbox.state().expunge_fails = false;
    let mut client = log_in(&daemon).await;
    client.send(b"DELE 1\r\nDELE 3\r\nQUIT\r\n").await;
    for _ in 0..3 {
        client.say("", "+OK").await;
    }
    assert_eq!(uids(), [5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_session_at_a_time() {
    let daemon = start("").await;
    let _first = log_in(&daemon).await;
    let mut second = daemon.connect(daemon.pop3).await;
    second.say("", "+OK").await;
    second.say("USER ana@aula.test", "+OK").await;
    second.say("PASS two words", "-ERR [IN-USE]").await;
    second.say("STAT", "-ERR").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logins() {
    let daemon = start("").await;
    let mut client = daemon.connect(daemon.pop3).await;
    client.say("", "+OK").await;
    client.say("USER ana@aula.test", "+OK").await;
    client.say("PASS two  words", "-ERR [AUTH]").await;
    client
        .say("AUTH PLAIN AGFuYUBhdWxhLnRlc3QAd3Jvbmc=", "-ERR [AUTH]")
        .await;
    client.say("AUTH PLAIN", "+ ").await;
    client.say("*", "-ERR").await;
    client.say("AUTH PLAIN", "+ ").await;
    client
        .say("AGFuYUBhdWxhLnRlc3QAdHdvIHdvcmRz", "+OK 3 messages")
        .await;
    client.say("AUTH PLAIN", "-ERR").await;
    // Secrets stay out of the log, whatever its level.
    logged(&daemon, "login.ok").await;
    logged(&daemon, "login.failed").await;
    let log = daemon.log();
    for secret in ["words", "wrong", "AGFuYUBhdWxhLnRlc3QA"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_forgets_all_that_came_before() {
    let daemon = start("").await;
    let mut client = daemon.connect(daemon.pop3).await;
    client.say("", "+OK").await;
    client.say("USER ana@aula.test", "+OK").await;
    client.say("STLS\r\nNOOP\r\nCAPA", "+OK").await;
    let mut client = Client::new(tls(&daemon, client.into_inner()).await);
    client.say("PASS two words", "-ERR USER first").await;
    client.say("STLS", "-ERR").await;
    client.say("CAPA", "+OK").await;
    let capabilities = client.lines().await;
    assert!(!capabilities.iter().any(|line| line == "STLS"));
    assert!(capabilities.iter().any(|line| line == "SASL PLAIN"));
    client.say("USER ana@aula.test", "+OK").await;
    client.say("PASS two words", "+OK").await;
    client.say("QUIT", "+OK").await;

    let stream = TcpStream::connect(daemon.pop3s).await.unwrap();
    let mut client = Client::new(tls(&daemon, stream).await);
    client.say("", "+OK").await;
    client
        .say("AUTH PLAIN AGFuYUBhdWxhLnRlc3QAdHdvIHdvcmRz", "+OK")
        .await;
    client.say("RETR 2", "+OK").await;
    assert_eq!(unstuffed(&client.lines().await), large());
}

async fn tls(daemon: &Daemon, stream: TcpStream) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(daemon.certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = "mx.aula.test".try_into().unwrap();
    connector.connect(name, stream).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_cannot_be_read_harms_no_other() {
    let daemon = start("").await;
    let mut client = log_in(&daemon).await;
    daemon.world.mailbox.state().damaged = 2;
    client.say("RETR 1", "-ERR [SYS/TEMP]").await;
    client.say("TOP 1 0", "-ERR [SYS/TEMP]").await;
    // Another client has removed it meanwhile.
    daemon.world.mailbox.state().messages.remove(1);
    client.say("RETR 2", "-ERR the message").await;
    client.say("RETR 3", "+OK").await;
    assert_eq!(client.lines().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_errors_and_the_end() {
    let mut daemon = start("login_timeout = \"2s\"\nidle_timeout = \"4s\"\nmax_errors = 3").await;
    // Busy, but not with logging in.
    let mut busy = daemon.connect(daemon.pop3).await;
    busy.say("", "+OK").await;
    let begin = std::time::Instant::now();
    while begin.elapsed() < Duration::from_secs(5) {
        busy.send(b"CAPA\r\n").await;
        if busy.line().await.is_none() {
            break;
        }
        busy.lines().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(
        begin.elapsed() < Duration::from_secs(4),
        "a login takes two seconds at most"
    );

    let mut wrong = daemon.connect(daemon.pop3).await;
    wrong.say("", "+OK").await;
    wrong
        .send(b"EHLO x\r\nGET / HTTP/1.1\r\n\xff\xfe\r\nCAPA\r\n")
        .await;
    for _ in 0..4 {
        wrong.say("", "-ERR").await;
    }
    assert_eq!(wrong.line().await, None);

    let mut client = log_in(&daemon).await;
    client.say("DELE 1", "+OK").await;
    assert_eq!(
        client.line().await,
        None,
        "silence ends the session without a word"
    );
    let mut client = log_in(&daemon).await;
    daemon.terminate();
    client.say("", "-ERR [SYS/TEMP]").await;
    assert_eq!(client.line().await, None);
    assert!(daemon.wait().await, "{}", daemon.log());
    assert_eq!(daemon.world.mailbox.state().messages.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_connections_and_endless_lines_leave_others_unharmed() {
    let daemon = start("max_connections = 1002").await;
    let mut rude = daemon.connect(daemon.pop3).await;
    rude.say("", "+OK").await;
    let before = memory(daemon.pid());
    let mut clients = Vec::new();
    for _ in 0..1000 {
        let mut client = daemon.connect(daemon.pop3).await;
        client.say("", "+OK").await;
        clients.push(client);
    }
    let each = memory(daemon.pid()).saturating_sub(before) / 1000;
    assert!(each < 16 * 1024, "{each} octets a session");
    rude.send(&vec![b'a'; 8 << 20]).await;
    rude.say("\r\nNOOP", "-ERR the line is too long").await;
    rude.say("", "+OK").await;
    let mut client = log_in(&daemon).await;
    client.say("RETR 2", "+OK").await;
    assert_eq!(unstuffed(&client.lines().await), large());
    // And past the limit they are told.
    let mut refused = daemon.connect(daemon.pop3).await;
    refused.say("", "-ERR [SYS/TEMP]").await;
    assert!(memory(daemon.pid()) < before + (32 << 20));
}

/// Resident octets.
fn memory(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mut lines = status.lines();
    let line = lines.find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: usize = line
        .split_ascii_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    kib * 1024
}
