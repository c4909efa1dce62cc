//! SASL mechanisms as sans-IO state machines, server and client (RFC 4422): PLAIN (RFC 4616),
//! LOGIN (in use, never standardised) and SCRAM-SHA-256 (RFC 5802, RFC 7677).
//!
//! Messages are decoded octets: the base64 and the lines around them belong to the protocol that
//! carries them. Nonces, salts and stored keys come in as arguments; nothing here does I/O or draws
//! random numbers.

pub mod client;
mod error;
mod mechanism;
mod prepare;
mod scram;
pub mod server;

pub use error::SaslError;
pub use mechanism::{Mechanism, UnknownMechanism};
pub use prepare::{PrepareError, prepare_password, prepare_username};
pub use scram::{DEFAULT_ITERATIONS, MIN_ITERATIONS, ScramKeys};

/// The longest message that is taken, in octets. A SCRAM message with the longest names is far
/// below; a session must not be made to hold more.
pub const MAX_MESSAGE: usize = 4096;
