//! One file for each noun of the command line.

pub(crate) mod account;
pub(crate) mod alias;
pub(crate) mod config;
pub(crate) mod directory;
pub(crate) mod domain;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod queue;
pub(crate) mod route;
pub(crate) mod store;
