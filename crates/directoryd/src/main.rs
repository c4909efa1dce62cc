//! The directory: domains, accounts, aliases and credentials.

fn main() {}
