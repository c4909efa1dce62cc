//! What every daemon needs: start-up, logs, listeners, TLS, drain, reload, health and metrics.
//!
//! A daemon's `main` is [`run`] with its own asynchronous function. Signals: SIGTERM and SIGINT
//! cancel [`Context::shutdown`] and give the tasks of [`Context::tracker`] the configured grace;
//! SIGHUP reads `correo.toml` and the certificates again and keeps the old ones if they are bad.

mod activation;
mod connections;
mod context;
mod limits;
mod log_writer;
mod logging;
mod metrics_endpoint;
mod net_stream;
mod reload;
mod start;
mod tls;

pub use connections::{Connection, Service};
pub use context::Context;
pub use limits::ConnectionLimits;
pub use net_stream::NetStream;
pub use start::run;
pub use tls::{Tls, TlsError};
