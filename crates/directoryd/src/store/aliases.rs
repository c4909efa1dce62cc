use std::collections::HashSet;

use mail_types::EmailAddress;

use super::StoreError;
use super::model::{StoredName, key_address, name_key};
use super::tables::WriteTables;

/// Where an alias with these targets would lead back to itself, the circle, as `a → b → a`.
///
/// What is stored has no circle, so only the new alias can close one.
pub(super) fn circle(
    tables: &WriteTables<'_>,
    alias: &str,
    targets: &[EmailAddress],
) -> Result<Option<String>, StoreError> {
    let mut seen = HashSet::new();
    // Each entry is a name with the way that led to it.
    let mut open: Vec<(String, Vec<String>)> = targets
        .iter()
        .map(|target| (name_key(target), vec![alias.to_owned()]))
        .collect();
    while let Some((key, mut way)) = open.pop() {
        way.push(key.clone());
        if key == alias {
            let names: Vec<String> = way.iter().map(|key| key_address(key)).collect();
            return Ok(Some(names.join(" → ")));
        }
        if !seen.insert(key.clone()) {
            continue;
        }
        if let Some(StoredName::Alias { targets, .. }) = tables.name(&key)? {
            let next = targets.iter().filter_map(|target| target.parse().ok());
            open.extend(next.map(|target: EmailAddress| (name_key(&target), way.clone())));
        }
    }
    Ok(None)
}
