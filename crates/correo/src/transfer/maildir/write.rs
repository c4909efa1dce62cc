//! An account's mail as a Maildir.

use std::fmt::Write as _;
use std::fs::{self, File, FileTimes};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use mail_rpc::pb::mailbox::v1 as pb;

use super::{FLAGS, KEYWORDS, LETTERS, SUBSCRIPTIONS, UIDLIST};
use crate::failure::{Failure, file};
use crate::transfer::{Mail, Sink, lines, names};

/// Writes a Maildir.
pub(crate) struct Writer {
    root: PathBuf,
    folder: Option<Folder>,
    subscriptions: String,
    notes: Vec<String>,
}

/// The folder that is written.
struct Folder {
    path: PathBuf,
    name: String,
    uid_validity: u32,
    uid_next: u32,
    keywords: Vec<String>,
    /// Lines of the file of UIDs.
    uids: String,
    /// Keywords that have no letter.
    lost: Vec<String>,
}

impl Writer {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            folder: None,
            subscriptions: String::new(),
            notes: Vec::new(),
        }
    }

    fn close(&mut self) -> Result<(), Failure> {
        let Some(folder) = self.folder.take() else {
            return Ok(());
        };
        let (validity, next) = (folder.uid_validity, folder.uid_next);
        let list = format!("3 V{validity} N{next}\n{}", folder.uids);
        write(&folder.path.join(UIDLIST), list.as_bytes())?;
        if !folder.keywords.is_empty() {
            let mut list = String::new();
            for (number, name) in folder.keywords.iter().enumerate().take(LETTERS) {
                let _ = writeln!(list, "{number} {name}");
            }
            write(&folder.path.join(KEYWORDS), list.as_bytes())?;
        }
        if !folder.lost.is_empty() {
            self.notes.push(format!(
                "{}: a Maildir has 26 keywords; lost are {}",
                folder.name,
                folder.lost.join(", ")
            ));
        }
        Ok(())
    }
}

impl Sink for Writer {
    fn mailbox(&mut self, facts: &pb::MailboxFacts) -> Result<(), Failure> {
        self.close()?;
        if facts.subscribed {
            self.subscriptions.push_str(&names::to_maildir(&facts.name));
            self.subscriptions.push('\n');
        }
        if !facts.exists {
            return Ok(());
        }
        let path = if facts.name == "INBOX" {
            self.root.clone()
        } else {
            self.root
                .join(format!(".{}", names::to_maildir(&facts.name)))
        };
        for folder in ["cur", "new", "tmp"] {
            let path = path.join(folder);
            fs::create_dir_all(&path).map_err(file(&path))?;
        }
        if facts.name != "INBOX" {
            write(&path.join("maildirfolder"), b"")?;
        }
        self.folder = Some(Folder {
            path,
            name: facts.name.clone(),
            uid_validity: facts.uid_validity,
            uid_next: facts.uid_next,
            keywords: facts.keywords.clone(),
            uids: String::new(),
            lost: Vec::new(),
        });
        Ok(())
    }

    fn mail(&mut self, mail: &Mail) -> Result<(), Failure> {
        let Some(folder) = &mut self.folder else {
            return Ok(());
        };
        let content = lines::to_file(&mail.content);
        let (size, virtual_size) = (content.len(), mail.content.len());
        let (validity, uid) = (folder.uid_validity, mail.uid);
        let date = mail.date.max(0);
        let base = format!("{date}.V{validity}U{uid}.correo,S={size},W={virtual_size}");
        let letters = folder.letters(mail);
        let path = folder.path.join("cur").join(format!("{base}:2,{letters}"));
        write_dated(&path, &content, mail.date)?;
        // Mail that came while others were exported.
        folder.uid_next = folder.uid_next.max(uid.saturating_add(1));
        let _ = writeln!(folder.uids, "{uid} :{base}");
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<String>, Failure> {
        self.close()?;
        fs::create_dir_all(&self.root).map_err(file(&self.root))?;
        let path = self.root.join(SUBSCRIPTIONS);
        write(&path, self.subscriptions.as_bytes())?;
        Ok(std::mem::take(&mut self.notes))
    }
}

impl Folder {
    /// In the order of ASCII, as Maildir wants them.
    fn letters(&mut self, mail: &Mail) -> String {
        let system = FLAGS.iter().filter(|(_, bit)| mail.system & bit != 0);
        let mut letters: Vec<u8> = system.map(|(letter, _)| *letter).collect();
        for keyword in &mail.keywords {
            let known = self.keywords.iter().position(|known| known == keyword);
            let number = known.unwrap_or_else(|| {
                self.keywords.push(keyword.clone());
                self.keywords.len() - 1
            });
            match u8::try_from(number) {
                Ok(number) if usize::from(number) < LETTERS => letters.push(b'a' + number),
                _ if !self.lost.contains(keyword) => self.lost.push(keyword.clone()),
                _ => {}
            }
        }
        letters.sort_unstable();
        letters.into_iter().map(char::from).collect()
    }
}

fn write(path: &Path, content: &[u8]) -> Result<(), Failure> {
    fs::write(path, content).map_err(file(path))
}

fn write_dated(path: &Path, content: &[u8], unix: i64) -> Result<(), Failure> {
    let seconds = Duration::from_secs(unix.unsigned_abs());
    let time = if unix < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(seconds)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(seconds)
    };
    let time = time.unwrap_or(SystemTime::UNIX_EPOCH);
    let mut out = File::create(path).map_err(file(path))?;
    out.write_all(content).map_err(file(path))?;
    let times = FileTimes::new().set_modified(time).set_accessed(time);
    out.set_times(times).map_err(file(path))
}
