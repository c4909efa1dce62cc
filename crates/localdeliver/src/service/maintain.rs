//! Maintain: check, repair and rebuild, told while they go on.

use mail_rpc::pb::mailbox::v1 as pb;
use mail_types::AccountId;
use mailbox_store::{Finding, MailStore, Report, StoreError, Totals};
use pb::finding::Kind;
use pb::maintain_event::Event;
use pb::maintain_request::Work;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tracing::info;

use super::{Answers, Service};
use crate::convert::{out_of_range, store_failed_in_full};
use crate::stores::now;

/// Events that may wait for a slow reader, who then holds up the work.
const WAITING: usize = 64;

impl Service {
    pub(super) fn maintain_account(
        &self,
        request: &pb::MaintainRequest,
    ) -> Result<Answers<pb::MaintainEvent>, Status> {
        let account = AccountId::from(request.account_id);
        let work = match request.work() {
            Work::Unspecified => return Err(out_of_range("work")),
            work => work,
        };
        let (drop_damaged, ignore_index) = (request.drop_damaged, request.ignore_index);
        let (sender, receiver) = mpsc::channel(WAITING);
        let stores = self.0.stores.clone();
        self.0.context.spawn(async move {
            let events = sender.clone();
            let done = stores.run(move |store| {
                info!(account = %account, ?work, "store.maintained");
                let mut tell = |report| {
                    let event = Some(event(report));
                    events
                        .blocking_send(Ok(pb::MaintainEvent { event }))
                        .is_ok()
                };
                let totals = do_work(
                    store,
                    account,
                    (work, drop_damaged, ignore_index),
                    &mut tell,
                );
                Ok(totals?)
            });
            let event = Some(Event::Done(match done.await {
                Ok(totals) => done_message(totals),
                Err(error) => pb::MaintainDone {
                    failure: Some(store_failed_in_full(&error)),
                    ..pb::MaintainDone::default()
                },
            }));
            // Whoever has left does not want to know.
            let _ = sender.send(Ok(pb::MaintainEvent { event })).await;
        });
        Ok(self.until_shutdown(ReceiverStream::new(receiver)))
    }

    pub(super) async fn stored(&self) -> pb::ListStoresResponse {
        match self.0.stores.run(|store| Ok(store.stored()?)).await {
            Ok(ids) => pb::ListStoresResponse {
                account_ids: ids.into_iter().map(AccountId::get).collect(),
                failure: None,
            },
            Err(error) => pb::ListStoresResponse {
                failure: Some(store_failed_in_full(&error)),
                ..pb::ListStoresResponse::default()
            },
        }
    }
}

fn do_work(
    store: &MailStore,
    account: AccountId,
    (work, drop_damaged, ignore_index): (Work, bool, bool),
    tell: &mut dyn FnMut(Report) -> bool,
) -> Result<Totals, StoreError> {
    match work {
        Work::Check | Work::Unspecified => store.check(account, now(), tell),
        Work::Repair => store.repair(account, drop_damaged, now(), tell),
        Work::Rebuild => store.rebuild(account, ignore_index, now(), tell),
    }
}

fn event(report: Report) -> Event {
    let found = match report {
        Report::Progress { done, all } => {
            return Event::Progress(pb::MaintainProgress { done, all });
        }
        Report::Found(found) => found,
    };
    let (kind, text) = match found {
        Finding::Wrong(text) => (Kind::Wrong, text),
        Finding::Mended(text) => (Kind::Mended, text),
        Finding::Lost(text) => (Kind::Lost, text),
        Finding::Note(text) => (Kind::Note, text),
    };
    Event::Finding(pb::Finding {
        kind: kind.into(),
        text,
    })
}

fn done_message(totals: Totals) -> pb::MaintainDone {
    pb::MaintainDone {
        messages: totals.messages,
        emails: totals.emails,
        mailboxes: u32::try_from(totals.mailboxes).unwrap_or(u32::MAX),
        failure: None,
    }
}
