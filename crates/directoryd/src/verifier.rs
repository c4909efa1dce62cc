//! Checks passwords: argon2 off the runtime's threads, few at once, and once for a password.

mod memory;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;
use mail_config::Directoryd;
use mail_types::Secret;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::password::{self, Cost};
use memory::Memory;

/// Checks passwords. Clones share the pool and the cache.
#[derive(Clone, Debug)]
pub(crate) struct Verifier(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// One for each check that runs.
    running: Semaphore,
    /// One for each check that runs or waits.
    admitted: Semaphore,
    cache: Option<Mutex<LruCache<u64, Remembered>>>,
    ttl: Duration,
    /// Random, of this process: what is remembered tells nothing outside of it.
    key: [u8; 32],
    /// The hash of no password, checked for unknown users so that they take as long as known ones.
    nobody: Secret<String>,
    memory: Arc<Memory>,
}

/// A password that was right.
#[derive(Debug)]
struct Remembered {
    tag: [u8; 32],
    until: Instant,
}

/// No answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerifyError {
    /// Too many wait already.
    #[error("too many password checks are waiting")]
    Busy,
    /// The stored hash does not parse, or argon2 does not work.
    #[error("the stored password hash cannot be checked: {0}")]
    Hash(argon2::password_hash::Error),
    /// The check was cut.
    #[error("the check did not end: {0}")]
    Join(#[from] tokio::task::JoinError),
}

impl Verifier {
    pub(crate) fn new(config: &Directoryd) -> Result<Self, password::PasswordError> {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let at_once = match config.max_password_checks {
            0 => processors,
            limit => limit,
        };
        let waiting = at_once.saturating_add(config.max_waiting_checks);
        let nothing = Secret::new(rand::random::<[u8; 32]>().to_vec());
        Ok(Self(Arc::new(Inner {
            running: Semaphore::new(at_once),
            admitted: Semaphore::new(waiting.min(Semaphore::MAX_PERMITS)),
            cache: NonZeroUsize::new(config.password_cache)
                .map(|capacity| Mutex::new(LruCache::new(capacity))),
            ttl: *config.password_cache_ttl,
            key: rand::random(),
            nobody: password::argon2_hash(&nothing, &Cost::new(config))?,
            memory: Arc::default(),
        })))
    }

    /// True if the password is the account's.
    pub(crate) async fn check(
        &self,
        account: u64,
        hash: &Secret<String>,
        password: Secret<Vec<u8>>,
    ) -> Result<bool, VerifyError> {
        let tag = self.0.tag(hash, &password);
        if self.0.remembers(account, &tag) {
            return Ok(true);
        }
        let _place = self
            .0
            .admitted
            .try_acquire()
            .map_err(|_| VerifyError::Busy)?;
        let _turn = self
            .0
            .running
            .acquire()
            .await
            .map_err(|_| VerifyError::Busy)?;
        // A client that opens five connections asks five times at once.
        if self.0.remembers(account, &tag) {
            return Ok(true);
        }
        let right = self.0.verify(hash.clone(), password).await?;
        if right {
            self.0.remember(account, tag);
        }
        Ok(right)
    }

    /// Takes as long as a check that fails.
    pub(crate) async fn check_nobody(&self, password: Secret<Vec<u8>>) -> Result<(), VerifyError> {
        let _place = self
            .0
            .admitted
            .try_acquire()
            .map_err(|_| VerifyError::Busy)?;
        let _turn = self
            .0
            .running
            .acquire()
            .await
            .map_err(|_| VerifyError::Busy)?;
        self.0.verify(self.0.nobody.clone(), password).await?;
        Ok(())
    }
}

impl Inner {
    async fn verify(
        &self,
        hash: Secret<String>,
        password: Secret<Vec<u8>>,
    ) -> Result<bool, VerifyError> {
        let memory = self.memory.clone();
        let checked = spawn_blocking(move || memory.verify(&hash, &password));
        checked.await?.map_err(VerifyError::Hash)
    }

    /// Covers the stored hash too, so that a changed password is forgotten by itself.
    fn tag(&self, hash: &Secret<String>, password: &Secret<Vec<u8>>) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(self.key);
        digest.update((hash.expose().len() as u64).to_be_bytes());
        digest.update(hash.expose());
        digest.update(password.expose());
        digest.finalize().into()
    }

    fn remembers(&self, account: u64, tag: &[u8; 32]) -> bool {
        let Some(cache) = &self.cache else {
            return false;
        };
        let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache
            .get(&account)
            .is_some_and(|known| bool::from(known.tag.ct_eq(tag)) && known.until > Instant::now())
    }

    fn remember(&self, account: u64, tag: [u8; 32]) {
        if let Some(cache) = &self.cache {
            let until = Instant::now() + self.ttl;
            let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
            cache.put(account, Remembered { tag, until });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_config::Size;

    fn config() -> Directoryd {
        let mut config = Directoryd::default();
        config.argon2.memory = Size::from_kib(64);
        config
    }

    fn secret(text: &str) -> Secret<Vec<u8>> {
        Secret::new(text.as_bytes().to_vec())
    }

    fn hash(text: &str, config: &Directoryd) -> Secret<String> {
        password::argon2_hash(&secret(text), &Cost::new(config)).unwrap()
    }

    #[tokio::test]
    async fn right_ones_are_remembered_until_they_change() {
        let config = config();
        let verifier = Verifier::new(&config).unwrap();
        let (old, new) = (hash("old", &config), hash("new", &config));
        assert!(!verifier.check(1, &old, secret("new")).await.unwrap());
        assert!(verifier.check(1, &old, secret("old")).await.unwrap());
        // Without permits nothing but the cache can answer.
        verifier.0.running.forget_permits(usize::MAX);
        assert!(verifier.check(1, &old, secret("old")).await.unwrap());
        let waits = Duration::from_millis(50);
        for (hash, text) in [(&old, "wrong"), (&new, "old")] {
            let check = verifier.check(1, hash, secret(text));
            assert!(
                tokio::time::timeout(waits, check).await.is_err(),
                "{text} was cached"
            );
        }
    }

    #[tokio::test]
    async fn too_many_are_told_to_come_back() {
        let mut config = config();
        config.max_password_checks = 1;
        config.max_waiting_checks = 0;
        let verifier = Verifier::new(&config).unwrap();
        let _busy = verifier.0.admitted.try_acquire().unwrap();
        let refused = verifier.check(1, &hash("x", &config), secret("x")).await;
        assert!(matches!(refused, Err(VerifyError::Busy)));
        let refused = verifier.check_nobody(secret("x")).await;
        assert!(matches!(refused, Err(VerifyError::Busy)));
    }
}
