//! Prometheus metrics over HTTP, where the daemon's table names an address.

use std::net::SocketAddr;

use anyhow::Context as _;
use metrics_exporter_prometheus::PrometheusBuilder;
use tracing::info;

use crate::Context;

/// Installs the recorder and serves `GET /metrics`.
pub(crate) fn start(context: &Context, address: SocketAddr) -> anyhow::Result<()> {
    let (recorder, exporter) = PrometheusBuilder::new()
        .with_http_listener(address)
        .build()
        .with_context(|| format!("cannot serve metrics on {address}"))?;
    metrics::set_global_recorder(recorder).context("metrics are already recorded")?;
    info!(%address, "serving metrics");
    let shutdown = context.shutdown().clone();
    context.spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = exporter => {}
        }
    });
    Ok(())
}
