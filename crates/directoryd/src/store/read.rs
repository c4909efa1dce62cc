use mail_types::{AccountId, EmailAddress, LocalPart};
use redb::{ReadOnlyMultimapTable, ReadOnlyTable, ReadTransaction};

use sha2::{Digest, Sha256};

use crate::password::SALT_LEN;

use super::StoreError;
use super::model::{Account, Credentials, Found, StoredCredentials, StoredName, decode, name_key};
use super::tables::{CREDENTIALS, DOMAINS, INVENTION, LEADS, MEMBERS, NAMES, SECRETS};

/// How deep a chain of aliases is followed to see whether it leads to one account alone.
const MAX_CHAIN: usize = 16;
/// How many sender addresses an account gets at most: they go to the front end at each login.
const MAX_SENDER_ADDRESSES: usize = 1000;

/// One consistent state of the directory.
pub(crate) struct Reader {
    pub(super) domains: ReadOnlyTable<&'static str, &'static [u8]>,
    pub(super) names: ReadOnlyTable<&'static str, &'static [u8]>,
    members: ReadOnlyTable<(&'static str, u64), &'static str>,
    credentials: ReadOnlyTable<u64, &'static [u8]>,
    leads: ReadOnlyMultimapTable<&'static str, &'static str>,
    secrets: ReadOnlyTable<&'static str, &'static [u8]>,
}

impl Reader {
    pub(super) fn new(transaction: &ReadTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            domains: transaction.open_table(DOMAINS)?,
            names: transaction.open_table(NAMES)?,
            members: transaction.open_table(MEMBERS)?,
            credentials: transaction.open_table(CREDENTIALS)?,
            leads: transaction.open_multimap_table(LEADS)?,
            secrets: transaction.open_table(SECRETS)?,
        })
    }

    /// Says what an address is. `postmaster` takes the mail of a domain's postmaster where it has
    /// no such name (RFC 5321 §4.5.1); without one it is the domain's first account.
    pub(crate) fn find(
        &self,
        address: &EmailAddress,
        postmaster: Option<&EmailAddress>,
    ) -> Result<Found, StoreError> {
        let key = name_key(address);
        if let Some(bytes) = self.names.get(key.as_str())? {
            return decode::<StoredName>(bytes.value(), &key)?.found(&key);
        }
        if self
            .domains
            .get(address.domain.to_string().as_str())?
            .is_none()
        {
            return Ok(Found::NotLocal);
        }
        if is_postmaster(&address.local) {
            return self.postmaster(address, postmaster);
        }
        Ok(Found::NoSuchUser)
    }

    fn postmaster(
        &self,
        address: &EmailAddress,
        configured: Option<&EmailAddress>,
    ) -> Result<Found, StoreError> {
        let other = configured.filter(|target| target.folded() != address.folded());
        let target = match other {
            Some(target) => Some(target.clone()),
            None => self.first_account(address)?.map(|account| account.address),
        };
        Ok(match target {
            Some(target) => Found::Alias {
                address: address.clone(),
                targets: vec![target],
            },
            None => Found::NoSuchUser,
        })
    }

    fn first_account(&self, address: &EmailAddress) -> Result<Option<Account>, StoreError> {
        let domain = address.domain.to_string();
        let mut members = self
            .members
            .range((domain.as_str(), 0)..=(domain.as_str(), u64::MAX))?;
        let Some(first) = members.next() else {
            return Ok(None);
        };
        let (_, key) = first?;
        match self.entry(key.value())? {
            Some(Found::Account(account)) => Ok(Some(account)),
            _ => Ok(None),
        }
    }

    fn entry(&self, key: &str) -> Result<Option<Found>, StoreError> {
        match self.names.get(key)? {
            Some(bytes) => decode::<StoredName>(bytes.value(), key)?
                .found(key)
                .map(Some),
            None => Ok(None),
        }
    }

    /// What the account's password is checked against.
    pub(crate) fn credentials(&self, id: AccountId) -> Result<Option<Credentials>, StoreError> {
        let Some(bytes) = self.credentials.get(id.get())? else {
            return Ok(None);
        };
        let stored: StoredCredentials = decode(bytes.value(), &id.to_string())?;
        Ok(Some(stored.into()))
    }

    /// A salt for a user that does not exist: the same at each question, like a real one.
    pub(crate) fn invented_salt(&self, address: &EmailAddress) -> Result<Vec<u8>, StoreError> {
        let mut digest = Sha256::new();
        if let Some(secret) = self.secrets.get(INVENTION)? {
            digest.update(secret.value());
        }
        digest.update(address.folded());
        let mut salt = digest.finalize().to_vec();
        salt.truncate(SALT_LEN);
        Ok(salt)
    }

    /// The aliases that lead to the account and to nobody else: it may send under their names.
    pub(crate) fn sender_addresses(
        &self,
        account: &Account,
    ) -> Result<Vec<EmailAddress>, StoreError> {
        let mut found: Vec<EmailAddress> = Vec::new();
        let mut open = vec![name_key(&account.address)];
        for _ in 0..MAX_CHAIN {
            let mut next = Vec::new();
            for key in &open {
                for alias in self.leads.get(key.as_str())? {
                    let alias = alias?;
                    if let Some(Found::Alias { address, targets }) = self.entry(alias.value())?
                        && let [_only] = targets.as_slice()
                        && found.len() < MAX_SENDER_ADDRESSES
                    {
                        found.push(address);
                        next.push(alias.value().to_owned());
                    }
                }
            }
            if next.is_empty() {
                break;
            }
            open = next;
        }
        Ok(found)
    }
}

fn is_postmaster(local: &LocalPart) -> bool {
    local.as_str().eq_ignore_ascii_case("postmaster")
}
