//! What sessions take from the configuration, made anew at each reload.

use std::sync::Arc;

use mail_config::{BareNewlines, Config};
use mail_types::Domain;
use smtp_proto::server::{self, Limits, Settings};

use crate::networks::{NetworkError, Networks};

/// A session keeps the one that it began with.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) settings: Arc<Settings>,
    pub(crate) hostname: Domain,
    pub(crate) relay_networks: Networks,
    pub(crate) restrict_sender: bool,
    pub(crate) max_hops: usize,
}

impl Live {
    pub(crate) fn new(config: &Config) -> Result<Self, NetworkError> {
        let smtpd = &config.smtpd;
        let limits = Limits {
            message_size: smtpd.max_message_size.bytes(),
            recipients: smtpd.max_recipients,
            errors: smtpd.max_errors,
            command_timeout: smtpd.command_timeout.get(),
            content_timeout: smtpd.data_timeout.get(),
            message_timeout: smtpd.message_timeout.get(),
            ..Limits::default()
        };
        let settings = Settings {
            hostname: config.server.hostname.to_string(),
            domain: config.server.domain.clone(),
            bare_newlines: match smtpd.bare_newlines {
                BareNewlines::Normalise => server::BareNewlines::Normalise,
                BareNewlines::Reject => server::BareNewlines::Reject,
            },
            limits,
        };
        Ok(Self {
            settings: Arc::new(settings),
            hostname: config.server.hostname.clone(),
            relay_networks: Networks::parse(&smtpd.relay_networks)?,
            restrict_sender: smtpd.restrict_sender,
            max_hops: smtpd.max_hops,
        })
    }
}
