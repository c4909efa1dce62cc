//! POP3 front end.

fn main() {}
