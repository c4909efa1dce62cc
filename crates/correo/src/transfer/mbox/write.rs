//! An account's mail in mbox files.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use mail_rpc::pb::mailbox::v1 as pb;

use super::{CHILDREN, KEPT, OURS, STATUS, SUBSCRIPTIONS, field, is_from};
use crate::failure::{Failure, file};
use crate::transfer::{Mail, Sink, date, flag, lines, names};

/// Writes mbox files.
pub(crate) struct Writer {
    root: PathBuf,
    open: Option<Open>,
    subscriptions: String,
}

struct Open {
    path: PathBuf,
    out: BufWriter<File>,
    facts: pb::MailboxFacts,
    is_first: bool,
}

impl Writer {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            open: None,
            subscriptions: String::new(),
        }
    }

    fn close(&mut self) -> Result<(), Failure> {
        if let Some(mut open) = self.open.take() {
            open.out.flush().map_err(file(&open.path))?;
        }
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        let mut path = self.root.clone();
        let mut levels = name.split('/').map(names::level_to_file).peekable();
        while let Some(level) = levels.next() {
            let is_last = levels.peek().is_none();
            path.push(if is_last {
                level
            } else {
                format!("{level}{CHILDREN}")
            });
        }
        path
    }
}

impl Sink for Writer {
    fn mailbox(&mut self, facts: &pb::MailboxFacts) -> Result<(), Failure> {
        self.close()?;
        if facts.subscribed {
            let levels = facts.name.split('/').map(names::level_to_file);
            let name = levels.collect::<Vec<_>>().join("/");
            self.subscriptions.push_str(&name);
            self.subscriptions.push('\n');
        }
        if !facts.exists {
            return Ok(());
        }
        let path = self.path(&facts.name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(file(folder))?;
        }
        let out = BufWriter::new(File::create(&path).map_err(file(&path))?);
        self.open = Some(Open {
            path,
            out,
            facts: facts.clone(),
            is_first: true,
        });
        Ok(())
    }

    fn mail(&mut self, mail: &Mail) -> Result<(), Failure> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let octets = render(mail, &open.facts, open.is_first);
        open.is_first = false;
        open.out.write_all(&octets).map_err(file(&open.path))
    }

    fn finish(&mut self) -> Result<Vec<String>, Failure> {
        self.close()?;
        fs::create_dir_all(&self.root).map_err(file(&self.root))?;
        let path = self.root.join(SUBSCRIPTIONS);
        fs::write(&path, &self.subscriptions).map_err(file(&path))?;
        Ok(Vec::new())
    }
}

/// A message as it stands in the file, the empty line behind it included.
pub(super) fn render(mail: &Mail, facts: &pb::MailboxFacts, is_first: bool) -> Vec<u8> {
    let date = date::to_text(mail.date, mail.offset);
    let mut out = format!("From MAILER-DAEMON {date}\n").into_bytes();
    if is_first {
        let last = facts.uid_next.saturating_sub(1);
        let mut base = format!("X-IMAPbase: {:010} {last:010}", facts.uid_validity);
        for keyword in &facts.keywords {
            base.push(' ');
            base.push_str(keyword);
        }
        out.extend(base.as_bytes());
        out.push(b'\n');
    }
    out.extend(format!("X-UID: {}\n", mail.uid).as_bytes());
    let seen = if mail.system & flag::SEEN != 0 {
        "R"
    } else {
        ""
    };
    out.extend(format!("Status: {seen}O\n").as_bytes());
    let letters: String = STATUS
        .iter()
        .filter(|(letter, bit)| *letter != b'R' && mail.system & bit != 0)
        .map(|(letter, _)| char::from(*letter))
        .collect();
    if !letters.is_empty() {
        out.extend(format!("X-Status: {letters}\n").as_bytes());
    }
    if !mail.keywords.is_empty() {
        out.extend(format!("X-Keywords: {}\n", mail.keywords.join(" ")).as_bytes());
    }
    push_content(&mut out, &lines::to_file(&mail.content));
    out
}

fn push_content(out: &mut Vec<u8>, content: &[u8]) {
    let mut in_header = true;
    for line in lines::split(content) {
        in_header &= !matches!(line, b"\n" | b"\r\n");
        if is_from(line) {
            out.push(b'>');
        } else if in_header && field(line).is_some_and(|name| is_ours(&name)) {
            out.extend(KEPT.as_bytes());
        }
        out.extend(line);
    }
    if content.last().is_some_and(|octet| *octet != b'\n') {
        out.push(b'\n');
    }
    out.push(b'\n');
}

/// Or one that looks as if it was kept.
fn is_ours(name: &str) -> bool {
    OURS.contains(&name) || name.starts_with(&KEPT.to_ascii_lowercase())
}
