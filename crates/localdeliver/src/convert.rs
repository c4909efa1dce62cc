//! Between the store's types and the contract's.

use mail_rpc::convert::ConvertError;
use mail_rpc::pb::mailbox::v1 as pb;
use mail_types::{Flags, MailboxId};
use mailbox_store::{
    ApplyError, Change, Event, FlagNames, MailboxName, MessageState, NameError, Snapshot,
    SpecialUse, StoreError, Target,
};
use pb::failure::Kind;

/// Messages in one frame of a snapshot.
const SNAPSHOT_FRAME: usize = 50_000;

pub(crate) fn failure(kind: Kind, detail: &(impl ToString + ?Sized)) -> pb::Failure {
    pb::Failure {
        kind: kind.into(),
        detail: detail.to_string(),
    }
}

pub(crate) fn refused(error: ApplyError) -> pb::Failure {
    let kind = match error {
        ApplyError::AlreadyExists => Kind::AlreadyExists,
        ApplyError::Inbox => Kind::BadName,
        ApplyError::NoSuchMailbox => Kind::NoSuchMailbox,
        ApplyError::OverQuota => Kind::OverQuota,
        ApplyError::TooManyKeywords => Kind::TooManyKeywords,
        // Limits of the account; what is new here is one too until it is told apart.
        _ => Kind::Limit,
    };
    failure(kind, &error)
}

pub(crate) fn store_failed(error: &StoreError) -> pb::Failure {
    match error {
        StoreError::Damaged { .. } => failure(Kind::Damaged, "the message is damaged"),
        StoreError::Full => failure(Kind::Temporary, "the disk is full"),
        StoreError::Busy => failure(Kind::Temporary, "the account is being made anew"),
        StoreError::IndexMissing(_) => failure(Kind::Temporary, "the account's index is missing"),
        // The log has the details; clients get none of our paths.
        _ => failure(
            Kind::Temporary,
            "the mail store does not work at the moment",
        ),
    }
}

/// The same for administrators, who may know all.
pub(crate) fn store_failed_in_full(error: &StoreError) -> pb::Failure {
    pb::Failure {
        detail: error.to_string(),
        ..store_failed(error)
    }
}

pub(crate) fn name(text: &str) -> Result<MailboxName, pb::Failure> {
    text.parse()
        .map_err(|error: NameError| failure(Kind::BadName, &error))
}

/// The mailbox that a request names by id or name.
pub(crate) fn target(mailbox_id: u64, text: &str) -> Result<Target, pb::Failure> {
    if mailbox_id == 0 {
        name(text).map(Target::Name)
    } else {
        Ok(Target::Id(MailboxId::from(mailbox_id)))
    }
}

pub(crate) fn flag_names(names: Option<pb::FlagNames>) -> FlagNames {
    let names = names.unwrap_or_default();
    // Only bits 0 to 4 are system flags; a keyword's bit means nothing without its table.
    FlagNames {
        system: Flags::from(names.system & 0b1_1111),
        keywords: names.keywords,
    }
}

pub(crate) fn message_state(state: &MessageState) -> pb::MessageState {
    pb::MessageState {
        uid: state.uid.get(),
        flags: state.flags.bits(),
        modseq: state.modseq,
        size: state.size,
    }
}

pub(crate) fn watch_event(event: &Event) -> pb::WatchEvent {
    use pb::watch_event::Event as Out;
    let event = match event {
        Event::Changed { change, recent } => Out::Change(change_message(change, *recent)),
        Event::Gone => Out::Gone(pb::MailboxGone {}),
    };
    pb::WatchEvent { event: Some(event) }
}

fn change_message(change: &Change, recent: bool) -> pb::Change {
    pb::Change {
        modseq: change.modseq,
        new_keywords: change.new_keywords.clone(),
        flags_changed: change.flags_changed.iter().map(message_state).collect(),
        expunged: (!change.expunged.is_empty()).then(|| (&change.expunged).into()),
        appended: change.appended.iter().map(message_state).collect(),
        renamed_to: change.renamed_to.clone(),
        recent,
    }
}

/// A snapshot in frames, the end mark behind them.
pub(crate) fn snapshot_events(snapshot: &Snapshot) -> Vec<pb::WatchEvent> {
    use pb::watch_event::Event as Out;
    let mut frames: Vec<pb::Snapshot> = snapshot
        .messages
        .chunks(SNAPSHOT_FRAME)
        .map(|messages| pb::Snapshot {
            uids: messages.iter().map(|message| message.uid.get()).collect(),
            flags: messages
                .iter()
                .map(|message| message.flags.bits())
                .collect(),
            modseqs: messages.iter().map(|message| message.modseq).collect(),
            sizes: messages.iter().map(|message| message.size).collect(),
            ..pb::Snapshot::default()
        })
        .collect();
    if frames.is_empty() {
        frames.push(pb::Snapshot::default());
    }
    if let Some(first) = frames.first_mut() {
        first.mailbox_id = snapshot.mailbox_id.get();
        first.name.clone_from(&snapshot.name);
        first.uid_validity = snapshot.uid_validity;
        first.uid_next = snapshot.uid_next;
        first.highest_modseq = snapshot.highest_modseq;
        first.keywords.clone_from(&snapshot.keywords);
        first.first_recent_uid = snapshot.first_recent.unwrap_or(0);
        first.epoch = snapshot.epoch;
        first.unchanged = snapshot.unchanged;
    }
    let events = frames.into_iter().map(Out::Snapshot);
    let end = std::iter::once(Out::SnapshotEnd(pb::SnapshotEnd {}));
    events
        .chain(end)
        .map(|event| pb::WatchEvent { event: Some(event) })
        .collect()
}

pub(crate) fn special_use_out(special_use: SpecialUse) -> pb::SpecialUse {
    match special_use {
        SpecialUse::None => pb::SpecialUse::Unspecified,
        SpecialUse::Archive => pb::SpecialUse::Archive,
        SpecialUse::Drafts => pb::SpecialUse::Drafts,
        SpecialUse::Flagged => pb::SpecialUse::Flagged,
        SpecialUse::Junk => pb::SpecialUse::Junk,
        SpecialUse::Sent => pb::SpecialUse::Sent,
        SpecialUse::Trash => pb::SpecialUse::Trash,
    }
}

pub(crate) fn special_use_in(special_use: pb::SpecialUse) -> SpecialUse {
    match special_use {
        pb::SpecialUse::Unspecified => SpecialUse::None,
        pb::SpecialUse::Archive => SpecialUse::Archive,
        pb::SpecialUse::Drafts => SpecialUse::Drafts,
        pb::SpecialUse::Flagged => SpecialUse::Flagged,
        pb::SpecialUse::Junk => SpecialUse::Junk,
        pb::SpecialUse::Sent => SpecialUse::Sent,
        pb::SpecialUse::Trash => SpecialUse::Trash,
    }
}

/// A number of the contract that is out of range.
pub(crate) fn out_of_range(what: &'static str) -> tonic::Status {
    ConvertError::new(what).into()
}
