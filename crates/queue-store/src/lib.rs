//! The durable queue's storage: a trait, its sled engine and an in-memory twin.
