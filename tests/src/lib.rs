//! End-to-end tests with real daemons, clients and peers; the scenarios are under `tests/`.
