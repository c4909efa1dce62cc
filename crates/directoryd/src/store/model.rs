use mail_types::{AccountId, EmailAddress, Secret};
use sasl::ScramKeys;
use serde::{Deserialize, Serialize};

use super::StoreError;

/// A mailbox of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) id: AccountId,
    /// As it was created.
    pub(crate) address: EmailAddress,
    /// Octets; 0 is no limit.
    pub(crate) quota: u64,
}

/// What an address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Account(Account),
    Alias {
        /// As it was created.
        address: EmailAddress,
        targets: Vec<EmailAddress>,
    },
    /// The domain is ours, the name is not there.
    NoSuchUser,
    /// The domain is not ours.
    NotLocal,
}

/// What a password is checked against.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    /// argon2id in PHC form.
    pub(crate) argon2: Secret<String>,
    pub(crate) scram: ScramKeys,
}

/// A name as it is stored.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StoredName {
    Account {
        id: u64,
        address: String,
        quota: u64,
    },
    Alias {
        address: String,
        targets: Vec<String>,
    },
}

/// A domain as it is stored.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct StoredDomain {
    pub(super) accounts: u64,
    pub(super) aliases: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct StoredCredentials {
    argon2: String,
    salt: Vec<u8>,
    iterations: u32,
    stored_key: [u8; 32],
    server_key: [u8; 32],
}

impl From<&Credentials> for StoredCredentials {
    fn from(credentials: &Credentials) -> Self {
        Self {
            argon2: credentials.argon2.expose().clone(),
            salt: credentials.scram.salt.clone(),
            iterations: credentials.scram.iterations,
            stored_key: *credentials.scram.stored_key.expose(),
            server_key: *credentials.scram.server_key.expose(),
        }
    }
}

impl From<StoredCredentials> for Credentials {
    fn from(stored: StoredCredentials) -> Self {
        Self {
            argon2: Secret::new(stored.argon2),
            scram: ScramKeys {
                salt: stored.salt,
                iterations: stored.iterations,
                stored_key: Secret::new(stored.stored_key),
                server_key: Secret::new(stored.server_key),
            },
        }
    }
}

impl StoredName {
    pub(super) fn found(self, key: &str) -> Result<Found, StoreError> {
        Ok(match self {
            Self::Account { id, address, quota } => Found::Account(Account {
                id: id.into(),
                address: address_of(&address, key)?,
                quota,
            }),
            Self::Alias { address, targets } => Found::Alias {
                address: address_of(&address, key)?,
                targets: targets
                    .iter()
                    .map(|target| address_of(target, key))
                    .collect::<Result<_, _>>()?,
            },
        })
    }
}

/// The key of an address: domain, then the folded local part, so that a domain's names lie
/// together. NUL is in neither.
pub(super) fn name_key(address: &EmailAddress) -> String {
    format!("{}\0{}", address.domain, address.local.folded())
}

/// The address in a key, for messages and lists.
pub(super) fn key_address(key: &str) -> String {
    key.split_once('\0').map_or_else(
        || key.to_owned(),
        |(domain, local)| format!("{local}@{domain}"),
    )
}

pub(super) fn decode<'b, T: Deserialize<'b>>(bytes: &'b [u8], key: &str) -> Result<T, StoreError> {
    serde_json::from_slice(bytes)
        .map_err(|error| StoreError::Damaged(key_address(key), error.to_string()))
}

pub(super) fn encode<T: Serialize>(value: &T, key: &str) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value)
        .map_err(|error| StoreError::Damaged(key_address(key), error.to_string()))
}

fn address_of(text: &str, key: &str) -> Result<EmailAddress, StoreError> {
    text.parse::<EmailAddress>()
        .map_err(|error| StoreError::Damaged(key_address(key), error.to_string()))
}
