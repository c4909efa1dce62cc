//! Where mail goes: mail exchangers, what there is in their place, and what becomes of mail that
//! has no way (RFC 5321 §5.1, RFC 7505).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod common;

use common::dns::Zone;
use common::sink::{Manner, Sink};
use common::{Bench, at, config, free_port};

const TAKEN: &str = "Relayed 2.0.0: 250 2.0.0 taken";

#[tokio::test]
async fn by_preference_with_fall_back() {
    let port = free_port(&["127.0.0.2", "127.0.0.3", "127.0.0.4"]);
    // The best one is not there, the next one refuses in its greeting.
    let busy = Manner {
        greeting: "421 4.3.2 busy".into(),
        ..Manner::default()
    };
    let busy = Sink::start(at("127.0.0.3", port), busy).await;
    let last = Sink::start(at("127.0.0.4", port), Manner::default()).await;
    let zone = Zone::default()
        .mx("x.test", 30, "c.test")
        .mx("x.test", 10, "a.test")
        .mx("x.test", 20, "b.test")
        .host("a.test", "127.0.0.2")
        .host("b.test", "127.0.0.3")
        .host("c.test", "127.0.0.4");
    let mut bench = Bench::start(config(port), zone).await;
    let (outcomes, down) = bench
        .deliver(&["bob@x.test", "nobody@x.test", "later@x.test"])
        .await;
    assert_eq!(
        outcomes,
        [
            TAKEN,
            "Failed 5.1.1: 550 5.1.1 no such user",
            "Delayed 4.2.1: 450 4.2.1 later"
        ]
    );
    assert!(!down);
    assert_eq!(busy.connections(), 1);
    let mails = last.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].recipients, ["bob@x.test"]);
    assert_eq!(mails[0].content, b"Subject: x\r\n\r\n.hi\r\n");
    bench.stop().await;
}

#[tokio::test]
async fn implicit_exchangers_aliases_and_literals() {
    let port = free_port(&["127.0.0.2"]);
    let sink = Sink::start(at("127.0.0.2", port), Manner::default()).await;
    let zone = Zone::default()
        .host("bare.test", "127.0.0.2")
        .alias("alias.test", "x.test")
        .mx("x.test", 10, "mx.test")
        .alias("mx.test", "bare.test");
    let mut bench = Bench::start(config(port), zone).await;
    for to in ["a@bare.test", "a@alias.test", "a@x.test", "a@[127.0.0.2]"] {
        let (outcomes, _) = bench.deliver(&[to]).await;
        assert_eq!(outcomes, [TAKEN], "{to}");
    }
    assert_eq!(sink.mails().len(), 4);
    bench.stop().await;
}

#[tokio::test]
async fn ipv6() {
    let port = free_port(&["::1"]);
    let sink = Sink::start(at("::1", port), Manner::default()).await;
    let zone = Zone::default()
        .host("six.test", "::1")
        .host("six.test", "127.0.0.2");
    let mut bench = Bench::start(config(port), zone).await;
    assert_eq!(bench.deliver(&["a@six.test"]).await.0, [TAKEN]);
    assert_eq!(bench.deliver(&["a@[IPv6:::1]"]).await.0, [TAKEN]);
    assert_eq!(sink.mails().len(), 2);
    bench.stop().await;
}

#[tokio::test]
async fn domains_without_a_way() {
    let port = free_port(&["127.0.0.2"]);
    let zone = Zone::default()
        .mx("null.test", 0, ".")
        .mx("nowhere.test", 10, "gone.test")
        .mx("nowhere.test", 20, "empty.test")
        .empty("empty.test")
        .broken("broken.test")
        .mx("half.test", 10, "broken.test")
        .mx("half.test", 20, "gone.test")
        .mx("dead.test", 10, "host.test")
        .host("host.test", "127.0.0.2")
        .mx("loop.test", 10, "us.test")
        .mx("loop.test", 20, "host.test")
        .host("us.test", "127.0.0.3");
    let mut bench = Bench::start(config(port), zone).await;
    for (domain, status, is_down) in [
        (
            "missing.test",
            "Failed 5.1.2: the domain missing.test does not exist",
            false,
        ),
        (
            "null.test",
            "Failed 5.1.10: the domain null.test takes no mail (RFC 7505)",
            false,
        ),
        (
            "nowhere.test",
            "Failed 5.4.4: no mail exchanger of nowhere.test has an address (gone.test, empty.test)",
            false,
        ),
        (
            "empty.test",
            "Failed 5.4.4: no mail exchanger of empty.test has an address (empty.test)",
            false,
        ),
        (
            "broken.test",
            "Delayed 4.4.3: the name servers of broken.test do not say",
            true,
        ),
        (
            "half.test",
            "Delayed 4.4.3: no name server says the address of broken.test",
            true,
        ),
        (
            "dead.test",
            "Delayed 4.4.1: cannot connect to host.test [127.0.0.2:",
            true,
        ),
        (
            "loop.test",
            "Failed 5.4.6: mail for loop.test comes back to this host",
            false,
        ),
    ] {
        let (outcomes, down) = bench.deliver(&[&format!("a@{domain}")]).await;
        assert!(outcomes[0].starts_with(status), "{outcomes:?}");
        assert_eq!(down, is_down, "{domain}");
    }
    bench.stop().await;
}

#[tokio::test]
async fn a_silent_name_server_delays() {
    let zone = Zone::default().silent("silent.test");
    let mut bench = Bench::start(config(2), zone).await;
    let (outcomes, down) = bench.deliver(&["a@silent.test"]).await;
    assert!(outcomes[0].starts_with("Delayed 4.4.3: "), "{outcomes:?}");
    assert!(down);
    bench.stop().await;
}

#[tokio::test]
async fn a_server_that_is_ourselves_is_found_out() {
    let port = free_port(&["127.0.0.2", "127.0.0.3"]);
    let mirror = Manner {
        greeting: "220 us.test ESMTP".into(),
        ..Manner::default()
    };
    let sink = Sink::start(at("127.0.0.2", port), mirror).await;
    let zone = Zone::default()
        .mx("x.test", 10, "mx.test")
        .host("mx.test", "127.0.0.2")
        .host("own.test", "127.0.0.3");
    let mut config = config(port);
    config.smtpd.mx.listen = vec![at("127.0.0.3", port)];
    let mut bench = Bench::start(config, zone).await;
    for to in ["a@x.test", "a@own.test"] {
        let (outcomes, _) = bench.deliver(&[to]).await;
        assert!(outcomes[0].starts_with("Failed 5.4.6: "), "{outcomes:?}");
    }
    assert!(sink.mails().is_empty());
    bench.stop().await;
}
