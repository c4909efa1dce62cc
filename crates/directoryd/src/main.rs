//! directoryd: domains, accounts, aliases and credentials.
mod store;
fn main() {}
