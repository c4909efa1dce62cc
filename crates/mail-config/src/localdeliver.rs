use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[localdeliver]`: delivery into mailboxes, and their owner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Localdeliver {
    /// The folder of the mail store.
    pub data_dir: PathBuf,
    /// Addresses of the Prometheus metrics page; none by default, since it has no access control.
    pub metrics: Vec<SocketAddr>,
}

impl Default for Localdeliver {
    fn default() -> Self {
        Self {
            data_dir: "mail".into(),
            metrics: Vec::new(),
        }
    }
}

impl Localdeliver {
    pub(crate) fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [&mut self.data_dir].into_iter()
    }
}
