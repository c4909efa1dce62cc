//! SASL mechanisms as sans-IO state machines, server and client (RFC 4422).
