//! Changes to the directory.

use mail_types::{AccountId, Domain, EmailAddress};
use redb::ReadableMultimapTable;

use super::aliases::circle;
use super::model::{
    Credentials, StoredCredentials, StoredDomain, StoredName, encode, key_address, name_key,
};
use super::tables::WriteTables;
use super::{Store, StoreError};

/// The most targets of one alias: a longer list is a mailing list's work, and each mail to it would
/// be that many deliveries.
const MAX_TARGETS: usize = 1000;

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    /// It is not allowed.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A change that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub(crate) struct Refused {
    pub(crate) reason: Refusal,
    /// A sentence for the operator.
    pub(crate) detail: String,
}

/// The kind of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    AlreadyExists,
    InUse,
    Invalid,
    Loop,
    NoSuchAccount,
    NoSuchAlias,
    NoSuchDomain,
    NotEmpty,
}

/// An alias that was added.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AliasAdded {
    /// Targets in domains of ours that are not there (yet).
    pub(crate) missing: Vec<EmailAddress>,
}

pub(crate) fn refuse<T>(reason: Refusal, detail: impl Into<String>) -> Result<T, ChangeError> {
    let detail = detail.into();
    Err(Refused { reason, detail }.into())
}

impl From<redb::StorageError> for ChangeError {
    fn from(error: redb::StorageError) -> Self {
        Self::Store(error.into())
    }
}

impl Store {
    /// Makes a domain ours.
    pub(crate) fn add_domain(&self, domain: &Domain) -> Result<(), ChangeError> {
        let Some(name) = domain.name() else {
            return refuse(
                Refusal::Invalid,
                format!("{domain} is an address literal, not a domain"),
            );
        };
        self.change(|tables| {
            if tables.domain(name)?.is_some() {
                return refuse(
                    Refusal::AlreadyExists,
                    format!("the domain {domain} is there already"),
                );
            }
            Ok(tables.put_domain(name, &StoredDomain::default())?)
        })
    }

    /// Makes a domain foreign; it must be empty.
    pub(crate) fn remove_domain(&self, domain: &Domain) -> Result<(), ChangeError> {
        let name = domain.to_string();
        self.change(|tables| {
            let StoredDomain { accounts, aliases } = existing(tables, &name)?;
            if accounts + aliases > 0 {
                return refuse(
                    Refusal::NotEmpty,
                    format!(
                        "{domain} still has {accounts} accounts and {aliases} aliases; remove them first"
                    ),
                );
            }
            tables.domains.remove(name.as_str())?;
            Ok(())
        })
    }

    /// Adds an account with its credentials.
    pub(crate) fn add_account(
        &self,
        address: &EmailAddress,
        quota: u64,
        credentials: &Credentials,
    ) -> Result<AccountId, ChangeError> {
        let (domain, key) = (address.domain.to_string(), name_key(address));
        self.change(|tables| {
            let mut stored = existing(tables, &domain)?;
            refuse_taken(tables, &key)?;
            let id = tables.next_id()?;
            let text = address.to_string();
            tables.put_name(
                &key,
                &StoredName::Account {
                    id,
                    address: text,
                    quota,
                },
            )?;
            tables.members.insert((domain.as_str(), id), key.as_str())?;
            put_credentials(tables, id, credentials)?;
            stored.accounts += 1;
            tables.put_domain(&domain, &stored)?;
            Ok(id.into())
        })
    }

    /// Gives an account new credentials.
    pub(crate) fn set_credentials(
        &self,
        address: &EmailAddress,
        credentials: &Credentials,
    ) -> Result<AccountId, ChangeError> {
        let key = name_key(address);
        self.change(|tables| {
            let (id, _, _) = account(tables, &key)?;
            put_credentials(tables, id, credentials)?;
            Ok(id.into())
        })
    }

    /// Changes how much an account may hold, in octets; 0 is no limit.
    pub(crate) fn set_quota(
        &self,
        address: &EmailAddress,
        quota: u64,
    ) -> Result<AccountId, ChangeError> {
        let key = name_key(address);
        self.change(|tables| {
            let (id, address, _) = account(tables, &key)?;
            tables.put_name(&key, &StoredName::Account { id, address, quota })?;
            Ok(id.into())
        })
    }

    /// Removes an account that no alias leads to. Its mail stays until the mail store is told.
    pub(crate) fn remove_account(&self, address: &EmailAddress) -> Result<AccountId, ChangeError> {
        let (domain, key) = (address.domain.to_string(), name_key(address));
        self.change(|tables| {
            let (id, _, _) = account(tables, &key)?;
            refuse_used(tables, &key)?;
            let mut stored = existing(tables, &domain)?;
            stored.accounts = stored.accounts.saturating_sub(1);
            tables.put_domain(&domain, &stored)?;
            tables.names.remove(key.as_str())?;
            tables.members.remove((domain.as_str(), id))?;
            tables.credentials.remove(id)?;
            Ok(id.into())
        })
    }

    /// Adds an alias. Targets are here or elsewhere; one here need not exist yet.
    pub(crate) fn add_alias(
        &self,
        alias: &EmailAddress,
        targets: &[EmailAddress],
    ) -> Result<AliasAdded, ChangeError> {
        if targets.is_empty() || targets.len() > MAX_TARGETS {
            return refuse(
                Refusal::Invalid,
                format!(
                    "an alias has 1 to {MAX_TARGETS} targets, not {}",
                    targets.len()
                ),
            );
        }
        let (domain, key) = (alias.domain.to_string(), name_key(alias));
        self.change(|tables| {
            let mut stored = existing(tables, &domain)?;
            refuse_taken(tables, &key)?;
            if let Some(circle) = circle(tables, &key, targets)? {
                return refuse(
                    Refusal::Loop,
                    format!("mail to {alias} would come back to itself in a loop: {circle}"),
                );
            }
            let mut missing = Vec::new();
            for target in targets {
                let target_key = name_key(target);
                tables.leads.insert(target_key.as_str(), key.as_str())?;
                let ours = tables.domain(&target.domain.to_string())?.is_some();
                if ours && tables.name(&target_key)?.is_none() {
                    missing.push(target.clone());
                }
            }
            let entry = StoredName::Alias {
                address: alias.to_string(),
                targets: targets.iter().map(ToString::to_string).collect(),
            };
            tables.put_name(&key, &entry)?;
            stored.aliases += 1;
            tables.put_domain(&domain, &stored)?;
            Ok(AliasAdded { missing })
        })
    }

    /// Removes an alias. Answers with some of the aliases that still lead to it.
    pub(crate) fn remove_alias(&self, alias: &EmailAddress) -> Result<Vec<String>, ChangeError> {
        let (domain, key) = (alias.domain.to_string(), name_key(alias));
        self.change(|tables| {
            let Some(StoredName::Alias { targets, .. }) = tables.name(&key)? else {
                return refuse(Refusal::NoSuchAlias, format!("there is no alias {alias}"));
            };
            for target in targets.iter().filter_map(|target| target.parse().ok()) {
                tables
                    .leads
                    .remove(name_key(&target).as_str(), key.as_str())?;
            }
            tables.names.remove(key.as_str())?;
            let mut stored = existing(tables, &domain)?;
            stored.aliases = stored.aliases.saturating_sub(1);
            tables.put_domain(&domain, &stored)?;
            used_by(tables, &key)
        })
    }
}

fn existing(tables: &WriteTables<'_>, domain: &str) -> Result<StoredDomain, ChangeError> {
    match tables.domain(domain)? {
        Some(stored) => Ok(stored),
        None => refuse(
            Refusal::NoSuchDomain,
            format!(
                "{domain} is no domain of this server; `correo domain add {domain}` makes it one"
            ),
        ),
    }
}

fn account(tables: &WriteTables<'_>, key: &str) -> Result<(u64, String, u64), ChangeError> {
    let address = key_address(key);
    match tables.name(key)? {
        Some(StoredName::Account { id, address, quota }) => Ok((id, address, quota)),
        Some(StoredName::Alias { .. }) => refuse(
            Refusal::NoSuchAccount,
            format!("{address} is an alias, not an account"),
        ),
        None => refuse(
            Refusal::NoSuchAccount,
            format!("there is no account {address}"),
        ),
    }
}

fn refuse_taken(tables: &WriteTables<'_>, key: &str) -> Result<(), ChangeError> {
    let kind = match tables.name(key)? {
        None => return Ok(()),
        Some(StoredName::Account { .. }) => "an account",
        Some(StoredName::Alias { .. }) => "an alias",
    };
    refuse(
        Refusal::AlreadyExists,
        format!("{} is there already: it is {kind}", key_address(key)),
    )
}

/// Some of the aliases that lead there.
fn used_by(tables: &WriteTables<'_>, key: &str) -> Result<Vec<String>, ChangeError> {
    let mut aliases = Vec::new();
    for alias in tables.leads.get(key)?.take(3) {
        aliases.push(key_address(alias?.value()));
    }
    Ok(aliases)
}

fn refuse_used(tables: &WriteTables<'_>, key: &str) -> Result<(), ChangeError> {
    let aliases = used_by(tables, key)?;
    if aliases.is_empty() {
        return Ok(());
    }
    refuse(
        Refusal::InUse,
        format!(
            "aliases lead to {}: {}; remove them first",
            key_address(key),
            aliases.join(", ")
        ),
    )
}

fn put_credentials(
    tables: &mut WriteTables<'_>,
    id: u64,
    credentials: &Credentials,
) -> Result<(), StoreError> {
    let bytes = encode(&StoredCredentials::from(credentials), &id.to_string())?;
    tables.credentials.insert(id, bytes.as_slice())?;
    Ok(())
}
