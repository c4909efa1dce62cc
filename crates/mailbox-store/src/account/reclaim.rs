//! Space of expunged mail is given back: what is left in a segment goes to the last one, then the
//! file goes. The account is used meanwhile; each step holds the writer as long as a small batch
//! does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::{info, warn};

use super::{Account, lock};
use crate::packed::{self, Lookup};
use crate::schema::{EMAILS, EmailRow, email_key, email_of, number_of};
use crate::segment::{Location, numbers};
use crate::{Message, StoreError};

/// Octets that are moved in one step, if a message is not larger.
const STEP: u64 = 1024 * 1024;

/// How eagerly space is given back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Eagerness {
    /// Percent of a segment that have to be dead.
    pub(crate) percent: u64,
    /// Octets to be moved in a second; 0 is no limit.
    pub(crate) rate: u64,
}

/// Waits, and says whether to go on.
pub(crate) type Pause<'a> = dyn FnMut(Duration) -> bool + 'a;

/// An email of a segment.
type Living = Vec<(u64, Location)>;

impl Account {
    /// Something may have become dead since this was asked last.
    pub(crate) fn has_dead(&self) -> bool {
        self.may_have_dead.load(Ordering::Relaxed)
    }

    /// Gives back the space of segments in which enough is dead. Returns the octets.
    pub(crate) fn reclaim(
        &self,
        eagerness: Eagerness,
        pause: &mut Pause<'_>,
    ) -> Result<u64, StoreError> {
        self.may_have_dead.store(false, Ordering::Relaxed);
        let mut freed = 0;
        for segment in self.victims(eagerness.percent)? {
            let living = self.living(segment)?;
            if !self.vacate(&living, eagerness.rate, pause)? {
                self.may_have_dead.store(true, Ordering::Relaxed);
                break;
            }
            freed += self.remove_segment(segment)?;
        }
        Ok(freed)
    }

    /// Full segments that are dead enough. The last one is closed first if it is.
    fn victims(&self, percent: u64) -> Result<Vec<u32>, StoreError> {
        let mut alive: BTreeMap<u32, u64> = BTreeMap::new();
        let txn = self.read()?;
        packed::each_of_all(&txn.open_table(EMAILS)?, |_, _, row: EmailRow| {
            *alive.entry(row.location.segment).or_default() += row.location.len();
            Ok(())
        })?;
        drop(txn);
        let mut victims = Vec::new();
        let mut writer = lock(&self.writer);
        let (last, end) = writer.appender.position();
        for number in numbers(&self.folder.join("segments"))? {
            let len = std::fs::metadata(self.segments.path(number)).map_or(0, |found| found.len());
            let alive = alive.get(&number).copied().unwrap_or(0);
            let is_dead = alive.saturating_mul(100) <= len.saturating_mul(100 - percent.min(100));
            if number > last || !is_dead {
                continue;
            }
            if number == last {
                // Mail may have come since; the next segment is not worth it for little.
                if end != len || end < writer.appender.max() / 4 {
                    continue;
                }
                writer.appender.roll()?;
            }
            victims.push(number);
        }
        Ok(victims)
    }

    /// The emails that a segment has, in its order.
    fn living(&self, segment: u32) -> Result<Living, StoreError> {
        let mut living = Living::new();
        let txn = self.read()?;
        let each = |high, low, row: EmailRow| {
            if row.location.segment == segment {
                living.push((email_of((high, low)), row.location));
            }
            Ok(())
        };
        packed::each_of_all(&txn.open_table(EMAILS)?, each)?;
        living.sort_unstable_by_key(|(_, location)| location.offset);
        Ok(living)
    }

    /// Moves emails to the last segment. False if it is to end before all are moved.
    fn vacate(
        &self,
        living: &[(u64, Location)],
        rate: u64,
        pause: &mut Pause<'_>,
    ) -> Result<bool, StoreError> {
        let mut rest = living;
        loop {
            let mut octets = 0;
            let mut count = 0;
            for (_, location) in rest {
                if count > 0 && octets + location.len() > STEP {
                    break;
                }
                octets += location.len();
                count += 1;
            }
            let (step, behind) = rest.split_at(count);
            self.move_to_last(step)?;
            let rate = if rate == 0 { u64::MAX } else { rate };
            // Also where nothing moved: who gives the files away looks here.
            let micros = octets.saturating_mul(1_000_000) / rate;
            if !pause(Duration::from_micros(micros)) || self.has_failed() {
                return Ok(false);
            }
            if behind.is_empty() {
                return Ok(true);
            }
            rest = behind;
        }
    }

    /// Copies first, then one transaction says where the copies are. It is not synced: both places
    /// have the same octets.
    fn move_to_last(&self, emails: &[(u64, Location)]) -> Result<(), StoreError> {
        let mut records = Vec::with_capacity(emails.len());
        for (email, location) in emails {
            match self.segments.read_record(*location) {
                Ok(record) => records.push((*email, *location, record)),
                // It stays where it is, and so does its file.
                Err(error @ StoreError::Damaged { .. }) => {
                    warn!(account = %self.id, email, %error, "a damaged message keeps its segment");
                }
                Err(error) => return Err(error),
            }
        }
        let mut writer = lock(&self.writer);
        self.catch_up_with(&mut writer, |batch| {
            for (email, from, record) in &records {
                batch.relocate(*email, *from, record)?;
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Once the index durably has nothing in it. Who still has a message's old place looks its new
    /// one up; see [`Self::where_now`].
    fn remove_segment(&self, segment: u32) -> Result<u64, StoreError> {
        self.checkpoint_now()?;
        // After a failure nothing is known to be durable.
        if self.has_failed() || !self.living(segment)?.is_empty() {
            return Ok(0);
        }
        let path = self.segments.path(segment);
        let len = std::fs::metadata(&path).map_or(0, |found| found.len());
        self.disk
            .remove_file(&path)
            .map_err(|error| StoreError::io(&path, error))?;
        self.segments.forget(segment);
        info!(account = %self.id, segment, octets = len, "store.reclaimed");
        Ok(len)
    }

    /// The place that a message has been moved to since it was looked up.
    pub(crate) fn where_now(&self, message: &Message) -> Result<Option<Location>, StoreError> {
        let txn = self.index.read()?;
        let mut emails = Lookup::<EmailRow>::new(txn.open_table(EMAILS)?);
        let row = emails.get(email_key(number_of(message.email_id)))?;
        Ok(row.map(|row| row.location))
    }
}

impl crate::MailStore {
    /// Gives back space of an account's expunged mail now, and tells how many octets; see
    /// [`crate::Options::reclaim_percent`]. `pause` is called after each step with how long to wait,
    /// and says whether to go on.
    pub fn reclaim(
        &self,
        id: mail_types::AccountId,
        now: i64,
        pause: &mut dyn FnMut(Duration) -> bool,
    ) -> Result<u64, StoreError> {
        let account: Arc<Account> = self.account(id, now)?;
        account.reclaim(self.shared.eagerness(), pause)
    }
}
