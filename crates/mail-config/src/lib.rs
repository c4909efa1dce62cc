//! Strict settings structs of the one correo.toml.
