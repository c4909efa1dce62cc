//! Rigs for tests: suites on free ports, clients, peers and name servers.
