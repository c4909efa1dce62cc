//! Local delivery: owner of all mailboxes.

fn main() {}
