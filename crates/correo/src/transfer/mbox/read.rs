//! Mail of mbox files for an account.

mod told;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use mail_rpc::pb::mailbox::v1 as pb;

use super::{CHILDREN, SUBSCRIPTIONS};
use crate::failure::{Failure, file};
use crate::transfer::{Mail, Target, date, key, lines, names, subscribe};
use told::Told;

/// Reads a file, or all files of a folder.
pub(crate) fn read(path: &Path, target: &mut dyn Target) -> Result<(), Failure> {
    let mut files = Vec::new();
    let mut subscribed = Vec::new();
    if path.is_dir() {
        find(path, "", &mut files, target)?;
        let text = fs::read_to_string(path.join(SUBSCRIPTIONS)).unwrap_or_default();
        let names = text.lines().filter_map(|line| {
            let levels: Option<Vec<String>> = line.split('/').map(names::level_from_file).collect();
            levels.map(|levels| levels.join("/"))
        });
        subscribed.extend(names.filter(|name| !name.is_empty()));
    } else {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.and_then(names::level_from_file);
        let name = name.filter(|name| !["mbox", "inbox"].contains(&&*name.to_ascii_lowercase()));
        files.push((name.unwrap_or_else(|| "INBOX".to_owned()), path.to_owned()));
    }
    if files.is_empty() {
        let path = path.display();
        return Err(Failure::Usage(format!("there is no mbox in {path}")));
    }
    files.sort();
    for (name, path) in files {
        let at = subscribed.iter().position(|one| *one == name);
        if let Some(at) = at {
            subscribed.swap_remove(at);
        }
        Mbox::read(&name, &path, at.is_some(), target)?;
    }
    subscribe(subscribed, target)
}

/// Files that begin as an mbox does, and empty ones.
fn find(
    folder: &Path,
    above: &str,
    files: &mut Vec<(String, PathBuf)>,
    target: &mut dyn Target,
) -> Result<(), Failure> {
    for entry in fs::read_dir(folder).map_err(file(folder))? {
        let entry = entry.map_err(file(folder))?;
        let (path, raw) = (entry.path(), entry.file_name());
        let text = raw.to_string_lossy();
        if text.starts_with('.') {
            continue;
        }
        let bare = text.strip_suffix(CHILDREN).unwrap_or(&text);
        let Some(level) = names::level_from_file(bare) else {
            target.skipped(format!("{}: the name is not UTF-7", path.display()));
            continue;
        };
        let name = format!("{above}{level}");
        if path.is_dir() {
            find(&path, &format!("{name}/"), files, target)?;
        } else if is_mbox(&path)? {
            files.push((name, path));
        } else {
            target.skipped(format!("{}: this is no mbox", path.display()));
        }
    }
    Ok(())
}

fn is_mbox(path: &Path) -> Result<bool, Failure> {
    let mut start = Vec::new();
    let opened = File::open(path).map_err(file(path))?;
    opened.take(5).read_to_end(&mut start).map_err(file(path))?;
    Ok(start.is_empty() || start == b"From ")
}

struct Mbox<'a> {
    path: &'a Path,
    facts: pb::MailboxFacts,
    target: &'a mut dyn Target,
    has_begun: bool,
    last_uid: u32,
    /// How often the same octets without a UID were there.
    same: HashMap<Vec<u8>, u32>,
    count: u64,
}

impl Mbox<'_> {
    fn read(
        name: &str,
        path: &Path,
        subscribed: bool,
        target: &mut dyn Target,
    ) -> Result<(), Failure> {
        let facts = pb::MailboxFacts {
            name: name.to_owned(),
            subscribed,
            exists: true,
            ..pb::MailboxFacts::default()
        };
        let mut mbox = Mbox {
            path,
            facts,
            target,
            has_begun: false,
            last_uid: 0,
            same: HashMap::new(),
            count: 0,
        };
        mbox.messages()?;
        mbox.begin()?;
        // UIDNEXT comes behind the messages: UIDs below it are not given.
        let uid_next = mbox.last_uid.saturating_add(1);
        mbox.target.mailbox(pb::MailboxFacts {
            uid_next,
            ..mbox.facts
        })
    }

    /// What the first message says of the mailbox is known by now.
    fn begin(&mut self) -> Result<(), Failure> {
        if !self.has_begun {
            self.has_begun = true;
            self.target.mailbox(self.facts.clone())?;
        }
        Ok(())
    }

    fn messages(&mut self) -> Result<(), Failure> {
        let opened = File::open(self.path).map_err(file(self.path))?;
        let mut input = BufReader::new(opened);
        let mut line = Vec::new();
        let mut message = Vec::new();
        let mut from: Option<Vec<u8>> = None;
        let mut is_behind_empty = true;
        loop {
            line.clear();
            let read = input
                .read_until(b'\n', &mut line)
                .map_err(file(self.path))?;
            if read == 0 {
                break;
            }
            self.target.progress(read as u64);
            let starts = is_behind_empty && is_separator(&line, from.is_none());
            is_behind_empty = matches!(&line[..], b"\n" | b"\r\n");
            if starts {
                let before = from.replace(line.clone());
                self.message(before, std::mem::take(&mut message))?;
            } else if from.is_some() {
                message.extend(&line);
            }
        }
        self.message(from, message)
    }

    fn message(&mut self, from: Option<Vec<u8>>, mut octets: Vec<u8>) -> Result<(), Failure> {
        let Some(from) = from else { return Ok(()) };
        // The empty line in front of the next one.
        for end in [b"\n\n".as_slice(), b"\n\r\n".as_slice()] {
            if octets.ends_with(end) {
                octets.truncate(octets.len() + 1 - end.len());
                break;
            }
        }
        self.count += 1;
        let told = Told::split(&octets);
        if let Some((validity, last)) = told.base {
            (self.facts.uid_validity, self.last_uid) = (validity, last);
        }
        // What c-client and Dovecot keep in an empty mailbox.
        if told.is_internal {
            return Ok(());
        }
        self.begin()?;
        let line = String::from_utf8_lossy(&from).into_owned();
        let (date, offset) = date::from_text(&line).unwrap_or_default();
        self.last_uid = self.last_uid.max(told.uid);
        let key = self.key(&told, &from, &octets);
        let (path, count) = (self.path.display(), self.count);
        let name = format!("{path}: message {count}");
        self.target.mail(Mail {
            uid: told.uid,
            system: told.system,
            keywords: told.keywords,
            date,
            offset,
            content: lines::from_file(&told.content),
            key,
            name,
        })
    }

    /// The UID under its UIDVALIDITY, or else the octets, and how often they were there before.
    fn key(&mut self, told: &Told, from: &[u8], octets: &[u8]) -> Vec<u8> {
        let mailbox = self.facts.name.as_bytes();
        let validity = self.facts.uid_validity;
        if validity > 0 && told.uid > 0 {
            let (validity, uid) = (validity.to_le_bytes(), told.uid.to_le_bytes());
            return key(&[b"mbox", mailbox, &validity, &uid]);
        }
        let octets = key(&[from, octets]);
        let count = self.same.entry(octets.clone()).or_default();
        *count += 1;
        key(&[b"mbox", mailbox, &octets, &count.to_le_bytes()])
    }
}

/// The first line of the file, or one with a date: some programs do not quote.
fn is_separator(line: &[u8], is_first: bool) -> bool {
    line.starts_with(b"From ")
        && (is_first || date::from_text(&String::from_utf8_lossy(line)).is_some())
}
