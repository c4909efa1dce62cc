//! From addresses to ways: aliases and redirects are expanded, duplicates fall together, circles
//! are caught. Each recipient is resolved once; after that the record knows its way.

mod expand;
mod explain;
mod resolution;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use mail_rpc::directory::{Directory, Resolution};
use mail_types::EmailAddress;
use queue_store::Message;

use crate::settings::Settings;

pub use explain::{Explained, Step, Target};
pub use resolution::{Change, Resolved};

/// Who knows what an address is. An error is a sentence for the operator, and is temporary.
pub trait Resolve: Send + Sync + 'static {
    /// Says what the address is.
    fn resolve<'a>(
        &'a self,
        address: &'a EmailAddress,
    ) -> Pin<Box<dyn Future<Output = Result<Resolution, String>> + Send + 'a>>;
}

impl Resolve for Directory {
    fn resolve<'a>(
        &'a self,
        address: &'a EmailAddress,
    ) -> Pin<Box<dyn Future<Output = Result<Resolution, String>> + Send + 'a>> {
        Box::pin(async move {
            let resolution = Self::resolve(self, address).await;
            resolution.map_err(|error| error.to_string())
        })
    }
}

/// Finds ways.
#[derive(Clone)]
pub struct Router {
    directory: Arc<dyn Resolve>,
    settings: Arc<ArcSwap<Settings>>,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router").finish_non_exhaustive()
    }
}

impl Router {
    /// A router that asks this directory.
    pub fn new(directory: Arc<dyn Resolve>, settings: Arc<ArcSwap<Settings>>) -> Self {
        Self {
            directory,
            settings,
        }
    }

    fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// What becomes of the recipients that have no way yet. Nothing is changed.
    pub async fn resolve(&self, message: &Message) -> Resolved {
        expand::Expansion::new(self, message).run().await
    }

    /// How an address is resolved, step by step.
    pub async fn explain(&self, address: &EmailAddress) -> Explained {
        explain::explain(self, address).await
    }
}
