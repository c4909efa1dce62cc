//! An account's mail written into files.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use indicatif::ProgressBar;
use mail_config::Config;
use mail_rpc::pb::mailbox::v1 as pb;
use pb::export_item::Item;
use serde_json::json;

use super::store::{account, call, open};
use crate::cli::{Files, Format};
use crate::failure::{Failure, file};
use crate::output::{Output, progress};
use crate::suite::call_failed;
use crate::transfer::{Mail, Sink, maildir, mbox};

pub(crate) async fn run(files: &Files, config: &Config, out: Output) -> Result<ExitCode, Failure> {
    let account = account(config, &files.account).await?;
    let mut store = open(config).await?;
    refuse_used(&files.path)?;
    let mut sink: Box<dyn Sink> = match files.format {
        Format::Maildir => Box::new(maildir::Writer::new(&files.path)),
        Format::Mbox => Box::new(mbox::Writer::new(&files.path)),
    };
    let request = pb::ExportRequest {
        account_id: account.id.get(),
    };
    let mut items = call(store.export(request).await)?;
    let mut export = Export {
        sink: &mut *sink,
        bar: progress(out, 0),
        out,
        mailbox: String::new(),
        open: None,
        messages: 0,
        mailboxes: 0,
        damaged: 0,
    };
    loop {
        let item = items.message().await;
        let item = item.map_err(|status| call_failed("localdeliver", &status))?;
        match item.and_then(|item| item.item) {
            Some(Item::Done(done)) => {
                export.bar.finish_and_clear();
                if let Some(failure) = done.failure {
                    return Err(Failure::Refused(format!(
                        "the export is not complete: {}; `correo store check {}` says more",
                        failure.detail, files.account
                    )));
                }
                break;
            }
            Some(item) => export.take(item)?,
            None => {
                return Err(Failure::Unreachable(
                    "localdeliver ended before the export did; see its log".to_owned(),
                ));
            }
        }
    }
    export.finish(&files.path)
}

/// A folder with something in it is somebody's.
fn refuse_used(path: &Path) -> Result<(), Failure> {
    match fs::read_dir(path) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(Failure::Usage(format!(
                "{} is not empty; name a new folder",
                path.display()
            ))),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(file(path)(error)),
    }
}

struct Export<'a> {
    sink: &'a mut dyn Sink,
    bar: ProgressBar,
    out: Output,
    mailbox: String,
    open: Option<Mail>,
    messages: u64,
    mailboxes: u64,
    damaged: u64,
}

impl Export<'_> {
    fn take(&mut self, item: Item) -> Result<(), Failure> {
        match item {
            Item::Total(total) => self.bar.set_length(total.bytes),
            Item::Mailbox(facts) => {
                self.mailboxes += u64::from(facts.exists);
                self.mailbox.clone_from(&facts.name);
                self.sink.mailbox(&facts)?;
            }
            Item::Message(facts) => {
                let flags = facts.flags.unwrap_or_default();
                self.open = Some(Mail {
                    uid: facts.uid,
                    system: flags.system,
                    keywords: flags.keywords,
                    date: facts.internal_date,
                    offset: facts.internal_date_offset,
                    content: Vec::new(),
                    key: Vec::new(),
                    name: String::new(),
                });
            }
            Item::Data(data) => {
                self.bar.inc(data.len() as u64);
                if let Some(mail) = &mut self.open {
                    mail.content.extend_from_slice(&data);
                }
            }
            Item::End(end) => self.end(&end)?,
            Item::Done(_) => {}
        }
        Ok(())
    }

    fn end(&mut self, end: &pb::MessageEnd) -> Result<(), Failure> {
        let Some(mail) = self.open.take() else {
            return Ok(());
        };
        if end.damaged.is_empty() {
            self.messages += 1;
            return self.sink.mail(&mail);
        }
        self.damaged += 1;
        let (mailbox, uid, why) = (&self.mailbox, mail.uid, &end.damaged);
        let out = self.out;
        self.bar.suspend(|| {
            out.both(
                format!("damaged: UID {uid} of {mailbox}: {why}"),
                &json!({ "damaged": uid, "mailbox": mailbox, "text": why }),
            )
        })
    }

    fn finish(self, path: &Path) -> Result<ExitCode, Failure> {
        for note in self.sink.finish()? {
            self.out
                .both(format!("note: {note}"), &json!({ "note": note }))?;
        }
        let (messages, mailboxes, damaged) = (self.messages, self.mailboxes, self.damaged);
        let path = path.display().to_string();
        let mut line = format!("{messages} messages of {mailboxes} mailboxes are in {path}");
        if damaged > 0 {
            let _ = write!(line, "; {damaged} damaged ones are not");
        }
        self.out.both(
            line,
            &json!({
                "exported": messages, "mailboxes": mailboxes, "damaged": damaged, "path": path,
            }),
        )?;
        Ok(if damaged == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}
