//! From a password to what is stored of it.

use argon2::password_hash::{PasswordHasher, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use mail_config::Directoryd;
use mail_types::Secret;
use sasl::{PrepareError, ScramKeys, prepare_password};

use crate::store::Credentials;

/// Octets of a salt (RFC 9106 §3.1 recommends 16).
pub(crate) const SALT_LEN: usize = 16;

/// How dear a password is to check.
#[derive(Debug, Clone)]
pub(crate) struct Cost {
    /// KiB.
    memory: u64,
    passes: u32,
    lanes: u32,
    scram_iterations: u32,
}

/// Why a password is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PasswordError {
    /// argon2 cannot work with the configured cost.
    #[error("argon2 cannot be used; check [directoryd.argon2]: {0}")]
    Argon2(argon2::password_hash::Error),
    /// It is none.
    #[error("the password is not acceptable: {0}")]
    Prepare(#[from] PrepareError),
}

impl Cost {
    pub(crate) fn new(config: &Directoryd) -> Self {
        Self {
            memory: config.argon2.memory.bytes() / 1024,
            passes: config.argon2.passes,
            lanes: config.argon2.lanes,
            scram_iterations: config.scram_iterations.max(sasl::MIN_ITERATIONS),
        }
    }
}

/// Hashes a password. This takes its time: not on the runtime's threads.
pub(crate) fn credentials(
    password: &Secret<Vec<u8>>,
    cost: &Cost,
) -> Result<Credentials, PasswordError> {
    let prepared = prepare_password(password.expose())?;
    let salt = rand::random::<[u8; SALT_LEN]>().to_vec();
    Ok(Credentials {
        argon2: argon2_hash(&prepared, cost)?,
        scram: ScramKeys::derive(&prepared, salt, cost.scram_iterations),
    })
}

/// The PHC text of a prepared password.
pub(crate) fn argon2_hash(
    prepared: &Secret<Vec<u8>>,
    cost: &Cost,
) -> Result<Secret<String>, PasswordError> {
    let memory = u32::try_from(cost.memory).unwrap_or(u32::MAX);
    let params = Params::new(memory, cost.passes, cost.lanes, None)
        .map_err(|error| PasswordError::Argon2(error.into()))?;
    let salt =
        SaltString::encode_b64(&rand::random::<[u8; SALT_LEN]>()).map_err(PasswordError::Argon2)?;
    let hash = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password(prepared.expose(), &salt)
        .map_err(PasswordError::Argon2)?;
    Ok(Secret::new(hash.to_string()))
}
