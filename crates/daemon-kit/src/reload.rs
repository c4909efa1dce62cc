//! SIGHUP: configuration, log filter and certificates again.

use mail_config::{Config, Source};
use tracing::{error, info};

use crate::Context;
use crate::context::notify;
use crate::logging::{self, FilterHandle};

/// Reads everything again. What is wrong is logged, and what was there before stays.
pub(crate) fn reload(context: &Context, source: &Source, filter: &FilterHandle) {
    notify(&[sd_notify::NotifyState::Reloading]);
    match Config::load(source, std::env::vars()) {
        Ok(config) => apply(context, config, filter),
        Err(error) => error!(%error, "configuration not reloaded; the old one stays"),
    }
    notify(&[sd_notify::NotifyState::Ready]);
}

fn apply(context: &Context, config: Config, filter: &FilterHandle) {
    let set = logging::filter(&config.log).and_then(|new| Ok(filter.reload(new)?));
    if let Err(error) = set {
        error!(%error, "log filter not reloaded; the old one stays");
    }
    if let Some(tls) = context.tls() {
        match tls.reload(&config.tls.certificate, &config.tls.key) {
            Ok(()) => info!("certificates reloaded"),
            Err(error) => error!(%error, "certificates not reloaded; the old ones stay"),
        }
    }
    context.inner().config.store(config.into());
    context
        .inner()
        .changes
        .send_modify(|generation| *generation += 1);
    info!("configuration reloaded");
}
