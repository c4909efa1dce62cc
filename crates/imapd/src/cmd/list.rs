//! LIST and LSUB (RFC 3501 §6.3.8 and §6.3.9, RFC 3348, RFC 5258, RFC 5819, RFC 6154).

use std::collections::{BTreeMap, BTreeSet};

use imap_proto::encode::push_mailbox;
use imap_proto::{ListReturn, ListSelect, Tag};
use mail_rpc::pb::mailbox::v1 as pb;

use super::mailbox::{attribute, push_status};
use crate::answer::{No, check};
use crate::conversation::Conversation;

/// A name in the hierarchy.
#[derive(Debug, Default, Clone)]
struct Name {
    /// A mailbox is there, and what for; else it is only a level above others.
    mailbox: Option<pb::SpecialUse>,
    subscribed: bool,
}

/// All names of an account, INBOX first.
struct Names(BTreeMap<(bool, String), Name>);

impl Conversation {
    async fn names(&self) -> Result<Names, No> {
        let request = pb::ListMailboxesRequest {
            account_id: self.account(),
        };
        let answer = self
            .shared
            .store
            .clone()
            .list_mailboxes(request)
            .await?
            .into_inner();
        check(answer.failure.clone())?;
        let mut names = BTreeMap::new();
        for entry in &answer.mailboxes {
            let name: &mut Name = names.entry(key(&entry.name)).or_default();
            name.mailbox = Some(entry.special_use());
            for level in levels(&entry.name) {
                names.entry(key(level)).or_default();
            }
        }
        for subscribed in &answer.subscriptions {
            names.entry(key(subscribed)).or_default().subscribed = true;
        }
        Ok(Names(names))
    }

    pub(super) async fn list(
        &mut self,
        tag: &Tag,
        reference: &str,
        patterns: &[String],
        select: ListSelect,
        returns: &ListReturn,
    ) {
        // An empty pattern asks for the separator (RFC 3501 §6.3.8).
        if let [only] = patterns
            && only.is_empty()
            && !select.extended
        {
            self.out
                .extend_from_slice(b"* LIST (\\Noselect) \"/\" \"\"\r\n");
            return self.ok(tag, None, "LIST done");
        }
        let names = match self.names().await {
            Ok(names) => names,
            Err(no) => return no.push(&mut self.out, tag),
        };
        let patterns: Vec<String> = patterns
            .iter()
            .map(|pattern| format!("{reference}{pattern}"))
            .collect();
        let chosen = names.choose(&patterns, select);
        for (name, facts) in &chosen {
            let attributes = names.attributes(name, facts, select, returns);
            push_line(&mut self.out, "LIST", &attributes, name);
        }
        if !returns.status.is_empty() {
            let there = chosen.iter().filter(|(_, facts)| facts.mailbox.is_some());
            let wanted = there.map(|(name, _)| name.clone()).collect();
            match self.statuses(wanted).await {
                Ok(statuses) => {
                    for status in statuses.iter().filter(|status| status.failure.is_none()) {
                        push_status(&mut self.out, status, &returns.status);
                    }
                }
                Err(no) => return no.push(&mut self.out, tag),
            }
        }
        self.ok(tag, None, "LIST done");
    }

    pub(super) async fn lsub(&mut self, tag: &Tag, reference: &str, pattern: &str) {
        let names = match self.names().await {
            Ok(names) => names,
            Err(no) => return no.push(&mut self.out, tag),
        };
        let pattern = format!("{reference}{pattern}");
        let mut told = BTreeSet::new();
        for ((_, name), _) in names.0.iter().filter(|(_, facts)| facts.subscribed) {
            if matches(name, &pattern) {
                if told.insert(name.as_str()) {
                    push_line(&mut self.out, "LSUB", "", name);
                }
                continue;
            }
            // RFC 3501 §6.3.9: with % a level above a subscribed name is told.
            for level in levels(name).filter(|level| matches(level, &pattern)) {
                let subscribed = names
                    .0
                    .get(&key(level))
                    .is_some_and(|facts| facts.subscribed);
                if !subscribed && told.insert(level) {
                    push_line(&mut self.out, "LSUB", "\\Noselect", level);
                }
            }
        }
        self.ok(tag, None, "LSUB done");
    }
}

impl Names {
    fn choose(&self, patterns: &[String], select: ListSelect) -> Vec<(String, Name)> {
        let all = self.0.iter().map(|((_, name), facts)| (name, facts));
        let fits = all.filter(|(name, _)| patterns.iter().any(|pattern| matches(name, pattern)));
        fits.filter(|(name, facts)| {
            let special = facts.mailbox.and_then(attribute).is_some();
            let below = select.recursive_match && self.has_subscribed_below(name);
            if select.subscribed && !facts.subscribed && !below {
                return false;
            }
            if select.special_use && !special {
                return false;
            }
            // Names that are only subscribed are no mailboxes; levels are told.
            select.subscribed || facts.mailbox.is_some() || self.has_children(name)
        })
        .map(|(name, facts)| (name.clone(), facts.clone()))
        .collect()
    }

    fn below<'a>(&'a self, name: &str) -> impl Iterator<Item = (&'a String, &'a Name)> {
        let prefix = format!("{name}/");
        let all = self.0.iter().map(|((_, name), facts)| (name, facts));
        all.filter(move |(other, _)| other.starts_with(&prefix))
    }

    fn has_children(&self, name: &str) -> bool {
        self.below(name).any(|(_, facts)| facts.mailbox.is_some())
    }

    fn has_subscribed_below(&self, name: &str) -> bool {
        self.below(name).any(|(_, facts)| facts.subscribed)
    }

    fn attributes(
        &self,
        name: &str,
        facts: &Name,
        select: ListSelect,
        returns: &ListReturn,
    ) -> String {
        let mut attributes = Vec::new();
        if facts.mailbox.is_none() {
            attributes.push(if select.extended {
                "\\NonExistent"
            } else {
                "\\Noselect"
            });
        }
        attributes.push(if self.has_children(name) {
            "\\HasChildren"
        } else {
            "\\HasNoChildren"
        });
        if facts.subscribed && (select.subscribed || returns.subscribed) {
            attributes.push("\\Subscribed");
        }
        attributes.extend(facts.mailbox.and_then(attribute));
        attributes.join(" ")
    }
}

fn push_line(out: &mut Vec<u8>, word: &str, attributes: &str, name: &str) {
    out.extend_from_slice(format!("* {word} ({attributes}) \"/\" ").as_bytes());
    push_mailbox(out, name);
    out.extend_from_slice(b"\r\n");
}

/// INBOX before all others.
fn key(name: &str) -> (bool, String) {
    (name != "INBOX", name.to_owned())
}

/// The levels above a name.
fn levels(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('/').filter_map(|(at, _)| name.get(..at))
}

/// RFC 3501 §6.3.8: `*` is anything, `%` anything within a level; INBOX in any case. Remembers the
/// last wildcard instead of trying all ways, so that a pattern of many costs no more than it has to.
fn matches(name: &str, pattern: &str) -> bool {
    if pattern.eq_ignore_ascii_case("INBOX") {
        return name == "INBOX";
    }
    let (name, pattern) = (name.as_bytes(), pattern.as_bytes());
    let any_case = if name == b"INBOX" || name.starts_with(b"INBOX/") {
        b"INBOX".len()
    } else {
        0
    };
    // Which ends of the pattern's beginning fit the name's beginning.
    let mut reachable = vec![false; pattern.len() + 1];
    close(&mut reachable, pattern, Some(0));
    for (index, byte) in name.iter().enumerate() {
        let mut next = vec![false; pattern.len() + 1];
        for at in (0..pattern.len()).filter(|at| reachable.get(*at) == Some(&true)) {
            match pattern.get(at) {
                Some(b'*') => close(&mut next, pattern, Some(at)),
                Some(b'%') if *byte != b'/' => close(&mut next, pattern, Some(at)),
                Some(other)
                    if other == byte || (index < any_case && other.eq_ignore_ascii_case(byte)) =>
                {
                    close(&mut next, pattern, Some(at + 1));
                }
                _ => {}
            }
        }
        reachable = next;
    }
    reachable.last() == Some(&true)
}

/// Marks a place and those behind wildcards that match nothing.
fn close(places: &mut [bool], pattern: &[u8], from: Option<usize>) {
    let mut at = from;
    while let Some(place) = at {
        if let Some(mark) = places.get_mut(place) {
            *mark = true;
        }
        let wildcard = matches!(pattern.get(place), Some(b'*' | b'%'));
        at = wildcard.then_some(place + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (name, pattern) in [
            ("INBOX", "inbox"),
            ("INBOX", "inb%"),
            ("INBOX/x", "inbox/*"),
            ("a/b", "*"),
            ("a/b", "a/%"),
            ("a", "%"),
            ("a/b/c", "a*c"),
            ("x", "x"),
        ] {
            assert!(matches(name, pattern), "{name} {pattern}");
        }
        for (name, pattern) in [
            ("a/b", "%"),
            ("a", "a/%"),
            ("ab", "a"),
            ("INBOX/x", "inbox/X"),
            ("INBOXES", "inbox*"),
            ("", "x"),
            ("a/b/c", "a%c"),
        ] {
            assert!(!matches(name, pattern), "{name} {pattern}");
        }
        assert!(!matches(
            &"a".repeat(1000),
            &format!("{}b", "*a".repeat(400))
        ));
        assert_eq!(levels("a/b/c").collect::<Vec<_>>(), ["a", "a/b"]);
    }
}
