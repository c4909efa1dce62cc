//! The durable queue: accepts, routes, schedules, retries and bounces.

fn main() {}
