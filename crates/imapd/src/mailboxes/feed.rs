//! The mailbox service's feed of one mailbox, and what becomes of it when it breaks.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, Stream, StreamExt};
use imap_proto::Code;
use mail_rpc::pb::mailbox::v1 as pb;
use pb::mailbox_service_client::MailboxServiceClient;
use pb::watch_event::Event;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use tracing::warn;

use super::chunk::Entry;
use super::open::{Fresh, Health, Open, Version, recent_of};
use super::recent::Recent;
use super::rows::Rows;
use crate::answer::No;
use mail_types::Flags;

/// How often and how soon a mailbox is opened again while localdeliver may be starting anew: clients
/// wait half a minute and more, and a session that ends costs them a login.
const RESTART_TRIES: u32 = 100;
const RESTART_PAUSE: Duration = Duration::from_millis(200);
/// Changes that are taken over at once, so that those behind do not wait for all of a long row.
const TOGETHER: usize = 256;

/// How long to wait for changes that the service has sent already, down another stream.
const ON_ITS_WAY: Duration = Duration::from_millis(200);

/// A mailbox as it was left: a snapshot need not tell it again.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) mailbox_id: u64,
    pub(super) epoch: u64,
    pub(super) version: Arc<Version>,
    /// What was claimed for sessions here and told to none.
    pub(super) unclaimed: Recent,
}

/// Opens the feed of a mailbox by name or, with an empty name, by the id of what is known.
pub(super) async fn watch(
    client: &MailboxServiceClient<Channel>,
    account: u64,
    name: &str,
    known: Option<&Known>,
    claim_recent: bool,
) -> Result<(Fresh, Streaming<pb::WatchEvent>), No> {
    let by_id = known.filter(|_| name.is_empty());
    let request = pb::WatchRequest {
        account_id: account,
        name: name.to_owned(),
        mailbox_id: by_id.map_or(0, |known| known.mailbox_id),
        claim_recent,
        pop3_lock: false,
        known: known.map(|known| pb::KnownMailbox {
            mailbox_id: known.mailbox_id,
            epoch: known.epoch,
            highest_modseq: known.version.highest_modseq,
        }),
    };
    let mut feed = client.clone().watch(request).await?.into_inner();
    let mut facts: Option<pb::Snapshot> = None;
    let mut entries = Vec::new();
    loop {
        let event = feed.message().await?.and_then(|event| event.event);
        match event {
            Some(Event::Snapshot(frame)) => {
                push_frame(&mut entries, &frame);
                facts.get_or_insert(frame);
            }
            Some(Event::SnapshotEnd(_)) => break,
            Some(Event::Failure(failure)) => return Err(failure.into()),
            _ => return Err(Status::internal("no snapshot came").into()),
        }
    }
    let facts = facts.unwrap_or_default();
    let rows = match known {
        Some(known) if facts.unchanged => known.version.rows.clone(),
        Some(known) => Rows::pack(&entries, &known.version.rows),
        None if facts.unchanged => {
            return Err(Status::internal("a mailbox that nobody knows is unchanged").into());
        }
        None => Rows::pack(&entries, &Rows::default()),
    };
    let fresh = Fresh {
        mailbox_id: facts.mailbox_id,
        name: facts.name,
        epoch: facts.epoch,
        first_recent: facts.first_recent_uid,
        version: Version {
            rows,
            keywords: Arc::new(facts.keywords),
            uid_validity: facts.uid_validity,
            uid_next: facts.uid_next,
            highest_modseq: facts.highest_modseq,
        },
    };
    Ok((fresh, feed))
}

fn push_frame(entries: &mut Vec<Entry>, frame: &pb::Snapshot) {
    let facts = frame.flags.iter().zip(&frame.modseqs).zip(&frame.sizes);
    let all = frame.uids.iter().zip(facts);
    entries.extend(all.map(|(uid, ((flags, modseq), size))| Entry {
        uid: *uid,
        flags: Flags::from(*flags),
        modseq: *modseq,
        size: *size,
    }));
}

/// Why a feed is read no further.
enum End {
    /// It does not claim `\Recent`, which sessions want now, or claims it for none.
    Turn,
    Gone,
    Lost,
}

/// Follows a mailbox until it is gone.
pub(super) async fn follow(
    client: MailboxServiceClient<Channel>,
    open: Arc<Open>,
    mut feed: Streaming<pb::WatchEvent>,
) {
    loop {
        let end = tokio::select! {
            end = read(&open, &mut feed) => end,
            () = open.turned() => End::Turn,
        };
        match end {
            End::Gone => return open.set_health(Health::Gone),
            End::Lost => open.set_health(Health::Lost),
            End::Turn if open.claims_as_wanted() => continue,
            End::Turn => {}
        }
        let claims = open.turn();
        let before = open.current().highest_modseq;
        match reopen(&client, &open, claims).await {
            Ok(again) => {
                let behind = (before, open.current().highest_modseq);
                let mut old = std::mem::replace(&mut feed, again);
                open.add_recent(&held(&mut old, behind).await);
            }
            Err(health) => return open.set_health(health),
        }
    }
}

/// Takes over what comes.
async fn read(open: &Open, feed: &mut Streaming<pb::WatchEvent>) -> End {
    loop {
        let mut changes = Vec::new();
        let mut next = feed.message().await;
        let end = loop {
            match next.map(|event| event.and_then(|event| event.event)) {
                Ok(Some(Event::Change(change))) => changes.push(change),
                Ok(Some(Event::Gone(_))) => break Some(End::Gone),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break Some(End::Lost),
            }
            if changes.len() >= TOGETHER {
                break None;
            }
            match feed.message().now_or_never() {
                Some(more) => next = more,
                None => break None,
            }
        };
        if !changes.is_empty() {
            open.apply(&changes);
        }
        if let Some(end) = end {
            return end;
        }
    }
}

/// What a feed that is given up has claimed meanwhile: nobody else is given that. It has told the
/// first MODSEQ, and what is on its way up to the second one is waited for.
pub(super) async fn held(
    feed: &mut (impl Stream<Item = Result<pb::WatchEvent, Status>> + Unpin),
    (mut told, up_to): (u64, u64),
) -> Recent {
    let mut recent = Recent::default();
    loop {
        let patience = if told < up_to {
            ON_ITS_WAY
        } else {
            Duration::ZERO
        };
        let Ok(Some(Ok(event))) = tokio::time::timeout(patience, feed.next()).await else {
            return recent;
        };
        if let Some(Event::Change(change)) = event.event {
            let (first, end) = recent_of(&change);
            recent.add_from(first, end);
            told = told.max(change.modseq);
        }
    }
}

/// Opens the feed anew.
async fn reopen(
    client: &MailboxServiceClient<Channel>,
    open: &Open,
    claims: bool,
) -> Result<Streaming<pb::WatchEvent>, Health> {
    let (version, epoch, _) = open.facts();
    let known = Known {
        mailbox_id: open.id,
        epoch,
        version,
        unclaimed: Recent::default(),
    };
    for _ in 0..RESTART_TRIES {
        match Box::pin(watch(client, open.account, "", Some(&known), claims)).await {
            Ok((fresh, feed)) => {
                let is_same = open.renew(fresh, claims);
                return is_same.then_some(feed).ok_or(Health::Gone);
            }
            Err(no) if no.code == Some(Code::NonExistent) => return Err(Health::Gone),
            Err(_) => tokio::time::sleep(RESTART_PAUSE).await,
        }
    }
    warn!(
        account = open.account,
        mailbox = open.id,
        "a mailbox cannot be opened again"
    );
    Err(Health::Broken)
}
