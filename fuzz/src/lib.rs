//! What the fuzz targets do with their input. Each module has a `run` that panics on a finding.
//!
//! The first octets of an input say how it is used (cuts, answers, options); the rest is what the
//! peer sends, so that seeds can be read and dictionaries apply.

mod cuts;
pub mod dsn;
pub mod headers;
pub mod imap_command;
pub mod imap_session;
mod imap_syntax;
pub mod mime_walk;
pub mod names;
pub mod pop3_server;
pub mod queue_codec;
pub mod sasl_exchange;
pub mod search;
pub mod segment;
pub mod smtp_client;
pub mod smtp_server;

/// Takes so many control octets off the front; what is missing is zero.
fn control<const N: usize>(data: &[u8]) -> ([u8; N], &[u8]) {
    let mut control = [0; N];
    let len = data.len().min(N);
    control[..len].copy_from_slice(&data[..len]);
    (control, &data[len..])
}
