//! How gRPC travels: Unix sockets on one machine, TCP with mutual TLS between machines.
//!
//! On a Unix socket the file's mode and group decide who may connect. Over TCP both sides show a
//! certificate of the suite's own authority; there is no unencrypted TCP.

mod client;
mod endpoint;
mod server;

pub use client::{connect, connect_lazy};
pub use endpoint::{Endpoint, EndpointError, MutualTls};
pub use server::{Listener, TransportError, bind, routes_served};

/// HTTP/2 window of one stream in octets: a few chunks in flight, so that a lone large message is
/// not bound by round trips.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// HTTP/2 window of one connection in octets: the most that a peer daemon can make us buffer.
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// HTTP/2 window in octets of one stream that a client reads. A reader that stops, because its own
/// peer is slow, leaves this much in memory.
const READER_WINDOW: u32 = 256 * 1024;
/// HTTP/2 window in octets of one connection that a client reads: the largest there is. Any smaller
/// one is used up by as many stopped readers as fit, and then nobody's answers come any more. The
/// bound is that of the readers' number.
const READERS_WINDOW: u32 = (1 << 31) - 1;
/// The largest HTTP/2 frame in octets. A frame is read with as few calls as the socket allows, and a
/// message that is split into many frames is put together again by copying.
const FRAME: u32 = 256 * 1024;
