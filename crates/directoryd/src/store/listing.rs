//! Lists in pages: each page is a short read of its own, so that a list that a slow client takes
//! does not keep old states of the database on disk.

use mail_types::{Domain, EmailAddress};

use super::model::{Account, Found, StoredDomain, StoredName, decode};
use super::{Store, StoreError};

/// Rows of a page.
const PAGE: usize = 1000;

/// A domain of ours.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DomainRow {
    pub(crate) domain: String,
    pub(crate) accounts: u64,
    pub(crate) aliases: u64,
}

/// An alias.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AliasRow {
    pub(crate) alias: EmailAddress,
    pub(crate) targets: Vec<EmailAddress>,
}

/// A page and where the next one begins; no more where that is absent.
pub(crate) type Page<T> = (Vec<T>, Option<String>);

impl Store {
    /// Domains behind `after`.
    pub(crate) fn domains(&self, after: &str) -> Result<Page<DomainRow>, StoreError> {
        let reader = self.reader()?;
        let mut rows = Vec::new();
        for entry in reader.domains.range(next_key(after).as_str()..)? {
            let (domain, bytes) = entry?;
            let domain = domain.value().to_owned();
            let StoredDomain { accounts, aliases } = decode(bytes.value(), &domain)?;
            rows.push(DomainRow {
                domain,
                accounts,
                aliases,
            });
            if rows.len() == PAGE {
                let last = rows.last().map(|row| row.domain.clone());
                return Ok((rows, last));
            }
        }
        Ok((rows, None))
    }

    /// Accounts behind the key `after`, of one domain or of all.
    pub(crate) fn accounts(
        &self,
        domain: Option<&Domain>,
        after: &str,
    ) -> Result<Page<Account>, StoreError> {
        self.names(domain, after, |found| match found {
            Found::Account(account) => Some(account),
            _ => None,
        })
    }

    /// Aliases behind the key `after`, of one domain or of all.
    pub(crate) fn aliases(
        &self,
        domain: Option<&Domain>,
        after: &str,
    ) -> Result<Page<AliasRow>, StoreError> {
        self.names(domain, after, |found| match found {
            Found::Alias {
                address: alias,
                targets,
            } => Some(AliasRow { alias, targets }),
            _ => None,
        })
    }

    fn names<T>(
        &self,
        domain: Option<&Domain>,
        after: &str,
        select: impl Fn(Found) -> Option<T>,
    ) -> Result<Page<T>, StoreError> {
        let prefix = domain
            .map(|domain| format!("{domain}\0"))
            .unwrap_or_default();
        let start = if after.is_empty() {
            prefix.clone()
        } else {
            next_key(after)
        };
        let reader = self.reader()?;
        let mut rows = Vec::new();
        for (looked_at, entry) in reader.names.range(start.as_str()..)?.enumerate() {
            let (key, bytes) = entry?;
            let key = key.value();
            if !key.starts_with(&prefix) {
                break;
            }
            rows.extend(select(
                decode::<StoredName>(bytes.value(), key)?.found(key)?,
            ));
            if looked_at + 1 == PAGE {
                return Ok((rows, Some(key.to_owned())));
            }
        }
        Ok((rows, None))
    }
}

/// The first key behind this one.
fn next_key(key: &str) -> String {
    if key.is_empty() {
        String::new()
    } else {
        format!("{key}\0")
    }
}
