//! The mail store: append-only segments, redb index, group commit.
