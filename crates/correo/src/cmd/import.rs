//! Mail of files taken into an account.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indicatif::ProgressBar;
use mail_config::Config;
use mail_rpc::CHUNK_SIZE;
use mail_rpc::pb::mailbox::v1 as pb;
use pb::import_request::Item;
use pb::import_response::Result as Answer;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::store::{Account, account, call, open};
use crate::cli::{Files, Format};
use crate::failure::Failure;
use crate::output::{Output, progress};
use crate::suite::call_failed;
use crate::transfer::{Mail, Target, maildir, mbox};

/// Frames that may wait for localdeliver.
const WAITING: usize = 64;

/// What was sent and is not answered.
#[derive(Default)]
struct Pending {
    messages: HashMap<u64, Sent>,
    /// In their order.
    mailboxes: VecDeque<String>,
    skipped: Vec<String>,
}

/// A message.
#[derive(Default)]
struct Sent {
    /// For people.
    name: String,
    mailbox: String,
    uid: u32,
}

type Shared = Arc<Mutex<Pending>>;

fn lock(shared: &Shared) -> MutexGuard<'_, Pending> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) async fn run(files: &Files, config: &Config, out: Output) -> Result<ExitCode, Failure> {
    let account = account(config, &files.account).await?;
    let mut store = open(config).await?;
    let bar = progress(out, octets(&files.path));
    let (sender, receiver) = mpsc::channel(WAITING);
    let shared = Shared::default();
    let mut reader = Reader {
        account,
        sender,
        shared: shared.clone(),
        bar: bar.clone(),
        token: 0,
        mailbox: String::new(),
    };
    let (format, path) = (files.format, files.path.clone());
    let read = tokio::task::spawn_blocking(move || match format {
        Format::Maildir => maildir::read(&path, &mut reader),
        Format::Mbox => mbox::read(&path, &mut reader),
    });
    let mut answers = call(store.import(ReceiverStream::new(receiver)).await)?;
    let mut import = Import {
        shared,
        bar,
        out,
        imported: 0,
        before: 0,
        failed: 0,
        renumbered: BTreeMap::new(),
    };
    let broken = loop {
        match answers.message().await {
            Ok(Some(answer)) => import.take(answer)?,
            Ok(None) => break None,
            Err(status) => break Some(call_failed("localdeliver", &status)),
        }
    };
    let read = read
        .await
        .map_err(|panic| Failure::Refused(panic.to_string()))?;
    if let Some(failure) = broken {
        return Err(failure);
    }
    read?;
    import.finish(&files.account)
}

/// Octets of all files below, for the bar alone.
fn octets(path: &Path) -> u64 {
    let mut folders: Vec<PathBuf> = vec![path.to_owned()];
    let mut sum = path
        .metadata()
        .map_or(0, |facts| if facts.is_file() { facts.len() } else { 0 });
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(facts) if facts.is_dir() => folders.push(entry.path()),
                Ok(facts) => sum += facts.len(),
                Err(_) => {}
            }
        }
    }
    sum
}

/// Sends what is read.
struct Reader {
    account: Account,
    sender: mpsc::Sender<pb::ImportRequest>,
    shared: Shared,
    bar: ProgressBar,
    token: u64,
    mailbox: String,
}

impl Reader {
    fn send(&self, item: Item) -> Result<(), Failure> {
        let request = pb::ImportRequest { item: Some(item) };
        self.sender
            .blocking_send(request)
            .map_err(|_| Failure::Unreachable("localdeliver has ended the import".to_owned()))
    }
}

impl Target for Reader {
    fn mailbox(&mut self, facts: pb::MailboxFacts) -> Result<(), Failure> {
        self.mailbox.clone_from(&facts.name);
        lock(&self.shared).mailboxes.push_back(facts.name.clone());
        self.send(Item::Mailbox(pb::ImportMailbox {
            account_id: self.account.id.get(),
            facts: Some(facts),
            quota_bytes: self.account.quota,
        }))
    }

    fn mail(&mut self, mail: Mail) -> Result<(), Failure> {
        self.token += 1;
        let token = self.token;
        let sent = Sent {
            name: mail.name,
            mailbox: self.mailbox.clone(),
            uid: mail.uid,
        };
        lock(&self.shared).messages.insert(token, sent);
        self.send(Item::Message(pb::ImportMessage {
            token,
            facts: Some(pb::MessageFacts {
                uid: mail.uid,
                flags: Some(pb::FlagNames {
                    system: mail.system,
                    keywords: mail.keywords,
                }),
                internal_date: mail.date,
                internal_date_offset: mail.offset,
                size: mail.content.len() as u64,
                modseq: 0,
            }),
            key: mail.key.into(),
        }))?;
        for piece in mail.content.chunks(CHUNK_SIZE) {
            self.send(Item::Data(piece.to_vec().into()))?;
        }
        self.send(Item::End(pb::MessageEnd::default()))
    }

    fn skipped(&mut self, what: String) {
        lock(&self.shared).skipped.push(what);
    }

    fn progress(&mut self, octets: u64) {
        self.bar.inc(octets);
    }
}

/// Counts what is answered.
struct Import {
    shared: Shared,
    bar: ProgressBar,
    out: Output,
    imported: u64,
    before: u64,
    failed: u64,
    /// Mailboxes whose UIDs could not be kept, with the number of messages.
    renumbered: BTreeMap<String, u64>,
}

impl Import {
    fn take(&mut self, answer: pb::ImportResponse) -> Result<(), Failure> {
        match answer.result {
            Some(Answer::Adopted(adopted)) => {
                let name = lock(&self.shared).mailboxes.pop_front();
                let name = name.unwrap_or_default();
                if let Some(failure) = adopted.failure {
                    self.fail(&format!("mailbox {name}"), &failure.detail)?;
                }
            }
            Some(Answer::Imported(one)) => {
                let sent = lock(&self.shared).messages.remove(&one.token);
                let sent = sent.unwrap_or_default();
                if let Some(failure) = one.failure {
                    self.fail(&sent.name, &failure.detail)?;
                } else if one.before {
                    self.before += 1;
                } else {
                    self.imported += 1;
                    if sent.uid > 0 && one.uid != sent.uid {
                        *self.renumbered.entry(sent.mailbox).or_default() += 1;
                    }
                }
            }
            None => {}
        }
        Ok(())
    }

    fn fail(&mut self, what: &str, why: &str) -> Result<(), Failure> {
        self.failed += 1;
        let out = self.out;
        self.bar.suspend(|| {
            out.both(
                format!("not imported: {what}: {why}"),
                &json!({ "not_imported": what, "text": why }),
            )
        })
    }

    fn finish(mut self, account: &str) -> Result<ExitCode, Failure> {
        self.bar.finish_and_clear();
        let left = std::mem::take(&mut *lock(&self.shared));
        for what in left.skipped {
            self.fail(&what, "it is left out")?;
        }
        for sent in left.messages.into_values() {
            self.fail(&sent.name, "localdeliver did not answer")?;
        }
        for (mailbox, count) in &self.renumbered {
            self.out.both(
                format!("note: {count} messages of {mailbox} have new UIDs: it had mail before"),
                &json!({ "new_uids": count, "mailbox": mailbox }),
            )?;
        }
        let (imported, before, failed) = (self.imported, self.before, self.failed);
        let mut line = format!("{imported} messages are imported into {account}");
        if before > 0 {
            let _ = write!(line, ", {before} were before");
        }
        if failed > 0 {
            let _ = write!(line, ", {failed} could not be");
        }
        self.out.both(
            line,
            &json!({ "imported": imported, "before": before, "failed": failed }),
        )?;
        Ok(if failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}
