//! SMTP in: receives mail from MTAs and MUAs and hands it to queued.

fn main() {}
