//! remotedeliver's inside, apart from its process: see `main.rs`.

mod agent;
mod connection;
mod content;
mod deliver;
mod destination;
mod dns;
mod job;
mod ledger;
mod live;
mod own;
mod pool;
mod route;
mod stream;
mod tls;
mod unreachable;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use mail_config::Config;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Channel;

use crate::agent::Hello;
use crate::deliver::Deliverer;
use crate::ledger::Ledger;
use crate::live::Live;
use crate::pool::Pool;
use crate::unreachable::Unreachable;

/// How often connections that have been idle for too long are looked for.
const SWEEP: Duration = Duration::from_millis(500);

/// The delivering half of the daemon.
#[derive(Debug, Clone)]
pub struct Remote(Arc<Deliverer>);

impl Remote {
    /// Checks the configuration. Deliveries run on `tracker`.
    pub fn new(config: &Config, tracker: TaskTracker) -> anyhow::Result<Self> {
        let remote = &config.remotedeliver;
        Ok(Self(Arc::new(Deliverer {
            live: ArcSwap::from_pointee(Live::new(config)?),
            pool: Pool::new(remote.max_connections, remote.destination_connections),
            ledger: Ledger::new(remote.remembered),
            unreachable: Unreachable::default(),
            tracker,
        })))
    }

    /// Takes another configuration, but for the numbers of connections and what queued was told.
    pub fn reload(&self, config: &Config) -> anyhow::Result<()> {
        self.0.live.store(Arc::new(Live::new(config)?));
        // What is idle was made by the old rules.
        self.close_idle(Duration::ZERO);
        Ok(())
    }

    /// Delivers what queued, behind `channel`, hands out, until `shutdown`; then ends what is in
    /// its transaction and gives the rest back.
    pub async fn serve(&self, config: &Config, channel: Channel, shutdown: CancellationToken) {
        let hello = Hello {
            name: format!("{} {}", config.server.hostname, std::process::id()),
            max_tasks: config.remotedeliver.max_tasks.max(1),
            max_bytes: config.remotedeliver.max_memory.as_usize() as u64,
        };
        let sweeping = self.sweep();
        tokio::select! {
            () = agent::run(channel, hello, self.0.clone(), shutdown) => {}
            () = sweeping => {}
        }
        self.close_idle(Duration::ZERO);
    }

    async fn sweep(&self) {
        loop {
            tokio::time::sleep(SWEEP).await;
            let idle_timeout = self.0.live.load().idle_timeout;
            self.close_idle(idle_timeout);
        }
    }

    fn close_idle(&self, idle_timeout: Duration) {
        for connection in self.0.pool.expire(idle_timeout) {
            self.0.tracker.spawn(connection.quit());
        }
    }
}
