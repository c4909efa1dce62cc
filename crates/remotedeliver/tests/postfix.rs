//! The daemon itself, against a real name server and a real Postfix, each on a host of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod common;

use std::time::{Duration, Instant};

use common::outcomes;
use common::queue::Queue;
use testkit::{DnsServer, Network, Postfix, Zone, has_root, have, wait_until};

/// Messages in a row, as many at once as the destination may have connections.
const COUNT: usize = 300;
const AT_ONCE: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn mail_reaches_postfix() {
    if !have(&["ip", "knotd", "kdig", "bash", "postfix", "sendmail"]) || !has_root() {
        return;
    }
    let network = Network::new(&["dns", "us", "them"]).unwrap();
    let (dns, us, them) = (
        network.host(0).unwrap(),
        network.host(1).unwrap(),
        network.host(2).unwrap(),
    );
    let mut queue = Queue::start().await;
    let home = tempfile::tempdir().unwrap();
    // The best mail exchanger does not exist, the second one is not at home.
    let records = format!(
        "@ MX 5 gone\n@ MX 10 dead\n@ MX 20 mx\ndead A 198.18.0.250\nmx A {}",
        them.ip()
    );
    let zones = [
        Zone {
            name: "them.test",
            records: &records,
        },
        Zone {
            name: "null.test",
            records: "@ MX 0 .",
        },
    ];
    let _dns = DnsServer::start(dns, &home.path().join("dns"), &zones).unwrap();
    let postfix = Postfix::start(them, "them.test").unwrap();
    let config = format!(
        "[server]\nhostname = \"us.test\"\n[rpc]\nqueue_agent = \"unix:{}\"\n\
         [remotedeliver]\nconnect_timeout = \"1s\"\n",
        queue.socket().display()
    );
    std::fs::write(home.path().join("correo.toml"), config).unwrap();
    let folder = home.path().display().to_string();
    let program = env!("CARGO_BIN_EXE_remotedeliver");
    let log = home.path().join("log");
    let mut daemon = us.start(program, &["--home", &folder], &log).unwrap();

    // Larger than what a task carries, with lines that begin with dots.
    let large = [
        b"From: ana@us.test\r\nSubject: large\r\n\r\n".to_vec(),
        b".x\r\n..\r\n.\r\n".repeat(20_000),
    ]
    .concat();
    let task = queue.task(&["bob@them.test", "bob@elsewhere.test"], &large);
    queue.send(task).await;
    let results = outcomes(&queue.report().await);
    assert!(
        results[0].starts_with("Relayed 2.0.0: 250 2.0.0 Ok"),
        "{results:?}"
    );
    assert!(
        results[1].starts_with("Failed 5.7.1: 554 5.7.1"),
        "{results:?}"
    );
    wait_until("Postfix delivers", || {
        Ok((postfix.messages()?.len() == 1).then_some(()))
    })
    .unwrap();
    let stored = postfix.messages().unwrap().remove(0);
    let sent = String::from_utf8(large).unwrap().replace("\r\n", "\n");
    assert!(
        stored.ends_with(sent.split_once("\n\n").unwrap().1),
        "the body has changed"
    );

    let task = queue.task(&["a@null.test"], b"hi\r\n");
    queue.send(task).await;
    let results = outcomes(&queue.report().await);
    assert!(results[0].starts_with("Failed 5.1.10: "), "{results:?}");

    let started = Instant::now();
    many(&mut queue).await;
    println!("{COUNT} messages in {:?}", started.elapsed());
    let log = || format!("{}\n{}", daemon.log(), postfix.log());
    let connections = postfix.log().matches(": connect from").count();
    // The first message's, the probe's, and one for each of those at once.
    assert!(
        connections <= AT_ONCE + 2,
        "{connections} connections\n{}",
        log()
    );
    assert!(daemon.log().contains("msg.delivered"), "{}", log());
    let status = daemon.terminate().unwrap();
    assert!(status.success(), "{}", daemon.log());
}

async fn many(queue: &mut Queue) {
    let (mut begun, mut done) = (0, 0);
    while done < COUNT {
        while begun < COUNT && begun - done < AT_ONCE {
            let task = queue.task(&["bob@them.test"], b"Subject: x\r\n\r\nhi\r\n");
            queue.send(task).await;
            begun += 1;
        }
        let results = outcomes(&queue.report().await);
        assert!(results[0].starts_with("Relayed 2.0.0: "), "{results:?}");
        done += 1;
    }
    assert!(queue.try_report(Duration::from_millis(10)).await.is_none());
}
