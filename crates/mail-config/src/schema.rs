//! Which keys there are, read off the default values.

use serde_json::Value;

use crate::Config;

/// The valid keys: an object for each table. An empty object takes any key.
#[derive(Debug)]
pub(crate) struct Schema(Value);

/// A key that is not in the schema.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unknown {
    /// With its table.
    pub(crate) key: String,
    /// The nearest valid key, as the end of a sentence.
    pub(crate) advice: String,
}

impl Schema {
    pub(crate) fn new() -> Self {
        // Plain structs of texts, numbers and lists always turn into JSON; were it not so, the
        // schema would be empty, and the tests below fail.
        Self(serde_json::to_value(Config::default()).unwrap_or_default())
    }

    /// The default of a key; `None` where any key is allowed.
    pub(crate) fn find(&self, path: &[&str]) -> Result<Option<&Value>, Unknown> {
        let mut at = &self.0;
        for (depth, name) in path.iter().enumerate() {
            let Value::Object(table) = at else {
                return Err(self.unknown(path, &[]));
            };
            if table.is_empty() && depth > 0 {
                return Ok(None);
            }
            let Some(next) = table.get(*name) else {
                let siblings: Vec<&str> = table.keys().map(String::as_str).collect();
                return Err(self.unknown(path.get(..=depth).unwrap_or(path), &siblings));
            };
            at = next;
        }
        Ok(Some(at))
    }

    fn unknown(&self, path: &[&str], siblings: &[&str]) -> Unknown {
        let (name, table) = path.split_last().map_or(("", path), |(n, t)| (*n, t));
        let near = siblings
            .iter()
            .map(|sibling| (strsim::jaro_winkler(name, sibling), *sibling))
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .filter(|(likeness, _)| *likeness > 0.8);
        let advice = if let Some((_, sibling)) = near {
            format!("; did you mean {}?", join(table, sibling))
        } else if let Some(elsewhere) = self.elsewhere(name) {
            format!("; did you mean {elsewhere}?")
        } else if siblings.is_empty() {
            format!("; {} is no table", table.join("."))
        } else {
            format!("; valid here: {}", siblings.join(", "))
        };
        Unknown {
            key: path.join("."),
            advice,
        }
    }

    /// A key of that name in some table.
    fn elsewhere(&self, name: &str) -> Option<String> {
        self.keys()
            .into_iter()
            .find(|key| key.rsplit('.').next() == Some(name))
    }

    /// All keys with their tables, without the tables themselves.
    pub(crate) fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        collect(&self.0, "", &mut keys);
        keys
    }
}

fn join(table: &[&str], name: &str) -> String {
    table
        .iter()
        .chain([&name])
        .copied()
        .collect::<Vec<_>>()
        .join(".")
}

fn collect(value: &Value, prefix: &str, keys: &mut Vec<String>) {
    match value {
        Value::Object(table) if !table.is_empty() || prefix.is_empty() => {
            for (name, inner) in table {
                let key = if prefix.is_empty() {
                    name.clone()
                } else {
                    format!("{prefix}.{name}")
                };
                collect(inner, &key, keys);
            }
        }
        _ => keys.push(prefix.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_named() {
        let schema = Schema::new();
        assert!(schema.keys().len() > 40);
        let advice = |path: &[&str]| schema.find(path).unwrap_err().advice;
        assert_eq!(
            advice(&["smtpd", "max_conections"]),
            "; did you mean smtpd.max_connections?"
        );
        assert_eq!(advice(&["smptd"]), "; did you mean smtpd?");
        assert_eq!(
            advice(&["server", "relay_networks"]),
            "; did you mean smtpd.relay_networks?"
        );
        assert_eq!(advice(&["tls", "zzz"]), "; valid here: certificate, key");
        assert_eq!(
            advice(&["server", "hostname", "zzz"]),
            "; server.hostname is no table"
        );
    }
}
