//! A queue, name servers and mail exchangers to deliver between.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic; not every test file uses all of it"
)]

pub mod dns;
pub mod queue;
pub mod sink;

use std::net::{IpAddr, SocketAddr};

use mail_config::{Config, Duration};
use mail_rpc::pb::queue::v1 as pb;
use remotedeliver::Remote;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::dns::Zone;
use self::queue::Queue;

/// A remotedeliver at work, attached to a queue of the test.
pub struct Bench {
    pub queue: Queue,
    pub shutdown: CancellationToken,
    pub tracker: TaskTracker,
    pub remote: Remote,
    serving: tokio::task::JoinHandle<()>,
}

/// The configuration of most tests.
pub fn config(port: u16) -> Config {
    let mut config = Config::default();
    config.server.hostname = "us.test".parse().unwrap();
    config.smtpd.mx.listen = Vec::new();
    config.remotedeliver.smtp_port = port;
    config.remotedeliver.dns_timeout = Duration::from_secs(1);
    config.remotedeliver.connect_timeout = Duration::from_secs(2);
    config
}

impl Bench {
    pub async fn start(mut config: Config, zone: Zone) -> Self {
        config.remotedeliver.name_servers = vec![dns::serve(zone).await];
        let queue = Queue::start().await;
        let tracker = TaskTracker::new();
        let remote = Remote::new(&config, tracker.clone()).unwrap();
        let shutdown = CancellationToken::new();
        let serving = {
            let (remote, channel) = (remote.clone(), queue.channel());
            let shutdown = shutdown.clone();
            tokio::spawn(async move { remote.serve(&config, channel, shutdown).await })
        };
        Self {
            queue,
            shutdown,
            tracker,
            remote,
            serving,
        }
    }

    /// Delivers one small message; answers each recipient's outcome, and whether the destination
    /// is down.
    pub async fn deliver(&mut self, recipients: &[&str]) -> (Vec<String>, bool) {
        let task = self.queue.task(recipients, b"Subject: x\r\n\r\n.hi\r\n");
        self.perform(task).await
    }

    pub async fn perform(&mut self, task: pb::Task) -> (Vec<String>, bool) {
        let id = task.task_id;
        self.queue.send(task).await;
        let report = self.queue.report().await;
        assert_eq!(report.task_id, id);
        (outcomes(&report), report.destination_down)
    }

    /// Ends it, and waits for that.
    pub async fn stop(self) -> Queue {
        self.shutdown.cancel();
        self.serving.await.unwrap();
        self.tracker.close();
        self.tracker.wait().await;
        self.queue
    }
}

/// `action code: diagnostic` of each recipient.
pub fn outcomes(report: &pb::TaskReport) -> Vec<String> {
    let show = |outcome: &pb::RecipientOutcome| {
        let outcome: mail_types::Outcome = outcome.outcome.clone().unwrap().try_into().unwrap();
        format!(
            "{:?} {}: {}",
            outcome.action, outcome.status, outcome.diagnostic
        )
    };
    report.outcomes.iter().map(show).collect()
}

/// A port that is free on these addresses.
pub fn free_port(addresses: &[&str]) -> u16 {
    for _ in 0..100 {
        let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = probe.local_addr().unwrap().port();
        drop(probe);
        let free = |ip: &&str| std::net::TcpListener::bind(at(ip, port)).is_ok();
        if addresses.iter().all(free) {
            return port;
        }
    }
    panic!("no free port");
}

pub fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse::<IpAddr>().unwrap(), port)
}
