//! Log lines on standard error, where systemd and containers collect them.

use std::io::IsTerminal;

use anyhow::anyhow;
use mail_config::{Log, LogFormat};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Registry, fmt, reload};

use crate::log_writer::LogWriter;

/// Changes the filter while the daemon runs.
pub(crate) type FilterHandle = reload::Handle<EnvFilter, Registry>;

/// Installs the subscriber and a panic hook that logs.
pub(crate) fn start(log: &Log) -> anyhow::Result<FilterHandle> {
    let (filter, handle) = reload::Layer::new(filter(log)?);
    let registry = tracing_subscriber::registry().with(filter);
    let writer = LogWriter::start()?;
    let installed = match log.format {
        LogFormat::Json => registry
            .with(fmt::layer().json().with_writer(writer))
            .try_init(),
        LogFormat::Text => {
            let ansi = std::io::stderr().is_terminal();
            registry
                .with(fmt::layer().with_ansi(ansi).with_writer(writer))
                .try_init()
        }
    };
    installed.map_err(|error| anyhow!("cannot start the log: {error}"))?;
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "panicked")));
    Ok(handle)
}

/// The filter of `log.filter`.
pub(crate) fn filter(log: &Log) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(&log.filter)
        .map_err(|error| anyhow!("log.filter {:?} does not parse: {error}", log.filter))
}
