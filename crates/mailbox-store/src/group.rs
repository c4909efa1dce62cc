//! Group commit: one of those who wait does the work of all of them.
//!
//! While a batch is under way others queue. At its end the first of them leads the next batch, of
//! all that queue by then. A plain mutex would not do: whoever gives it back takes it again before
//! those who wait wake up, and batches stay small.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Inputs `I` are turned into as many outcomes `O`, in batches.
pub(crate) struct Group<I, O> {
    inner: Mutex<Inner<I, O>>,
}

struct Inner<I, O> {
    queue: Vec<Entry<I, O>>,
    /// Somebody leads.
    is_led: bool,
}

struct Entry<I, O> {
    inputs: Vec<I>,
    slot: Arc<Slot<O>>,
}

struct Slot<O> {
    state: Mutex<SlotState<O>>,
    changed: Condvar,
}

enum SlotState<O> {
    Waits,
    /// Leads the next batch.
    Leads,
    Done(Vec<O>),
    /// The work panicked.
    Lost,
}

impl<I, O> Group<I, O> {
    /// Does the inputs' work with whatever else waits, and returns once it is done; `work` gives
    /// an outcome for each input, in their order. `None` if the work panicked in another thread.
    pub(crate) fn run(
        &self,
        inputs: Vec<I>,
        work: impl FnOnce(Vec<I>) -> Vec<O>,
    ) -> Option<Vec<O>> {
        let slot = Arc::new(Slot {
            state: Mutex::new(SlotState::Waits),
            changed: Condvar::new(),
        });
        let entry = Entry {
            inputs,
            slot: slot.clone(),
        };
        let leads = {
            let mut inner = lock(&self.inner);
            inner.queue.push(entry);
            !std::mem::replace(&mut inner.is_led, true)
        };
        if !leads {
            match slot.wait() {
                SlotState::Leads => {}
                SlotState::Done(outcomes) => return Some(outcomes),
                SlotState::Waits | SlotState::Lost => return None,
            }
        }
        self.lead(work);
        match slot.wait() {
            SlotState::Done(outcomes) => Some(outcomes),
            _ => None,
        }
    }

    fn lead(&self, work: impl FnOnce(Vec<I>) -> Vec<O>) {
        let entries = std::mem::take(&mut lock(&self.inner).queue);
        let mut all = Vec::with_capacity(entries.len());
        let mut slots = Vec::with_capacity(entries.len());
        for entry in entries {
            slots.push((entry.inputs.len(), entry.slot));
            all.extend(entry.inputs);
        }
        let mut lead = Lead { group: self, slots };
        let mut outcomes = work(all).into_iter();
        for (count, slot) in std::mem::take(&mut lead.slots) {
            slot.set(SlotState::Done(outcomes.by_ref().take(count).collect()));
        }
    }
}

/// Hands the lead over, even if the work panics.
struct Lead<'a, I, O> {
    group: &'a Group<I, O>,
    slots: Vec<(usize, Arc<Slot<O>>)>,
}

impl<I, O> Drop for Lead<'_, I, O> {
    fn drop(&mut self) {
        for (_, slot) in &self.slots {
            slot.set(SlotState::Lost);
        }
        let mut inner = lock(&self.group.inner);
        match inner.queue.first() {
            Some(next) => next.slot.set(SlotState::Leads),
            None => inner.is_led = false,
        }
    }
}

impl<O> Slot<O> {
    fn set(&self, state: SlotState<O>) {
        *lock(&self.state) = state;
        self.changed.notify_one();
    }

    /// Waits until the state is another than `Waits`, and takes it.
    fn wait(&self) -> SlotState<O> {
        let mut state = lock(&self.state);
        loop {
            match std::mem::replace(&mut *state, SlotState::Waits) {
                SlotState::Waits => {
                    let waited = self.changed.wait(state);
                    state = waited.unwrap_or_else(PoisonError::into_inner);
                }
                other => return other,
            }
        }
    }
}

impl<I, O> Default for Group<I, O> {
    fn default() -> Self {
        let inner = Inner {
            queue: Vec::new(),
            is_led: false,
        };
        Self {
            inner: Mutex::new(inner),
        }
    }
}

impl<I, O> fmt::Debug for Group<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    #[test]
    fn each_gets_its_own_and_batches_are_large() {
        let group: Group<u32, u32> = Group::default();
        let batches = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for thread in 0..16 {
                let (group, batches) = (&group, &batches);
                scope.spawn(move || {
                    for n in 0..20 {
                        let mine = vec![thread * 1000 + n, 7];
                        let told = group.run(mine, |all| {
                            batches.fetch_add(1, Ordering::Relaxed);
                            std::thread::sleep(Duration::from_millis(2));
                            all.into_iter().map(|n| n + 1).collect()
                        });
                        assert_eq!(told, Some(vec![thread * 1000 + n + 1, 8]));
                    }
                });
            }
        });
        let batches = batches.into_inner();
        assert!(batches < 160, "{batches} batches for 320 calls");
    }

    #[test]
    fn a_panic_does_not_stop_the_others() {
        let group: Arc<Group<u32, u32>> = Arc::default();
        let panicking = group.clone();
        let thread = std::thread::spawn(move || panicking.run(vec![1], |_| panic!("on purpose")));
        assert!(thread.join().is_err());
        assert_eq!(group.run(vec![1], |all| all), Some(vec![1]));
    }
}
