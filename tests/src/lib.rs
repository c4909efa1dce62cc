//! End-to-end tests with real daemons, clients and peers: see `tests/e2e`. This library is empty.
