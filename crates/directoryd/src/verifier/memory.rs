//! What argon2 works in.

use std::sync::{Mutex, PoisonError};

use argon2::password_hash::{Error, PasswordHash};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use mail_types::Secret;
use subtle::ConstantTimeEq;

/// The memory of checks, used again and again: blocks of 19 MiB that come and go on a dozen threads
/// stay with the allocator, some for each of its arenas. It never has more than as many checks as
/// ran at once.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Vec<Vec<Block>>>);

impl Memory {
    /// True if the password is the one that was hashed. This takes its time.
    pub(super) fn verify(
        &self,
        hash: &Secret<String>,
        password: &Secret<Vec<u8>>,
    ) -> Result<bool, Error> {
        let hash = PasswordHash::new(hash.expose())?;
        let (Some(salt), Some(expected)) = (&hash.salt, &hash.hash) else {
            return Err(Error::PhcStringField);
        };
        let version = hash.version.map(Version::try_from).transpose()?;
        let params = Params::try_from(&hash)?;
        let count = params.block_count();
        let argon2 = Argon2::new(
            Algorithm::try_from(hash.algorithm)?,
            version.unwrap_or_default(),
            params,
        );
        let mut decoded = [0; 64];
        let salt = salt.decode_b64(&mut decoded)?;
        let mut output = vec![0; expected.len()];
        let mut blocks = self.take(count);
        let done = argon2.hash_password_into_with_memory(
            password.expose(),
            salt,
            &mut output,
            &mut blocks,
        );
        self.give_back(blocks);
        done?;
        Ok(output.ct_eq(expected.as_bytes()).into())
    }

    fn take(&self, count: usize) -> Vec<Block> {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        // Passwords that were set at another cost need more or fewer; more than it needs a check
        // leaves alone.
        let mut blocks = free.unwrap_or_default();
        if blocks.len() < count {
            blocks = Vec::new();
            blocks.resize(count, Block::default());
        }
        blocks
    }

    fn give_back(&self, blocks: Vec<Block>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(blocks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::password::{self, Cost};
    use argon2::PasswordVerifier;
    use mail_config::{Directoryd, Size};

    fn hash(text: &str, kib: u64, passes: u32) -> Secret<String> {
        let mut config = Directoryd::default();
        config.argon2.memory = Size::from_kib(kib);
        config.argon2.passes = passes;
        password::argon2_hash(&secret(text), &Cost::new(&config)).unwrap()
    }

    fn secret(text: &str) -> Secret<Vec<u8>> {
        Secret::new(text.as_bytes().to_vec())
    }

    // Tests RFC 9106 §3.2: what other passwords have left in the memory is of no account.
    #[test]
    fn memory_that_was_used_gives_the_same_answers() {
        let memory = Memory::default();
        for (kib, passes) in [(64, 1), (256, 2), (64, 3)] {
            let hash = hash("right", kib, passes);
            for text in ["wrong", "right", "", "right"] {
                let parsed = PasswordHash::new(hash.expose()).unwrap();
                let known = Argon2::default().verify_password(text.as_bytes(), &parsed);
                let answer = memory.verify(&hash, &secret(text)).unwrap();
                assert_eq!(answer, known.is_ok(), "{text} {kib}");
            }
        }
        assert_eq!(memory.0.lock().unwrap().len(), 1);
        let damaged = Secret::new("$argon2id$v=19$m=64,t=1,p=1".to_owned());
        assert!(memory.verify(&damaged, &secret("x")).is_err());
    }
}
