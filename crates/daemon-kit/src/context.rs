//! What a daemon's own code gets to work with.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use mail_config::Config;
use mail_rpc::transport::{Endpoint, Listener, MutualTls, bind, connect_lazy, routes_served};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport::Channel;
use tracing::{error, info};

use crate::activation::Activation;
use crate::limits::Limiter;
use crate::tls::Tls;
use crate::{Connection, ConnectionLimits, Service, connections};

/// The daemon's surroundings; cheap to clone.
#[derive(Clone, Debug)]
pub struct Context(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) name: &'static str,
    pub(crate) config: ArcSwap<Config>,
    pub(crate) changes: watch::Sender<u64>,
    pub(crate) tls: Option<Tls>,
    pub(crate) rpc_tls: Option<MutualTls>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) tracker: TaskTracker,
    pub(crate) activation: Activation,
    pub(crate) health: tonic_health::server::HealthReporter,
}

impl Context {
    pub(crate) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }

    pub(crate) fn activation(&self) -> &Activation {
        &self.0.activation
    }

    /// The daemon's name, as in the log.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// The configuration as it is now. Keep it for one session or task, not longer: SIGHUP
    /// changes it.
    pub fn config(&self) -> Arc<Config> {
        self.0.config.load_full()
    }

    /// Told at each successful reload.
    pub fn config_changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// The server's certificates, where `tls.certificate` is set.
    pub fn tls(&self) -> Option<&Tls> {
        self.0.tls.as_ref()
    }

    /// Cancelled when the daemon has to end: take nothing new, finish what is begun.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.0.shutdown
    }

    /// Counts the tasks that the end of the daemon waits for. Spawn on it, not on tokio.
    pub fn tracker(&self) -> &TaskTracker {
        &self.0.tracker
    }

    /// Spawns a task that the end of the daemon waits for.
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.tracker.spawn(task);
    }

    /// Opens the services' sockets, those of systemd or those named, and calls `handler` for each
    /// connection until shutdown. The limits count over all services together. Answers the
    /// addresses that are listened on.
    pub fn serve<H, F>(
        &self,
        services: &[Service],
        limits: ConnectionLimits,
        handler: H,
    ) -> io::Result<Vec<SocketAddr>>
    where
        H: Fn(&'static str, Connection) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let limiter = Limiter::new(limits);
        let mut addresses = Vec::new();
        for service in services {
            let name = service.name;
            let handler = handler.clone();
            let handle = move |connection| handler(name, connection);
            addresses.extend(connections::serve(self, service, &limiter, handle)?);
        }
        Ok(addresses)
    }

    /// Serves gRPC on a socket until shutdown. `mode` is the permission of a Unix socket that we
    /// make; one of systemd has the unit's. The health service is on each socket.
    pub async fn serve_grpc(
        &self,
        endpoint: &Endpoint,
        mode: u32,
        routes: Routes,
    ) -> anyhow::Result<()> {
        let listener = match self.activated(endpoint)? {
            Some(listener) => listener,
            None => bind(endpoint, mode).await?,
        };
        info!(%endpoint, "serving");
        let health =
            tonic_health::server::HealthService::from_health_reporter(self.0.health.clone());
        let health = tonic_health::pb::health_server::HealthServer::new(health);
        let routes = routes.add_service(health);
        let context = self.clone();
        let endpoint = endpoint.clone();
        self.spawn(async move {
            let shutdown = context.shutdown().clone().cancelled_owned();
            let tls = context.0.rpc_tls.as_ref();
            if let Err(error) = routes_served(listener, tls, routes, shutdown).await {
                error!(%endpoint, %error, "serving ended");
                context.shutdown().cancel();
            }
        });
        Ok(())
    }

    /// A channel to another daemon; it connects at its first use, and again after it broke.
    pub fn channel(&self, endpoint: &Endpoint) -> anyhow::Result<Channel> {
        Ok(connect_lazy(endpoint, self.0.rpc_tls.as_ref())?)
    }

    /// Says that the daemon works: to systemd, to the health service and in the log.
    pub async fn ready(&self) {
        self.0
            .health
            .set_service_status("", tonic_health::ServingStatus::Serving)
            .await;
        notify(&[sd_notify::NotifyState::Ready]);
        info!("ready");
    }

    fn activated(&self, endpoint: &Endpoint) -> anyhow::Result<Option<Listener>> {
        let Endpoint::Unix(path) = endpoint else {
            return Ok(None);
        };
        let name = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default();
        let sockets = self.0.activation.unix(name)?;
        let Some(socket) = sockets.into_iter().next() else {
            return Ok(None);
        };
        socket.set_nonblocking(true)?;
        let listener = UnixListener::from_std(socket).context("systemd's socket")?;
        Ok(Some(Listener::Unix(listener)))
    }
}

/// Tells systemd; without systemd nobody listens, and that is fine.
pub(crate) fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, states) {
        error!(%error, "cannot notify systemd");
    }
}
