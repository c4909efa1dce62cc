//! Generated gRPC contracts, their conversions, and Unix-socket and mutual-TLS transport.
