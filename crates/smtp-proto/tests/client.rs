//! The client's side of whole conversations: what it sends, what it makes of the answers, however
//! the answers are cut.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::format_collect,
    clippy::option_option,
    reason = "tests may panic, also in their helper functions, and are short before fast"
)]

#[path = "client/dialogue.rs"]
mod dialogue;
#[path = "client/hostile.rs"]
mod hostile;
#[path = "client/joined.rs"]
mod joined;
#[path = "client/opening.rs"]
mod opening;
#[path = "client/transactions.rs"]
mod transactions;
