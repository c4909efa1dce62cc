//! A Maildir's mail for an account.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mail_rpc::pb::mailbox::v1 as pb;

use super::{FLAGS, KEYWORDS, LETTERS, SUBSCRIPTIONS, UIDLIST};
use crate::failure::{Failure, file};
use crate::transfer::{Mail, Target, key, lines, names, subscribe};

/// A message's file.
struct Entry {
    /// 0 where the list of UIDs does not have it.
    uid: u32,
    /// Its name without flags.
    base: String,
    letters: String,
    path: PathBuf,
    modified: i64,
}

/// What the list of UIDs says.
#[derive(Default)]
struct Uids {
    validity: u32,
    next: u32,
    by_base: HashMap<String, u32>,
}

/// Reads all folders of a Maildir.
pub(crate) fn read(root: &Path, target: &mut dyn Target) -> Result<(), Failure> {
    let mut subscribed = subscriptions(root);
    for (name, path) in folders(root, target)? {
        let at = subscribed.iter().position(|one| *one == name);
        if let Some(at) = at {
            subscribed.swap_remove(at);
        }
        folder(&name, &path, at.is_some(), target)?;
    }
    subscribe(subscribed, target)
}

fn folders(root: &Path, target: &mut dyn Target) -> Result<Vec<(String, PathBuf)>, Failure> {
    let mut found = Vec::new();
    if root.join("cur").is_dir() {
        found.push(("INBOX".to_owned(), root.to_owned()));
    }
    for entry in fs::read_dir(root).map_err(file(root))? {
        let entry = entry.map_err(file(root))?;
        let path = entry.path();
        let raw = entry.file_name();
        let Some(text) = raw.to_str().and_then(|name| name.strip_prefix('.')) else {
            continue;
        };
        if !path.join("cur").is_dir() {
            continue;
        }
        match names::from_maildir(text) {
            Some(name) => found.push((name, path)),
            None => target.skipped(format!("{}: the name is not UTF-7", path.display())),
        }
    }
    found.sort();
    if found.is_empty() {
        let root = root.display();
        return Err(Failure::Usage(format!(
            "{root} is no Maildir: there is no folder cur in it"
        )));
    }
    Ok(found)
}

/// Dovecot has two forms: names alone, or behind a line with the version and with tabs between
/// levels.
fn subscriptions(root: &Path) -> Vec<String> {
    let text = fs::read_to_string(root.join(SUBSCRIPTIONS)).unwrap_or_default();
    let is_new = text.starts_with("V\t2");
    let names = text.lines().skip(if is_new { 2 } else { 0 });
    names
        .filter(|line| !line.is_empty())
        .filter_map(|line| {
            if is_new {
                let levels: Option<Vec<String>> =
                    line.split('\t').map(names::level_from_file).collect();
                levels.map(|levels| levels.join("/"))
            } else {
                names::from_maildir(line)
            }
        })
        .collect()
}

fn folder(
    name: &str,
    path: &Path,
    subscribed: bool,
    target: &mut dyn Target,
) -> Result<(), Failure> {
    let uids = fs::read_to_string(path.join(UIDLIST)).ok();
    let uids = uids.as_deref().and_then(parse_uids).unwrap_or_default();
    let keywords = keywords(path);
    let facts = pb::MailboxFacts {
        name: name.to_owned(),
        uid_validity: uids.validity,
        subscribed,
        exists: true,
        ..pb::MailboxFacts::default()
    };
    target.mailbox(facts.clone())?;
    let mut entries = entries(path, &uids)?;
    entries.sort_by(|a, b| {
        let order = |entry: &Entry| (entry.uid == 0, entry.uid, entry.modified);
        order(a).cmp(&order(b)).then_with(|| a.base.cmp(&b.base))
    });
    for entry in entries {
        match fs::read(&entry.path) {
            Ok(octets) => {
                target.progress(octets.len() as u64);
                target.mail(mail(name, &entry, &octets, &keywords))?;
            }
            Err(error) => target.skipped(format!("{}: {error}", entry.path.display())),
        }
    }
    // UIDNEXT comes behind the messages: UIDs below it are not given.
    target.mailbox(pb::MailboxFacts {
        uid_next: uids.next,
        ..facts
    })
}

fn entries(path: &Path, uids: &Uids) -> Result<Vec<Entry>, Failure> {
    let mut entries = Vec::new();
    for folder in ["cur", "new"] {
        let folder = path.join(folder);
        let Ok(files) = fs::read_dir(&folder) else {
            continue;
        };
        for one in files {
            let one = one.map_err(file(&folder))?;
            let raw = one.file_name();
            let name = raw.to_string_lossy();
            if name.starts_with('.') || one.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let (base, letters) = name.split_once(":2,").unwrap_or((&name, ""));
            let modified = one.metadata().and_then(|facts| facts.modified());
            entries.push(Entry {
                uid: uids.by_base.get(base).copied().unwrap_or(0),
                base: base.to_owned(),
                letters: letters.to_owned(),
                path: one.path(),
                modified: modified.map_or(0, unix),
            });
        }
    }
    Ok(entries)
}

fn mail(mailbox: &str, entry: &Entry, octets: &[u8], keywords: &[Option<String>]) -> Mail {
    let has = |letter: u8| entry.letters.bytes().any(|one| one == letter);
    let system = FLAGS.iter().filter(|(letter, _)| has(*letter));
    let named = entry.letters.bytes().filter_map(|letter| {
        let at = letter.checked_sub(b'a')?;
        keywords.get(usize::from(at))?.clone()
    });
    Mail {
        uid: entry.uid,
        system: system.fold(0, |all, (_, bit)| all | bit),
        keywords: named.collect(),
        date: entry.modified,
        offset: 0,
        content: lines::from_file(octets),
        key: key(&[b"maildir", mailbox.as_bytes(), entry.base.as_bytes()]),
        name: entry.path.display().to_string(),
    }
}

fn keywords(path: &Path) -> Vec<Option<String>> {
    let text = fs::read_to_string(path.join(KEYWORDS)).unwrap_or_default();
    let mut keywords = vec![None; LETTERS];
    for line in text.lines() {
        let Some((number, name)) = line.split_once(' ') else {
            continue;
        };
        let at = number.parse::<usize>().ok();
        if let Some(place) = at.and_then(|at| keywords.get_mut(at)) {
            *place = Some(name.to_owned());
        }
    }
    keywords
}

/// Dovecot's list: version 3 has `V` and `N` in its first line, version 1 the two numbers.
fn parse_uids(text: &str) -> Option<Uids> {
    let mut lines = text.lines();
    let mut words = lines.next()?.split_ascii_whitespace();
    let version: u32 = words.next()?.parse().ok()?;
    let mut uids = Uids::default();
    if version >= 3 {
        for word in words {
            if let Some(number) = word.strip_prefix('V') {
                uids.validity = number.parse().ok()?;
            } else if let Some(number) = word.strip_prefix('N') {
                uids.next = number.parse().ok()?;
            }
        }
    } else {
        uids.validity = words.next()?.parse().ok()?;
        uids.next = words.next()?.parse().ok()?;
    }
    for line in lines {
        // A line that is not whole was being written.
        let Some((uid, rest)) = line.split_once(' ') else {
            continue;
        };
        let name = if version >= 3 {
            rest.split_once(':').map_or(rest, |(_, name)| name)
        } else {
            rest
        };
        let base = name.split_once(":2,").map_or(name, |(base, _)| base);
        if let Ok(uid) = uid.parse() {
            uids.by_base.insert(base.to_owned(), uid);
        }
    }
    Some(uids)
}

fn unix(time: SystemTime) -> i64 {
    let seconds = |span: std::time::Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => seconds(since),
        Err(before) => -seconds(before.duration()),
    }
}
