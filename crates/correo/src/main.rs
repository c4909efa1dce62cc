//! The one command on PATH: queue control, accounts, configuration and up.

fn main() {}
