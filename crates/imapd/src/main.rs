//! IMAP front end.

fn main() {}
