//! SMTP out: MX resolution, smart hosts and delivery to other MTAs.

fn main() {}
