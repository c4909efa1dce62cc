use mail_config::{Config, QueuedRoute};
use mail_types::{AddressError, Domain, DomainError};
use queue_store::SmartHost;

use crate::routes::RouteTable;
use crate::settings::Settings;

/// What is wrong with `[queued]` beyond the form of its values.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigureError {
    /// A limit of 0 would stop everything.
    #[error("queued.{0} must not be 0")]
    Zero(&'static str),
    /// The postmaster's address.
    #[error("queued.postmaster: {0}")]
    Postmaster(#[from] AddressError),
    /// A pattern that is no domain.
    #[error("queued.route: domain = {pattern:?}: {source}")]
    Route {
        /// As it is written.
        pattern: String,
        /// Why.
        source: DomainError,
    },
}

/// The queue's settings out of the configuration.
pub fn settings(config: &Config) -> Result<Settings, ConfigureError> {
    let queued = &config.queued;
    for (name, value) in [
        ("stream_window", queued.stream_window),
        ("max_recipients", queued.max_recipients),
        ("destination_limit", queued.destination_limit),
        ("local_limit", queued.local_limit),
        ("task_recipients", queued.task_recipients),
        ("routing_limit", queued.routing_limit),
        ("incoming_memory", queued.incoming_memory.as_usize()),
    ] {
        if value == 0 {
            return Err(ConfigureError::Zero(name));
        }
    }
    let postmaster = match queued.postmaster.as_str() {
        "" => None,
        address => Some(address.parse()?),
    };
    Ok(Settings {
        hostname: config.server.hostname.clone(),
        retry_min: queued.retry_min.get(),
        retry_max: queued.retry_max.get(),
        lifetime: queued.lifetime.get(),
        min_attempts: queued.min_attempts,
        delay_warning: queued.delay_warning.get(),
        destination_limit: queued.destination_limit,
        local_limit: queued.local_limit,
        task_recipients: queued.task_recipients,
        routing_limit: queued.routing_limit,
        memory: queued.memory.as_usize(),
        incoming_memory: queued.incoming_memory.as_usize(),
        stream_window: queued.stream_window,
        max_recipients: queued.max_recipients,
        alias_depth: queued.alias_depth,
        alias_width: queued.alias_width,
        report_content: queued.report_content.as_usize(),
        postmaster,
        routes: routes(&queued.route)?,
    })
}

fn routes(routes: &[QueuedRoute]) -> Result<RouteTable, ConfigureError> {
    let mut table = RouteTable::default();
    for route in routes {
        let host = (!route.host.is_empty()).then(|| SmartHost {
            host: route.host.clone(),
            port: route.port,
            username: route.username.clone(),
            credentials: route.credentials.clone(),
            implicit_tls: route.implicit_tls,
        });
        if route.domain == "*" {
            table.set_default(host);
            continue;
        }
        let (dot, name) = match route.domain.strip_prefix('.') {
            Some(name) => (".", name),
            None => ("", route.domain.as_str()),
        };
        let domain: Domain = name.parse().map_err(|source| ConfigureError::Route {
            pattern: route.domain.clone(),
            source,
        })?;
        table.insert(&format!("{dot}{domain}"), host);
    }
    Ok(table)
}
