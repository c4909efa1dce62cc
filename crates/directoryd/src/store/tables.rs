use redb::{
    MultimapTable, MultimapTableDefinition, ReadableTable, Table, TableDefinition, WriteTransaction,
};

use super::StoreError;
use super::model::{StoredDomain, StoredName, decode, encode};

/// Domain to [`StoredDomain`].
pub(super) const DOMAINS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("domains");
/// Name key to [`StoredName`].
pub(super) const NAMES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("names");
/// Domain and account id to name key: a domain's accounts in the order they were made.
pub(super) const MEMBERS: TableDefinition<'_, (&str, u64), &str> = TableDefinition::new("members");
/// Account id to its credentials.
pub(super) const CREDENTIALS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("credentials");
/// Name key of a target to the keys of the aliases that lead there.
pub(super) const LEADS: MultimapTableDefinition<'_, &str, &str> =
    MultimapTableDefinition::new("leads");
/// Counters.
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Random octets of this directory.
pub(super) const SECRETS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("secrets");
/// What the salts of users that do not exist are made from.
pub(super) const INVENTION: &str = "invention";
/// The next account's id.
pub(super) const NEXT_ID: &str = "next_account_id";

/// All tables of a change.
pub(super) struct WriteTables<'t> {
    pub(super) domains: Table<'t, &'static str, &'static [u8]>,
    pub(super) names: Table<'t, &'static str, &'static [u8]>,
    pub(super) members: Table<'t, (&'static str, u64), &'static str>,
    pub(super) credentials: Table<'t, u64, &'static [u8]>,
    pub(super) leads: MultimapTable<'t, &'static str, &'static str>,
    meta: Table<'t, &'static str, u64>,
}

impl<'t> WriteTables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            domains: transaction.open_table(DOMAINS)?,
            names: transaction.open_table(NAMES)?,
            members: transaction.open_table(MEMBERS)?,
            credentials: transaction.open_table(CREDENTIALS)?,
            leads: transaction.open_multimap_table(LEADS)?,
            meta: transaction.open_table(META)?,
        })
    }

    pub(super) fn domain(&self, domain: &str) -> Result<Option<StoredDomain>, StoreError> {
        match self.domains.get(domain)? {
            Some(bytes) => decode(bytes.value(), domain).map(Some),
            None => Ok(None),
        }
    }

    pub(super) fn put_domain(
        &mut self,
        domain: &str,
        stored: &StoredDomain,
    ) -> Result<(), StoreError> {
        let bytes = encode(stored, domain)?;
        self.domains.insert(domain, bytes.as_slice())?;
        Ok(())
    }

    pub(super) fn name(&self, key: &str) -> Result<Option<StoredName>, StoreError> {
        match self.names.get(key)? {
            Some(bytes) => decode(bytes.value(), key).map(Some),
            None => Ok(None),
        }
    }

    pub(super) fn put_name(&mut self, key: &str, stored: &StoredName) -> Result<(), StoreError> {
        let bytes = encode(stored, key)?;
        self.names.insert(key, bytes.as_slice())?;
        Ok(())
    }

    /// An id that no account has, had or will have.
    pub(super) fn next_id(&mut self) -> Result<u64, StoreError> {
        let id = self.meta.get(NEXT_ID)?.map_or(1, |value| value.value());
        self.meta.insert(NEXT_ID, id + 1)?;
        Ok(id)
    }
}
