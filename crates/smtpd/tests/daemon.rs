//! The daemon as a process, over real sockets, with the other daemons faked.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic, also in their helper functions"
)]

#[path = "daemon/process.rs"]
mod process;
#[path = "daemon/world.rs"]
mod world;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use process::{Client, Daemon};
use testkit::transcript::{Script, Step};
use tokio::net::TcpStream;
use world::Answer;

/// The conversations that fit the world and the daemon's defaults.
fn fits(script: &Script) -> bool {
    script.settings.is_empty()
        && script.steps.iter().all(|step| match step {
            Step::Clock(_) | Step::Refuse(_) | Step::Shutdown => false,
            Step::Question { asked, answer } => {
                asked != "tls" && !asked.starts_with("auth") && answer != "overloaded"
            }
            _ => true,
        })
}

fn queue_answers(script: &Script) -> impl Iterator<Item = Answer> {
    script.steps.iter().filter_map(|step| match step {
        Step::Question { asked, answer } if asked == "stored" => Some(Answer::Accept(
            answer.parse::<mail_types::QueueId>().unwrap().get(),
        )),
        _ => None,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn transcripts() {
    // The conversations' EHLO has no STARTTLS.
    let daemon = Daemon::start_plain("").await;
    let mut played = 0;
    for (path, script) in Script::of("smtp").unwrap() {
        if fits(&script) {
            play(&daemon, &path, &script).await;
            played += 1;
        }
    }
    assert!(played >= 8, "only {played} transcripts fit");
}

async fn play(daemon: &Daemon, path: &Path, script: &Script) {
    daemon.world.queue.state().stored.clear();
    daemon.world.queue.state().answers = queue_answers(script).collect();
    let mut client = daemon.connect(daemon.mx).await;
    let mut contents = 0;
    for step in &script.steps {
        match step {
            Step::Client(bytes) => client.send(bytes).await,
            Step::Server(want) => {
                let line = client.line().await.unwrap_or_default();
                let fits = match want.strip_suffix('*') {
                    Some(start) => line.starts_with(start),
                    None => line == *want,
                };
                assert!(fits, "{}: expected {want}, got {line}", path.display());
            }
            Step::Content(want) => {
                // The queue has it once the server has said so, which may be the next step.
                for _ in 0..100 {
                    if daemon.world.queue.state().stored.len() > contents {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                let stored = daemon.world.queue.state().stored[contents].content.clone();
                contents += 1;
                assert!(stored.starts_with(b"Received: from "), "{}", path.display());
                assert!(stored.ends_with(want), "{}", path.display());
            }
            Step::Ended(_) => assert_eq!(client.line().await, None, "{}", path.display()),
            _ => {}
        }
    }
}

async fn mx(daemon: &Daemon) -> Client<TcpStream> {
    let mut client = daemon.connect(daemon.mx).await;
    client.say("", "220 mx.aula.test ESMTP").await;
    client.say("EHLO c.example", "250 CHUNKING").await;
    client
}

async fn transaction(client: &mut Client<TcpStream>, content: &str) -> String {
    client.say("MAIL FROM:<x@other.test>", "250 2.1.0").await;
    client.say("RCPT TO:<lois@aula.test>", "250 2.1.5").await;
    client.say("DATA", "354").await;
    client.send(format!("{content}.\r\n").as_bytes()).await;
    client.reply().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_telnet_session_gets_what_it_lacks() {
    let daemon = Daemon::start("").await;
    let mut client = daemon.connect(daemon.mx).await;
    client.say("", "220").await;
    client.say("helo", "250 mx.aula.test").await;
    client.say("MAIL FROM: root", "250 2.1.0").await;
    client.say("RCPT TO: anton", "250 2.1.5").await;
    client.say("DATA", "354").await;
    client
        .say("SUBJECT: hi\r\n.", "250 2.0.0 Ok: queued as 0000000000001")
        .await;
    client.say("quit", "221 2.0.0").await;
    let stored = daemon.world.queue.state().stored.pop().unwrap();
    let text = String::from_utf8(stored.content).unwrap();
    let names: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with('\t'))
        .map(|line| line.split(':').next().unwrap())
        .collect();
    assert_eq!(names, ["Received", "Date", "From", "Message-ID", "SUBJECT"]);
    assert!(text.contains("From: <root@aula.test>\r\n"));
    assert!(text.contains("\tfor <anton@aula.test>;"));
    assert_eq!(stored.envelope.recipients[0].address, "anton@aula.test");
}

#[tokio::test(flavor = "multi_thread")]
async fn never_an_open_relay() {
    let daemon = Daemon::start("").await;
    let mut client = mx(&daemon).await;
    client.say("MAIL FROM:<ana@aula.test>", "250").await;
    client.say("RCPT TO:<x@other.test>", "550 5.7.1").await;
    client
        .say("RCPT TO:<x%other.test@aula.test>", "550 5.1.1")
        .await;
    client
        .say("RCPT TO:<@aula.test:x@other.test>", "550 5.7.1")
        .await;
    client.say("RCPT TO:<\"x@other.test\">", "550 5.1.1").await;
    client.say("RCPT TO:<x@[127.0.0.1]>", "550 5.7.1").await;
    client.say("RCPT TO:<ALL@Aula.Test>", "250 2.1.5").await;
    // No logins where other servers come.
    client.say("RSET", "250").await;
    client
        .say("AUTH PLAIN AGFuYQBzZWNyZXQ=", "538 5.7.11")
        .await;

    let open = Daemon::start("relay_networks = [\"127.0.0.0/8\"]").await;
    let mut client = mx(&open).await;
    client.say("MAIL FROM:<ana@aula.test>", "250").await;
    client.say("RCPT TO:<x@other.test>", "250 2.1.5").await;
    client.say("RCPT TO:<nobody@aula.test>", "550 5.1.1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn submission_needs_a_login_and_an_own_address() {
    let daemon = Daemon::start("").await;
    let mut client = daemon.connect(daemon.submission).await;
    client.say("", "220").await;
    client.say("EHLO c.example", "250").await;
    client.say("MAIL FROM:<ana@aula.test>", "530 5.7.0").await;
    client.say("AUTH PLAIN AGFuYQB3cm9uZw==", "535 5.7.8").await;
    client.say("AUTH PLAIN", "334 ").await;
    client.say("AGFuYQBzZWNyZXQ=", "235 2.7.0").await;
    client.say("MAIL FROM:<lois@aula.test>", "550 5.7.1").await;
    client.say("MAIL FROM:<ana@other.test>", "550 5.7.1").await;
    client.say("MAIL FROM:<info@aula.test>", "250 2.1.0").await;
    client.say("RSET", "250").await;
    client.say("MAIL FROM:<Ana@aula.test>", "250 2.1.0").await;
    client.say("RCPT TO:<x@other.test>", "250 2.1.5").await;
    client.say("DATA", "354").await;
    client.say("Subject: x\r\n\r\nbody\r\n.", "250 2.0.0").await;
    let stored = daemon.world.queue.state().stored.pop().unwrap();
    assert_eq!(stored.envelope.origin.unwrap().account_id, 7);
    let text = String::from_utf8(stored.content).unwrap();
    assert!(text.contains(" with ESMTPA id ") && text.contains("\r\nMessage-ID: <"));
    // Secrets stay out of the log, whatever its level.
    let log = daemon.log_with("msg.accepted").await;
    assert!(log.contains("login.ok") && log.contains("login.failed"));
    for secret in ["secret", "wrong", "AGFuYQBzZWNyZXQ", "AGFuYQB3cm9uZw"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn starttls_forgets_all_that_came_before() {
    let daemon = Daemon::start("").await;
    let mut client = daemon.connect(daemon.submission).await;
    client.say("", "220").await;
    client.say("EHLO c.example", "250").await;
    client.say("AUTH PLAIN AGFuYQBzZWNyZXQ=", "235").await;
    // Commands that come with STARTTLS are not obeyed under TLS.
    client.say("STARTTLS\r\nRSET\r\nNOOP", "220 2.0.0").await;
    let mut client = Client::new(tls(&daemon, client.into_inner()).await);
    client.say("MAIL FROM:<ana@aula.test>", "503 5.5.1").await;
    client.say("EHLO c.example", "250").await;
    client.say("MAIL FROM:<ana@aula.test>", "530 5.7.0").await;
    client.say("STARTTLS", "503 5.5.1").await;
    client.say("AUTH PLAIN AGFuYQBzZWNyZXQ=", "235").await;
    client.say("MAIL FROM:<ana@aula.test>", "250").await;
    client.say("RCPT TO:<lois@aula.test>", "250").await;
    client.say("DATA", "354").await;
    client.say("Subject: x\r\n.", "250 2.0.0").await;
    let stored = daemon.world.queue.state().stored.pop().unwrap();
    let text = String::from_utf8(stored.content).unwrap();
    assert!(text.contains(" with ESMTPSA\r\n\t(TLSv1.3 "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn implicit_tls() {
    let daemon = Daemon::start("").await;
    let stream = TcpStream::connect(daemon.submissions).await.unwrap();
    let mut client = Client::new(tls(&daemon, stream).await);
    client.say("", "220").await;
    client.say("EHLO c.example", "250").await;
    client.say("AUTH PLAIN AGFuYQBzZWNyZXQ=", "235").await;
    client.say("QUIT", "221").await;
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
async fn a_large_message_is_streamed_intact() {
    let daemon = Daemon::start("").await;
    let mut client = mx(&daemon).await;
    let line = "0123456789".repeat(7);
    let content = format!("{line}\r\n.\r\n{line}.\r\n")
        .repeat(40_000)
        .replace("\r\n.", "\r\n..");
    let reply = transaction(&mut client, &content).await;
    assert!(reply.starts_with("250 2.0.0"), "{reply}");
    let stored = daemon.world.queue.state().stored.pop().unwrap();
    let plain = content.replace("\r\n..", "\r\n.");
    assert!(stored.content.ends_with(plain.as_bytes()));
    assert!(stored.largest_frame <= 65536 && stored.largest_frame > 16384);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_leaves_nothing() {
    let daemon = Daemon::start("max_message_size = \"1MiB\"").await;
    let mut client = mx(&daemon).await;
    client.say("MAIL FROM:<x@other.test>", "250").await;
    client.say("RCPT TO:<lois@aula.test>", "250").await;
    client.say("DATA", "354").await;
    client
        .send("0123456789\r\n".repeat(20_000).as_bytes())
        .await;
    drop(client);
    // One that grows too large is given up too.
    let mut client = mx(&daemon).await;
    let reply = transaction(&mut client, &"0123456789\r\n".repeat(100_000)).await;
    assert!(reply.starts_with("552 5.3.4"), "{reply}");
    client.say("NOOP", "250").await;
    for _ in 0..100 {
        if daemon.world.queue.state().aborted == 2 {
            assert!(daemon.world.queue.state().stored.is_empty());
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("aborted: {}", daemon.world.queue.state().aborted);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queues_troubles() {
    let daemon = Daemon::start("").await;
    let mut client = mx(&daemon).await;
    let answers = [
        (Answer::Refuse(4, 3, 1), "452 4.3.1"),
        (Answer::Refuse(5, 7, 1), "554 5.7.1 not today"),
        (Answer::Break, "451 4.3.0"),
        (Answer::Accept(5), "250 2.0.0 Ok: queued as 0000000000005"),
    ];
    for (answer, want) in answers {
        daemon.world.queue.state().answers.push_back(answer);
        let reply = transaction(&mut client, "Subject: x\r\n").await;
        assert!(reply.starts_with(want), "expected {want}, got {reply}");
    }
    daemon.world.stop_queue();
    let mut reply = String::new();
    for _ in 0..4 {
        reply = transaction_or_refusal(&mut client).await;
        assert!(reply.starts_with("451 4.3.0"), "{reply}");
    }
    daemon.world.start_queue();
    for _ in 0..100 {
        reply = transaction_or_refusal(&mut client).await;
        if reply.starts_with("250") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the queue was not found again: {reply}");
}

/// Like `transaction`, where DATA may be refused already.
async fn transaction_or_refusal(client: &mut Client<TcpStream>) -> String {
    client.say("MAIL FROM:<x@other.test>", "250 2.1.0").await;
    client.say("RCPT TO:<lois@aula.test>", "250 2.1.5").await;
    client.send(b"DATA\r\n").await;
    let reply = client.reply().await;
    if !reply.starts_with("354") {
        return reply;
    }
    client.send(b"Subject: x\r\n.\r\n").await;
    client.reply().await
}

#[tokio::test(flavor = "multi_thread")]
async fn loops_are_told() {
    let daemon = Daemon::start("").await;
    let mut client = mx(&daemon).await;
    let hops = |count| format!("{}\r\nbody\r\n", "Received: x\r\n".repeat(count));
    let reply = transaction(&mut client, &hops(101)).await;
    assert!(reply.starts_with("554 5.4.6"), "{reply}");
    let reply = transaction(&mut client, &hops(100)).await;
    assert!(reply.starts_with("250"), "{reply}");
}

#[tokio::test(flavor = "multi_thread")]
async fn time_outs_and_the_end() {
    let mut daemon = Daemon::start("command_timeout = \"1s\"").await;
    let mut client = mx(&daemon).await;
    client.send(b"NO").await;
    client.say("", "421 4.4.2").await;
    assert_eq!(client.line().await, None);

    let mut idle = mx(&daemon).await;
    let mut sending = mx(&daemon).await;
    sending.say("MAIL FROM:<x@other.test>", "250").await;
    sending.say("RCPT TO:<lois@aula.test>", "250").await;
    sending.say("DATA", "354").await;
    daemon.terminate();
    idle.say("", "421 4.3.2").await;
    assert_eq!(idle.line().await, None);
    // A message on its way is taken to its end.
    sending.say("Subject: x\r\n.", "250 2.0.0").await;
    sending.say("", "421 4.3.2").await;
    assert!(daemon.wait().await, "{}", daemon.log());
    assert!(daemon.log().contains("session.closed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_connections_leave_others_unharmed() {
    let daemon = Daemon::start("max_connections = 1003").await;
    let before = memory(daemon.pid());
    let mut clients = Vec::new();
    for _ in 0..1000 {
        clients.push(mx(&daemon).await);
    }
    let each = (memory(daemon.pid()) - before) / 1000;
    assert!(each < 16 * 1024, "{each} octets a session");
    let mut client = mx(&daemon).await;
    let reply = transaction(&mut client, "Subject: x\r\n").await;
    assert!(reply.starts_with("250"), "{reply}");
    // And past the limit they are told.
    let _more = [mx(&daemon).await, mx(&daemon).await];
    let mut refused = daemon.connect(daemon.mx).await;
    refused.say("", "421 4.3.2").await;
}

/// Resident octets.
fn memory(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib: usize = line
        .split_ascii_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    kib * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_line_is_told_and_ends() {
    let daemon = Daemon::start("").await;
    let mut client = mx(&daemon).await;
    let before = memory(daemon.pid());
    client.send(&vec![b'a'; 8 << 20]).await;
    client.say("", "500 5.5.2").await;
    assert_eq!(client.line().await, None);
    assert!(memory(daemon.pid()) < before + (2 << 20));
}
