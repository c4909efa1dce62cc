//! What happens on connections: TLS, logins, reuse, servers with limits and servers that go away.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod common;

use std::time::Duration;

use common::dns::Zone;
use common::sink::{Manner, Sink, certificate};
use common::{Bench, at, config, free_port, outcomes};
use mail_config::{Config, RemoteCredentials};
use mail_rpc::pb::queue::v1 as pb;

const TAKEN: &str = "Relayed 2.0.0: 250 2.0.0 taken";

fn zone() -> Zone {
    Zone::default()
        .mx("x.test", 10, "mx.test")
        .host("mx.test", "127.0.0.2")
}

/// A sink at the address of `mx.test`, and the configuration that leads there.
async fn sink(manner: Manner) -> (Sink, Config) {
    let port = free_port(&["127.0.0.2"]);
    let sink = Sink::start(at("127.0.0.2", port), manner).await;
    (sink, config(port))
}

#[tokio::test]
async fn opportunistic_tls_takes_any_certificate() {
    let (acceptor, _) = certificate("other.test");
    let (sink, config) = sink(Manner {
        tls: Some(acceptor),
        ..Manner::default()
    })
    .await;
    let mut bench = Bench::start(config, zone()).await;
    assert_eq!(bench.deliver(&["a@x.test"]).await.0, [TAKEN]);
    assert!(sink.mails()[0].encrypted);
    bench.stop().await;
}

#[tokio::test]
async fn broken_tls_means_clear_text_unless_tls_is_required() {
    let broken = || Manner {
        broken_tls: true,
        ..Manner::default()
    };
    let (first, config) = sink(broken()).await;
    let mut bench = Bench::start(config, zone()).await;
    assert_eq!(bench.deliver(&["a@x.test"]).await.0, [TAKEN]);
    assert!(!first.mails()[0].encrypted);
    bench.stop().await;

    let shy = Manner {
        tls: Some(certificate("mx.test").0),
        shy_tls: true,
        ..Manner::default()
    };
    let (shy, config) = sink(shy).await;
    let mut bench = Bench::start(config, zone()).await;
    assert_eq!(bench.deliver(&["a@x.test"]).await.0, [TAKEN]);
    assert!(!shy.mails()[0].encrypted);
    bench.stop().await;

    let (second, mut config) = sink(broken()).await;
    config.remotedeliver.tls_required = vec!["x.test".into()];
    let mut bench = Bench::start(config, zone()).await;
    let (outcomes, down) = bench.deliver(&["a@x.test"]).await;
    assert!(
        outcomes[0].starts_with("Delayed 4.7.5: no TLS with mx.test"),
        "{outcomes:?}"
    );
    assert!(down && second.mails().is_empty());
    bench.stop().await;
}

#[tokio::test]
async fn required_tls_checks_the_certificate() {
    let folder = tempfile::tempdir().unwrap();
    for (name, good) in [("mx.test", true), ("other.test", false)] {
        let (acceptor, pem) = certificate(name);
        let (sink, mut config) = sink(Manner {
            tls: Some(acceptor),
            ..Manner::default()
        })
        .await;
        let ca = folder.path().join(name);
        std::fs::write(&ca, pem).unwrap();
        config.remotedeliver.ca_file = ca;
        config.remotedeliver.tls = mail_config::RemoteTls::Required;
        let mut bench = Bench::start(config, zone()).await;
        let (outcomes, _) = bench.deliver(&["a@x.test"]).await;
        assert_eq!(outcomes[0] == TAKEN, good, "{outcomes:?}");
        assert_eq!(sink.mails().len(), usize::from(good));
        bench.stop().await;
    }
    let (_sink, mut config) = sink(Manner::default()).await;
    config.remotedeliver.tls = mail_config::RemoteTls::Required;
    let mut bench = Bench::start(config, zone()).await;
    let (outcomes, _) = bench.deliver(&["a@x.test"]).await;
    assert!(
        outcomes[0].starts_with("Delayed 4.7.0: TLS is required"),
        "{outcomes:?}"
    );
    bench.stop().await;
}

fn smart_host(task: &mut pb::Task, host: &str, port: u16, implicit_tls: bool) {
    let target = pb::smtp_destination::Target::SmartHost(pb::SmartHost {
        host: host.into(),
        port: port.into(),
        username: "relay".into(),
        credentials: "key".into(),
        implicit_tls,
    });
    task.destination = Some(pb::SmtpDestination {
        target: Some(target),
    });
}

#[tokio::test]
async fn smart_hosts_with_logins() {
    let folder = tempfile::tempdir().unwrap();
    let password_file = folder.path().join("password");
    std::fs::write(&password_file, "secret word\n").unwrap();
    for (mechanisms, password, implicit_tls) in [
        ("AUTH PLAIN", "secret word", false),
        ("AUTH LOGIN", "secret word", false),
        ("AUTH PLAIN SCRAM-SHA-256", "secret word", false),
        ("AUTH SCRAM-SHA-256", "secret word", true),
        ("AUTH PLAIN", "another", false),
        ("AUTH SCRAM-SHA-256", "another", false),
        ("AUTH GSSAPI", "secret word", false),
    ] {
        let (acceptor, _) = certificate("mx.test");
        let (sink, mut config) = sink(Manner {
            extensions: vec![mechanisms.into()],
            password: Some(password.into()),
            tls: Some(acceptor),
            implicit_tls,
            ..Manner::default()
        })
        .await;
        config.remotedeliver.credentials = vec![RemoteCredentials {
            key: "key".into(),
            password_file: password_file.clone(),
            unverified: false,
        }];
        let port = config.remotedeliver.smtp_port;
        let mut bench = Bench::start(config, zone()).await;
        let mut task = bench
            .queue
            .task(&["a@far.test"], b"Subject: x\r\n\r\nhi\r\n");
        smart_host(&mut task, "mx.test", port, implicit_tls);
        let (outcomes, _) = bench.perform(task).await;
        let good = password == "secret word" && mechanisms != "AUTH GSSAPI";
        if good {
            assert_eq!(outcomes, [TAKEN], "{mechanisms}");
            assert!(sink.mails()[0].authenticated && sink.mails()[0].encrypted);
        } else {
            assert!(outcomes[0].starts_with("Delayed 4.7."), "{outcomes:?}");
            assert!(sink.mails().is_empty());
        }
        bench.stop().await;
    }
}

#[tokio::test]
async fn a_connection_serves_several_messages() {
    let (sink, config) = sink(Manner::default()).await;
    let mut bench = Bench::start(config, zone()).await;
    for _ in 0..10 {
        assert_eq!(
            bench.deliver(&["a@x.test", "nobody@x.test"]).await.0[0],
            TAKEN
        );
    }
    assert_eq!(sink.connections(), 1);
    assert_eq!(sink.mails().len(), 10);
    bench.stop().await;
}

#[tokio::test]
async fn a_server_that_hangs_up_while_idle_costs_nothing() {
    let (sink, config) = sink(Manner {
        hang_up_after: 1,
        ..Manner::default()
    })
    .await;
    let mut bench = Bench::start(config, zone()).await;
    for _ in 0..20 {
        assert_eq!(bench.deliver(&["a@x.test"]).await.0, [TAKEN]);
    }
    assert_eq!(sink.connections(), 20);
    assert_eq!(sink.mails().len(), 20);
    bench.stop().await;
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let (sink, mut config) = sink(Manner::default()).await;
    config.remotedeliver.idle_timeout = mail_config::Duration::from_secs(1);
    let mut bench = Bench::start(config, zone()).await;
    bench.deliver(&["a@x.test"]).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    bench.deliver(&["a@x.test"]).await;
    assert_eq!(sink.connections(), 2);
    bench.stop().await;
}

#[tokio::test]
async fn recipients_go_in_portions_where_the_server_wants_that() {
    let (sink, config) = sink(Manner {
        max_recipients: 2,
        ..Manner::default()
    })
    .await;
    let mut bench = Bench::start(config, zone()).await;
    let to = [
        "a@x.test",
        "b@x.test",
        "nobody@x.test",
        "c@x.test",
        "d@x.test",
        "e@x.test",
    ];
    let (outcomes, _) = bench.deliver(&to).await;
    assert_eq!(
        outcomes.iter().filter(|o| *o == TAKEN).count(),
        5,
        "{outcomes:?}"
    );
    assert!(outcomes[2].starts_with("Failed 5.1.1"));
    assert_eq!(sink.mails().len(), 3);
    assert_eq!(sink.connections(), 1);
    bench.stop().await;
}

#[tokio::test]
async fn large_messages_are_streamed() {
    for extension in ["PIPELINING", "CHUNKING"] {
        let (sink, config) = sink(Manner {
            extensions: vec![extension.into()],
            ..Manner::default()
        })
        .await;
        let mut bench = Bench::start(config, zone()).await;
        let content = b".line of some length\r\n".repeat(200_000);
        let task = bench.queue.task(&["a@x.test"], &content);
        assert!(task.content.is_none());
        assert_eq!(bench.perform(task).await.0, [TAKEN]);
        assert!(sink.mails()[0].content == content);
        bench.stop().await;
    }
}

#[tokio::test]
async fn content_that_breaks_off_is_not_delivered() {
    for extension in ["PIPELINING", "CHUNKING"] {
        let (sink, config) = sink(Manner {
            extensions: vec![extension.into()],
            ..Manner::default()
        })
        .await;
        let mut bench = Bench::start(config, zone()).await;
        let task = bench
            .queue
            .task(&["a@x.test"], &b"line\r\n".repeat(100_000));
        bench.queue.break_content(task.task_id);
        let (outcomes, _) = bench.perform(task).await;
        assert!(outcomes[0].starts_with("Delayed 4.3.0: "), "{outcomes:?}");
        bench.stop().await;
        assert!(sink.mails().is_empty());
    }
}

// The reply's text is what the sender gets to know, so it must not be lost with the connection.
#[tokio::test]
async fn a_refusal_in_the_middle_of_the_content_is_the_outcome() {
    let (_sink, config) = sink(Manner {
        enough: Some(10_000),
        ..Manner::default()
    })
    .await;
    let mut bench = Bench::start(config, zone()).await;
    let task = bench
        .queue
        .task(&["a@x.test"], &b"line\r\n".repeat(1_000_000));
    let (outcomes, _) = bench.perform(task).await;
    assert_eq!(outcomes, ["Failed 5.2.3: 552 5.2.3 that is enough"]);
    bench.stop().await;
}

#[tokio::test]
async fn smtputf8_is_asked_for_where_it_is_needed() {
    let (sink, config) = sink(Manner {
        extensions: vec!["SMTPUTF8".into(), "8BITMIME".into()],
        ..Manner::default()
    })
    .await;
    let mut bench = Bench::start(config, zone()).await;
    let mut task = bench
        .queue
        .task(&["josé@x.test"], b"Subject: x\r\n\r\nhi\r\n");
    task.smtputf8 = true;
    assert_eq!(bench.perform(task).await.0, [TAKEN]);
    // Asked for by the client, but with nothing in it that needs it.
    let mut task = bench
        .queue
        .task(&["jose@x.test"], b"Subject: x\r\n\r\nhi\r\n");
    task.smtputf8 = true;
    assert_eq!(bench.perform(task).await.0, [TAKEN]);
    let large = [b"Subject: x\r\n\r\n".to_vec(), b"line\r\n".repeat(20_000)].concat();
    let mut task = bench.queue.task(&["jose@x.test"], &large);
    task.smtputf8 = true;
    assert_eq!(bench.perform(task).await.0, [TAKEN]);
    assert!(!sink.mails()[2].command.contains("SMTPUTF8"));
    let large = [
        b"Subject: \xc3\xa9\r\n\r\n".to_vec(),
        b"line\r\n".repeat(20_000),
    ]
    .concat();
    let mut task = bench.queue.task(&["jose@x.test"], &large);
    task.smtputf8 = true;
    assert_eq!(bench.perform(task).await.0, [TAKEN]);
    assert!(sink.mails()[3].command.contains("SMTPUTF8"));
    assert!(sink.mails()[0].command.ends_with("BODY=8BITMIME SMTPUTF8"));
    assert!(!sink.mails()[1].command.contains("SMTPUTF8"));
    bench.stop().await;
}

#[tokio::test]
async fn sessions_to_one_destination_are_limited() {
    let (sink, mut config) = sink(Manner {
        think: Duration::from_millis(20),
        ..Manner::default()
    })
    .await;
    config.remotedeliver.destination_connections = 3;
    let mut bench = Bench::start(config, zone()).await;
    for _ in 0..30 {
        let task = bench.queue.task(&["a@x.test"], b"Subject: x\r\n\r\nhi\r\n");
        bench.queue.send(task).await;
    }
    for _ in 0..30 {
        assert_eq!(outcomes(&bench.queue.report().await), [TAKEN]);
    }
    assert_eq!(sink.connections(), 3);
    assert_eq!(sink.mails().len(), 30);
    bench.stop().await;
}

// Tests RFC 3461 §5.2.1 and §5.2.2
#[tokio::test]
async fn the_queue_learns_who_reports() {
    for dsn in [false, true] {
        let mut manner = Manner::default();
        if dsn {
            manner.extensions.push("DSN".into());
        }
        let (_sink, config) = sink(manner).await;
        let mut bench = Bench::start(config, zone()).await;
        // The second message goes over the same connection.
        for _ in 0..2 {
            let task = bench
                .queue
                .task(&["a@x.test", "no@x.test"], b"Subject: x\r\n\r\n");
            bench.queue.send(task).await;
            let report = bench.queue.report().await;
            let passed_on: Vec<bool> = report
                .outcomes
                .iter()
                .map(|o| o.reports_passed_on)
                .collect();
            // What the server refused is for us to report.
            assert_eq!(passed_on, [dsn, false]);
        }
        bench.stop().await;
    }
}
