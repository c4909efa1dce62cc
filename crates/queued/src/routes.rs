//! Where mail for other systems goes: to the domain's own exchangers unless configured otherwise.

use std::collections::HashMap;

use mail_types::Domain;
use queue_store::{Route, SmartHost};

/// Ways by domain.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    exact: HashMap<String, Option<SmartHost>>,
    /// By parent domain, without the leading dot.
    below: HashMap<String, Option<SmartHost>>,
    default: Option<SmartHost>,
}

impl RouteTable {
    /// Everything without a way of its own goes to this host.
    pub fn set_default(&mut self, host: Option<SmartHost>) {
        self.default = host;
    }

    /// Sets the way of a domain, or with a leading dot of all domains below; `None` is by MX.
    pub fn insert(&mut self, pattern: &str, host: Option<SmartHost>) {
        let pattern = pattern.to_ascii_lowercase();
        match pattern.strip_prefix('.') {
            Some(parent) => self.below.insert(parent.to_owned(), host),
            None => self.exact.insert(pattern, host),
        };
    }

    /// The way of a domain: its own, else that of the nearest parent, else the default.
    pub fn route(&self, domain: &Domain) -> Route {
        let name = domain.to_string();
        let host = self.exact.get(&name).or_else(|| self.nearest(&name));
        match host.unwrap_or(&self.default) {
            Some(host) => Route::SmartHost(host.clone()),
            None => Route::Domain(domain.clone()),
        }
    }

    fn nearest(&self, name: &str) -> Option<&Option<SmartHost>> {
        let mut rest = name;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(host) = self.below.get(parent) {
                return Some(host);
            }
            rest = parent;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_way_wins() {
        let host = |name: &str| SmartHost {
            host: name.into(),
            port: 25,
            username: String::new(),
            credentials: String::new(),
            implicit_tls: false,
        };
        let mut table = RouteTable::default();
        let way = |table: &RouteTable, domain: &str| match table.route(&domain.parse().unwrap()) {
            Route::SmartHost(host) => host.host,
            Route::Domain(domain) => format!("MX {domain}"),
            Route::Local { .. } => unreachable!(),
        };
        assert_eq!(way(&table, "a.test"), "MX a.test");
        table.set_default(Some(host("all")));
        table.insert("a.test", Some(host("a")));
        table.insert(".b.test", Some(host("below-b")));
        table.insert(".c.b.test", None);
        assert_eq!(way(&table, "a.test"), "a");
        assert_eq!(way(&table, "x.a.test"), "all");
        assert_eq!(way(&table, "b.test"), "all");
        assert_eq!(way(&table, "x.y.b.test"), "below-b");
        assert_eq!(way(&table, "x.c.b.test"), "MX x.c.b.test");
        assert_eq!(way(&table, "[192.0.2.1]"), "all");
    }
}
