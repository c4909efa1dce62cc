//! The selected mailbox as the client knows it: sequence numbers, flags, and what is still to be
//! told.
//!
//! A view is the version of the mailbox that was told. News are told as the difference to the newest
//! version. While sequence numbers are in use (RFC 3501 §7.4.1) messages that are gone stay in the
//! view; all else is told.

use std::sync::Arc;

use imap_proto::SequenceSet;
use imap_proto::encode::{self, FetchResponse};
use mail_rpc::pb::mailbox::v1 as pb;
use tokio::sync::watch;

use crate::mailboxes::{Edit, Entry, Health, Recent, Seat, Version, entry};

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
    pub(crate) read_only: bool,
    /// What the client knows.
    pub(crate) told: Arc<Version>,
    recent: Recent,
    /// The client has seen a MODSEQ as high in an answer: nothing older is told.
    reached: u64,
    news: watch::Receiver<()>,
    seat: Seat,
}

impl View {
    /// The mailbox as it is.
    pub(crate) fn new(seat: Seat, read_only: bool) -> Self {
        let news = seat.open.news();
        let mut view = Self {
            read_only,
            told: seat.open.current(),
            recent: Recent::default(),
            reached: 0,
            news,
            seat,
        };
        view.claim_recent();
        view
    }

    pub(crate) fn account(&self) -> u64 {
        self.seat.open.account
    }

    pub(crate) fn mailbox_id(&self) -> u64 {
        self.seat.open.id
    }

    pub(crate) fn health(&self) -> Health {
        self.seat.open.health()
    }

    /// What came in is recent to the session that hears of it first (RFC 3501 §2.3.2).
    fn claim_recent(&mut self) {
        if !self.read_only {
            let claimed = self.seat.open.claim_recent(self.told.uid_next);
            self.recent.add(&claimed);
        }
    }

    fn recent(&self) -> usize {
        let rows = &self.told.rows;
        let ranges = self.recent.ranges().iter();
        let counts = ranges.map(|(first, end)| rows.below(*end) - rows.below(*first));
        counts.sum()
    }

    pub(crate) fn is_recent(&self, uid: u32) -> bool {
        self.recent.has(uid)
    }

    /// The places of the messages that a set names, ascending; `None` if a sequence number is not
    /// in use (RFC 3501 §9: that is an error, while a UID need not exist).
    pub(crate) fn places(&self, set: &SequenceSet, by_uid: bool) -> Option<Vec<usize>> {
        let rows = &self.told.rows;
        let count = number(rows.len());
        let mut places = Vec::new();
        if by_uid {
            let largest = rows.last().map_or(0, |entry| entry.uid);
            for (low, high) in set.ranges(largest) {
                places.extend(rows.below(low)..rows.up_to(high));
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
        let uid = |place: Option<&usize>| Some(self.told.rows.get(*place?)?.uid);
        let runs = places.chunk_by(|a, b| a + 1 == *b);
        let bounds = runs.filter_map(|run| Some([uid(run.first())?, uid(run.last())?]));
        pb::UidSet {
            bounds: bounds.flatten().collect(),
        }
    }

    /// Waits until there are news.
    pub(crate) async fn changed(&mut self) {
        if self.news.changed().await.is_err() {
            // The mailbox lives as long as our seat.
            std::future::pending::<()>().await;
        }
    }

    /// Waits while the feed is looked for anew.
    pub(crate) async fn settled(&mut self) {
        while self.health() == Health::Lost {
            self.changed().await;
        }
    }

    /// Waits until the feed has brought what a command did.
    pub(crate) async fn reach(&mut self, modseq: u64) {
        self.reached = self.reached.max(modseq);
        let reached = self.reached;
        // Late changes are told with a later command.
        self.seat
            .until(|open| open.current().highest_modseq >= reached)
            .await;
    }

    /// Waits until the feed has told that these messages are gone.
    pub(crate) async fn reach_expunged(&self, uids: &mail_types::UidSet) {
        let is_gone = |version: &Version| {
            let mut ranges = uids.ranges().iter();
            ranges
                .all(|(low, high)| version.rows.below(low.get()) == version.rows.up_to(high.get()))
        };
        self.seat.until(|open| is_gone(&open.current())).await;
    }

    /// Tells the client what has changed, as far as it may be told now.
    pub(crate) fn update(&mut self, out: &mut Vec<u8>, show: Show) {
        self.news.mark_unchanged();
        let now = self.seat.open.current();
        if Arc::ptr_eq(&now, &self.told) || now.highest_modseq < self.reached {
            return;
        }
        let difference = self.told.rows.difference(&now.rows);
        let before = std::mem::replace(&mut self.told, now);
        if before.keywords.len() < self.told.keywords.len() {
            self.push_flag_list(out);
        }
        for entry in &difference.changed {
            self.push_flags(before.rows.below(entry.uid), *entry, out, show);
        }
        if !difference.expunged.is_empty() && !show.expunge {
            let mut kept = Version::clone(&self.told);
            kept.rows = before.rows.kept_in(&kept.rows);
            self.told = Arc::new(kept);
        } else {
            for (gone, uid) in difference.expunged.iter().enumerate() {
                // Each EXPUNGE shifts the numbers behind it.
                let place = before.rows.below(*uid) - gone;
                encode::push_numbered(out, number(place + 1), "EXPUNGE");
            }
        }
        if !difference.appended.is_empty() {
            self.claim_recent();
            self.push_exists(out);
        }
    }

    pub(crate) fn push_exists(&self, out: &mut Vec<u8>) {
        encode::push_numbered(out, number(self.told.rows.len()), "EXISTS");
        encode::push_numbered(out, number(self.recent()), "RECENT");
    }

    fn push_flag_list(&self, out: &mut Vec<u8>) {
        encode::push_untagged(out, &format!("FLAGS {}", self.flag_list()));
    }

    /// All flags that messages here can have, in parentheses.
    pub(crate) fn flag_list(&self) -> String {
        let mut text = String::from("(\\Answered \\Flagged \\Deleted \\Seen \\Draft");
        for keyword in self.told.keywords.iter() {
            text.push(' ');
            text.push_str(keyword);
        }
        text.push(')');
        text
    }

    /// An unasked or asked FETCH response with a message's flags.
    pub(crate) fn push_flags(&self, place: usize, entry: Entry, out: &mut Vec<u8>, show: Show) {
        let mut response = FetchResponse::begin(out, number(place + 1));
        if show.uid {
            response.number("UID", entry.uid.into());
        }
        let is_recent = self.is_recent(entry.uid);
        let keywords = &self.told.keywords;
        encode::push_flags(response.item("FLAGS"), entry.flags, keywords, is_recent);
        if show.modseq {
            response.modseq(entry.modseq);
        }
        response.end();
    }

    /// Takes over the states that a STORE answered, with the keyword table behind it; new keywords
    /// are told. The states are not: that is the command's.
    pub(crate) fn learn(
        &mut self,
        states: &[pb::MessageState],
        keywords: &[String],
        out: &mut Vec<u8>,
    ) {
        let newest = states.iter().map(|state| state.modseq).max();
        self.reached = self.reached.max(newest.unwrap_or(0));
        let changed: Vec<Entry> = states.iter().map(entry).collect();
        let mut told = Version::clone(&self.told);
        told.rows = told.rows.edited(Edit {
            changed: &changed,
            expunged: &[],
            appended: &[],
        });
        told.learn_keywords(keywords);
        let has_new = told.keywords.len() > self.told.keywords.len();
        self.told = Arc::new(told);
        if has_new {
            self.push_flag_list(out);
        }
    }
}

pub(crate) fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
