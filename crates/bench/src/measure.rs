//! measure
pub(crate) mod syncs;
