//! The selected mailbox as the client knows it: sequence numbers, flags, and what is still to be
//! told.
//!
//! Changes come in the order of MODSEQ and are told in that order. One that expunges is held back
//! while sequence numbers are in use (RFC 3501 §7.4.1), and with it all behind it.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::FutureExt;
use imap_proto::encode::{self, FetchResponse};
use imap_proto::{Code, SequenceSet};
use mail_rpc::pb::mailbox::v1 as pb;
use mail_types::Flags;
use pb::mailbox_service_client::MailboxServiceClient;
use pb::watch_event::Event;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::answer::No;

/// How long the feed may take to bring what a command of ours has done.
const FEED_TIMEOUT: Duration = Duration::from_secs(5);
/// How often and how soon a mailbox is opened again while localdeliver may be starting anew: clients
/// wait half a minute and more, and a session that ends costs them a login.
const RESTART_TRIES: u32 = 100;
const RESTART_PAUSE: Duration = Duration::from_millis(200);

/// A message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) uid: u32,
    pub(crate) flags: Flags,
    pub(crate) modseq: u64,
    pub(crate) size: u64,
    pub(crate) recent: bool,
}

/// How updates are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Show {
    /// EXPUNGE may be told.
    pub(crate) expunge: bool,
    /// FETCH responses have the UID.
    pub(crate) uid: bool,
    /// FETCH responses have the MODSEQ (RFC 7162 §3.2).
    pub(crate) modseq: bool,
}

/// The mailbox.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) account: u64,
    pub(crate) mailbox_id: u64,
    pub(crate) read_only: bool,
    pub(crate) uid_validity: u32,
    pub(crate) uid_next: u32,
    pub(crate) highest_modseq: u64,
    pub(crate) keywords: Vec<String>,
    pub(crate) messages: Vec<Entry>,
    feed: Streaming<pb::WatchEvent>,
    held: VecDeque<pb::Change>,
    /// The feed ended: what changed since has to be looked for.
    lost: bool,
    /// The mailbox was deleted.
    pub(crate) gone: bool,
}

impl View {
    /// Opens a mailbox by name or, with an empty name, by id.
    pub(crate) async fn open(
        client: &MailboxServiceClient<Channel>,
        account: u64,
        name: &str,
        mailbox_id: u64,
        read_only: bool,
    ) -> Result<Self, No> {
        let request = pb::WatchRequest {
            account_id: account,
            name: name.to_owned(),
            mailbox_id,
            claim_recent: !read_only,
            pop3_lock: false,
        };
        let mut feed = client.clone().watch(request).await?.into_inner();
        let mut facts: Option<pb::Snapshot> = None;
        let mut messages = Vec::new();
        loop {
            let event = feed.message().await?.and_then(|event| event.event);
            match event {
                Some(Event::Snapshot(frame)) => {
                    let first_recent = facts.as_ref().unwrap_or(&frame).first_recent_uid;
                    push_frame(&mut messages, &frame, first_recent);
                    facts.get_or_insert(frame);
                }
                Some(Event::SnapshotEnd(_)) => break,
                Some(Event::Failure(failure)) => return Err(failure.into()),
                _ => return Err(Status::internal("no snapshot came").into()),
            }
        }
        let facts = facts.unwrap_or_default();
        Ok(Self {
            account,
            mailbox_id: facts.mailbox_id,
            read_only,
            uid_validity: facts.uid_validity,
            uid_next: facts.uid_next,
            highest_modseq: facts.highest_modseq,
            keywords: facts.keywords,
            messages,
            feed,
            held: VecDeque::new(),
            lost: false,
            gone: false,
        })
    }

    pub(crate) fn recent(&self) -> usize {
        self.messages.iter().filter(|entry| entry.recent).count()
    }

    /// The place of a UID.
    pub(crate) fn find(&self, uid: u32) -> Option<usize> {
        self.messages
            .binary_search_by_key(&uid, |entry| entry.uid)
            .ok()
    }

    /// The places of the messages that a set names, ascending; `None` if a sequence number is not
    /// in use (RFC 3501 §9: that is an error, while a UID need not exist).
    pub(crate) fn places(&self, set: &SequenceSet, by_uid: bool) -> Option<Vec<usize>> {
        let count = u32::try_from(self.messages.len()).unwrap_or(u32::MAX);
        let mut places = Vec::new();
        if by_uid {
            let largest = self.messages.last().map_or(0, |entry| entry.uid);
            for (low, high) in set.ranges(largest) {
                let from = self.messages.partition_point(|entry| entry.uid < low);
                let to = self.messages.partition_point(|entry| entry.uid <= high);
                places.extend(from..to);
            }
        } else {
            if count > 0 && set.largest_number().is_some_and(|number| number > count) {
                return None;
            }
            for (low, high) in set.ranges(count) {
                let from = low.max(1) as usize - 1;
                places.extend(from..high.min(count) as usize);
            }
        }
        places.sort_unstable();
        places.dedup();
        Some(places)
    }

    /// UIDs of messages by their places, which ascend, as ranges. Between two neighbours no UID can
    /// appear any more, so that a run of places is one range.
    pub(crate) fn uid_set(&self, places: &[usize]) -> pb::UidSet {
        let mut bounds: Vec<u32> = Vec::new();
        let mut last = None;
        for place in places {
            let Some(entry) = self.messages.get(*place) else {
                continue;
            };
            if last.is_some_and(|last: usize| last + 1 == *place) {
                if let Some(high) = bounds.last_mut() {
                    *high = entry.uid;
                }
            } else {
                bounds.extend([entry.uid, entry.uid]);
            }
            last = Some(*place);
        }
        pb::UidSet { bounds }
    }

    /// Waits for the next change; false if there is none to come.
    pub(crate) async fn wait(&mut self) -> bool {
        if self.lost || self.gone {
            return false;
        }
        let event = self.feed.message().await;
        self.take(event)
    }

    /// Waits until the feed has brought what a command did.
    pub(crate) async fn wait_for(&mut self, modseq: u64) {
        let reach = async {
            while self
                .held
                .back()
                .map_or(self.highest_modseq, |change| change.modseq)
                < modseq
            {
                if !self.wait().await {
                    break;
                }
            }
        };
        // Late changes are told with the next command.
        let _ = tokio::time::timeout(FEED_TIMEOUT, reach).await;
    }

    /// Waits until the feed has told that these messages are gone.
    pub(crate) async fn wait_for_expunged(&mut self, uids: &mail_types::UidSet) {
        let mut left: u64 = uids
            .iter()
            .filter(|uid| self.find(uid.get()).is_some())
            .count() as u64;
        let reach = async {
            let mut seen = 0;
            while left > 0 {
                while let Some(change) = self.held.get(seen) {
                    seen += 1;
                    let gone = change
                        .expunged
                        .as_ref()
                        .map_or(0, |set| count_in(set, uids));
                    left = left.saturating_sub(gone);
                }
                if left > 0 && !self.wait().await {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(FEED_TIMEOUT, reach).await;
    }

    fn take(&mut self, event: Result<Option<pb::WatchEvent>, Status>) -> bool {
        match event.map(|event| event.and_then(|event| event.event)) {
            Ok(Some(Event::Change(change))) => {
                self.held.push_back(change);
                true
            }
            Ok(Some(Event::Gone(_))) => {
                self.gone = true;
                false
            }
            Ok(Some(_)) => true,
            Ok(None) | Err(_) => {
                self.lost = true;
                false
            }
        }
    }

    /// Takes what the feed has, without waiting.
    fn drain(&mut self) {
        while !self.lost && !self.gone {
            let Some(event) = self.feed.message().now_or_never() else {
                return;
            };
            self.take(event);
        }
    }

    /// Opens the mailbox anew after the feed ended, and holds what has changed as one change.
    async fn catch_up(&mut self, client: &MailboxServiceClient<Channel>) -> Result<(), No> {
        let mut tries = RESTART_TRIES;
        let fresh = loop {
            let opened = Self::open(client, self.account, "", self.mailbox_id, self.read_only);
            match opened.await {
                Ok(fresh) => break fresh,
                Err(no) if no.code == Some(Code::NonExistent) => {
                    self.gone = true;
                    return Ok(());
                }
                Err(no) if tries == 0 => return Err(no),
                Err(_) => tries -= 1,
            }
            tokio::time::sleep(RESTART_PAUSE).await;
        };
        if fresh.uid_validity != self.uid_validity {
            self.gone = true;
            return Ok(());
        }
        // What waits is in the snapshot too.
        self.held.clear();
        let mut change = pb::Change {
            modseq: fresh.highest_modseq,
            ..pb::Change::default()
        };
        let known = self.keywords.len().min(fresh.keywords.len());
        change.new_keywords = fresh.keywords.get(known..).unwrap_or_default().to_vec();
        let mut expunged = Vec::new();
        for entry in &self.messages {
            match fresh
                .find(entry.uid)
                .and_then(|place| fresh.messages.get(place))
            {
                None => expunged.extend([entry.uid, entry.uid]),
                Some(now) if now.modseq > entry.modseq => change.flags_changed.push(state(now)),
                Some(_) => {}
            }
        }
        change.expunged = (!expunged.is_empty()).then_some(pb::UidSet { bounds: expunged });
        let new = fresh
            .messages
            .iter()
            .filter(|entry| entry.uid >= self.uid_next);
        change.appended = new.map(state).collect();
        self.held.push_back(change);
        self.feed = fresh.feed;
        self.lost = false;
        Ok(())
    }

    /// Tells the client what has changed, as far as it may be told now.
    pub(crate) async fn update(
        &mut self,
        client: &MailboxServiceClient<Channel>,
        out: &mut Vec<u8>,
        show: Show,
    ) -> Result<(), No> {
        self.drain();
        if self.lost && !self.gone {
            self.catch_up(client).await?;
        }
        // How many messages the client knows of.
        let mut told = self.messages.len();
        while let Some(change) = self.held.front() {
            let expunges = change
                .expunged
                .as_ref()
                .is_some_and(|set| !set.bounds.is_empty());
            if expunges && !show.expunge {
                break;
            }
            if let Some(change) = self.held.pop_front() {
                self.apply(&change, out, show, &mut told);
            }
        }
        if self.messages.len() > told {
            self.push_exists(out);
        }
        Ok(())
    }

    pub(crate) fn push_exists(&self, out: &mut Vec<u8>) {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        encode::push_numbered(out, number(self.messages.len()), "EXISTS");
        encode::push_numbered(out, number(self.recent()), "RECENT");
    }

    fn apply(&mut self, change: &pb::Change, out: &mut Vec<u8>, show: Show, told: &mut usize) {
        self.learn_keywords(&change.new_keywords, out);
        for state in &change.flags_changed {
            let Some(place) = self.find(state.uid) else {
                continue;
            };
            let Some(entry) = self.messages.get_mut(place) else {
                continue;
            };
            // What our own command did is known already.
            if entry.modseq < state.modseq {
                entry.flags = Flags::from(state.flags);
                entry.modseq = state.modseq;
                // A number that the client has not heard of must not come before its EXISTS.
                if place >= *told {
                    self.push_exists(out);
                    *told = self.messages.len();
                }
                self.push_flags(place, out, show);
            }
        }
        if let Some(set) = change
            .expunged
            .as_ref()
            .filter(|set| !set.bounds.is_empty())
        {
            // The numbers of EXPUNGE count what the client knows of.
            if self.messages.len() > *told {
                self.push_exists(out);
            }
            self.expunge(set, out);
            *told = self.messages.len();
        }
        self.append(change);
        self.highest_modseq = self.highest_modseq.max(change.modseq);
    }

    fn append(&mut self, change: &pb::Change) {
        for state in &change.appended {
            if state.uid < self.uid_next {
                continue;
            }
            self.uid_next = state.uid.saturating_add(1);
            self.messages.push(Entry {
                uid: state.uid,
                flags: Flags::from(state.flags),
                modseq: state.modseq,
                size: state.size,
                recent: change.recent,
            });
        }
    }

    fn expunge(&mut self, set: &pb::UidSet, out: &mut Vec<u8>) {
        let ranges: Vec<(u32, u32)> = set
            .bounds
            .chunks(2)
            .filter_map(|range| match range {
                [low, high] => Some((*low, *high)),
                _ => None,
            })
            .collect();
        let mut number = 0;
        self.messages.retain(|entry| {
            let at = ranges.partition_point(|(_, high)| *high < entry.uid);
            let goes = ranges.get(at).is_some_and(|(low, _)| *low <= entry.uid);
            if goes {
                // Each EXPUNGE shifts the numbers behind it.
                encode::push_numbered(out, number + 1, "EXPUNGE");
            } else {
                number += 1;
            }
            !goes
        });
    }

    /// The table's keywords behind a command; new ones are told.
    pub(crate) fn set_keywords(&mut self, keywords: &[String], out: &mut Vec<u8>) {
        let new = keywords
            .get(self.keywords.len()..)
            .unwrap_or_default()
            .to_vec();
        self.learn_keywords(&new, out);
    }

    fn learn_keywords(&mut self, new: &[String], out: &mut Vec<u8>) {
        let unknown: Vec<String> = new
            .iter()
            .filter(|name| !self.keywords.contains(name))
            .cloned()
            .collect();
        if !unknown.is_empty() {
            self.keywords.extend(unknown);
            encode::push_untagged(out, &format!("FLAGS {}", self.flag_list()));
        }
    }

    /// All flags that messages here can have, in parentheses.
    pub(crate) fn flag_list(&self) -> String {
        let mut text = String::from("(\\Answered \\Flagged \\Deleted \\Seen \\Draft");
        for keyword in &self.keywords {
            text.push(' ');
            text.push_str(keyword);
        }
        text.push(')');
        text
    }

    /// An unasked or asked FETCH response with a message's flags.
    pub(crate) fn push_flags(&self, place: usize, out: &mut Vec<u8>, show: Show) {
        let Some(entry) = self.messages.get(place) else {
            return;
        };
        let number = u32::try_from(place + 1).unwrap_or(u32::MAX);
        let mut response = FetchResponse::begin(out, number);
        if show.uid {
            response.number("UID", entry.uid.into());
        }
        encode::push_flags(
            response.item("FLAGS"),
            entry.flags,
            &self.keywords,
            entry.recent,
        );
        if show.modseq {
            response.modseq(entry.modseq);
        }
        response.end();
    }

    /// Takes over the states that a STORE answered.
    pub(crate) fn learn(&mut self, states: &[pb::MessageState]) {
        for state in states {
            if let Some(entry) = self
                .find(state.uid)
                .and_then(|at| self.messages.get_mut(at))
            {
                entry.flags = Flags::from(state.flags);
                entry.modseq = state.modseq;
            }
        }
    }
}

/// How many UIDs of a change are in a set.
fn count_in(change: &pb::UidSet, uids: &mail_types::UidSet) -> u64 {
    let ranges = change.bounds.chunks(2).filter_map(|range| match range {
        [low, high] => Some((*low, *high)),
        _ => None,
    });
    let overlap = |(low, high): (u32, u32)| -> u64 {
        let inner = uids.ranges().iter().map(|(from, to)| {
            let (from, to) = (from.get().max(low), to.get().min(high));
            if from <= to {
                u64::from(to - from) + 1
            } else {
                0
            }
        });
        inner.sum()
    };
    ranges.map(overlap).sum()
}

fn push_frame(messages: &mut Vec<Entry>, frame: &pb::Snapshot, first_recent: u32) {
    let facts = frame.flags.iter().zip(&frame.modseqs).zip(&frame.sizes);
    messages.extend(
        frame
            .uids
            .iter()
            .zip(facts)
            .map(|(uid, ((flags, modseq), size))| Entry {
                uid: *uid,
                flags: Flags::from(*flags),
                modseq: *modseq,
                size: *size,
                recent: first_recent > 0 && *uid >= first_recent,
            }),
    );
}

fn state(entry: &Entry) -> pb::MessageState {
    pb::MessageState {
        uid: entry.uid,
        flags: entry.flags.bits(),
        modseq: entry.modseq,
        size: entry.size,
    }
}
