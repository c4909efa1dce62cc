//! The mail on disk: checked, mended, its index made anew.

use std::fmt::Write as _;
use std::process::ExitCode;

use indicatif::ProgressBar;
use mail_config::Config;
use mail_rpc::pb::directory::v1 as directory;
use mail_rpc::pb::mailbox::v1 as pb;
use mail_types::AccountId;
use pb::finding::Kind;
use pb::mailbox_admin_service_client::MailboxAdminServiceClient;
use pb::maintain_event::Event;
use pb::maintain_request::Work;
use serde_json::json;
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::directory::{connect, for_each};
use crate::cli::StoreVerb;
use crate::failure::Failure;
use crate::output::{Output, progress};
use crate::suite::{call_failed, channel};

/// The daemon.
const NAME: &str = "localdeliver";

/// Looks after the mail store.
pub(crate) type Store = MailboxAdminServiceClient<Channel>;

/// An account of the directory, or a folder of the mail store.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) id: AccountId,
    /// For people.
    pub(crate) name: String,
    pub(crate) quota: u64,
}

pub(crate) async fn open(config: &Config) -> Result<Store, Failure> {
    let channel = channel(config, NAME, &config.rpc.mailbox_admin).await?;
    Ok(MailboxAdminServiceClient::new(channel))
}

/// Names the daemon in an error.
pub(crate) fn call<T>(result: Result<Response<T>, Status>) -> Result<T, Failure> {
    result
        .map(Response::into_inner)
        .map_err(|status| call_failed(NAME, &status))
}

/// The account that a word means: an address, or an id, which an account that was removed from the
/// directory still has.
pub(crate) async fn account(config: &Config, word: &str) -> Result<Account, Failure> {
    if !word.contains('@') {
        let id = word.parse().map_err(|_| {
            Failure::Usage(format!("{word} is neither an address nor an account's id"))
        })?;
        return Ok(Account {
            id,
            name: word.to_owned(),
            quota: 0,
        });
    }
    let all = accounts(config).await?;
    all.into_iter()
        .find(|account| account.name.eq_ignore_ascii_case(word))
        .ok_or_else(|| Failure::Refused(format!("there is no account {word}")))
}

async fn accounts(config: &Config) -> Result<Vec<Account>, Failure> {
    let mut admin = connect(config).await?;
    let request = directory::ListAccountsRequest::default();
    let mut all = Vec::new();
    for_each(admin.list_accounts(request).await, |row| {
        all.push(Account {
            id: row.account_id.into(),
            name: row.address,
            quota: row.quota_bytes,
        });
        Ok(())
    })
    .await?;
    Ok(all)
}

pub(crate) async fn run(
    verb: StoreVerb,
    config: &Config,
    out: Output,
) -> Result<ExitCode, Failure> {
    let mut request = pb::MaintainRequest::default();
    let one = match verb {
        StoreVerb::Check { account, .. } => {
            request.set_work(Work::Check);
            account
        }
        StoreVerb::Repair {
            account,
            drop_damaged,
        } => {
            request.set_work(Work::Repair);
            request.drop_damaged = drop_damaged;
            Some(account)
        }
        StoreVerb::Rebuild {
            account,
            ignore_index,
        } => {
            request.set_work(Work::Rebuild);
            request.ignore_index = ignore_index;
            Some(account)
        }
    };
    let mut store = open(config).await?;
    let accounts = match one {
        Some(word) => vec![account(config, &word).await?],
        None => all(config, &mut store, out).await?,
    };
    let mut found = 0;
    for account in accounts {
        request.account_id = account.id.get();
        found += maintain(&mut store, request, &account, out).await?;
    }
    Ok(if found == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The directory's accounts that have mail, and folders that are nobody's.
async fn all(config: &Config, store: &mut Store, out: Output) -> Result<Vec<Account>, Failure> {
    let stored = call(store.list_stores(pb::ListStoresRequest {}).await)?;
    if let Some(failure) = stored.failure {
        return Err(Failure::Refused(failure.detail));
    }
    let known = accounts(config).await?;
    let mut all = Vec::new();
    for id in stored.account_ids.into_iter().map(AccountId::from) {
        let found = known.iter().find(|account| account.id == id).cloned();
        if found.is_none() {
            out.say(format!("{id}: a folder, but no account of the directory"))?;
        }
        all.push(found.unwrap_or_else(|| Account {
            id,
            name: id.to_string(),
            quota: 0,
        }));
    }
    if all.is_empty() {
        out.say("no account has mail yet")?;
    }
    Ok(all)
}

/// Answers how much is wrong or lost.
async fn maintain(
    store: &mut Store,
    request: pb::MaintainRequest,
    account: &Account,
    out: Output,
) -> Result<u64, Failure> {
    let mut events = call(store.maintain(request).await)?;
    let bar = progress(out, 0);
    let mut counts = Counts::default();
    loop {
        let event = events.message().await;
        let event = event.map_err(|status| call_failed(NAME, &status))?;
        let Some(event) = event.and_then(|event| event.event) else {
            bar.finish_and_clear();
            return Err(Failure::Unreachable(format!(
                "{NAME} ended before it was done; see its log"
            )));
        };
        match event {
            Event::Progress(progress) => {
                bar.set_length(progress.all);
                bar.set_position(progress.done);
            }
            Event::Finding(finding) => counts.tell(&finding, account, &bar, out)?,
            Event::Done(done) => {
                bar.finish_and_clear();
                if let Some(failure) = done.failure {
                    let name = &account.name;
                    return Err(Failure::Refused(format!("{name}: {}", failure.detail)));
                }
                counts.summary(&done, account, out)?;
                return Ok(counts.wrong + counts.lost);
            }
        }
    }
}

#[derive(Debug, Default)]
struct Counts {
    wrong: u64,
    mended: u64,
    lost: u64,
}

impl Counts {
    fn tell(
        &mut self,
        finding: &pb::Finding,
        account: &Account,
        bar: &ProgressBar,
        out: Output,
    ) -> Result<(), Failure> {
        let kind = match finding.kind() {
            Kind::Wrong => {
                self.wrong += 1;
                "wrong"
            }
            Kind::Mended => {
                self.mended += 1;
                "mended"
            }
            Kind::Lost => {
                self.lost += 1;
                "lost"
            }
            Kind::Note | Kind::Unspecified => "note",
        };
        let (name, text) = (&account.name, &finding.text);
        bar.suspend(|| {
            out.both(
                format!("{name}: {kind}: {text}"),
                &json!({ "account": name, "finding": kind, "text": text }),
            )
        })
    }

    fn summary(
        &self,
        done: &pb::MaintainDone,
        account: &Account,
        out: Output,
    ) -> Result<(), Failure> {
        let name = &account.name;
        let (messages, mailboxes) = (done.messages, done.mailboxes);
        let mut line = format!("{name}: {messages} messages in {mailboxes} mailboxes");
        let counts = [
            (self.wrong, "wrong"),
            (self.mended, "mended"),
            (self.lost, "lost"),
        ];
        let mut is_clean = true;
        for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
            is_clean = false;
            let _ = write!(line, ", {count} {what}");
        }
        if is_clean {
            line.push_str(", all is well");
        }
        out.both(
            line,
            &json!({
                "account": name, "messages": messages, "emails": done.emails,
                "mailboxes": mailboxes, "wrong": self.wrong, "mended": self.mended,
                "lost": self.lost,
            }),
        )
    }
}
