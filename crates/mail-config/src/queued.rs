use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[queued]`: the queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Queued {
    /// The folder of the queue.
    pub data_dir: PathBuf,
    /// Addresses of the Prometheus metrics page; none by default, since it has no access control.
    pub metrics: Vec<SocketAddr>,
}

impl Default for Queued {
    fn default() -> Self {
        Self {
            data_dir: "queue".into(),
            metrics: Vec::new(),
        }
    }
}

impl Queued {
    pub(crate) fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [&mut self.data_dir].into_iter()
    }
}
