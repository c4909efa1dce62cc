use super::Done;
use super::requests::{Request, Want};
use crate::store::{Op, QueueStore, StoreError};

/// Changes that are appended as one, and who waits for them.
#[derive(Default)]
pub(super) struct Batch {
    ops: Vec<Op>,
    octets: usize,
    waiting: Vec<Waiting>,
}

/// Who waits for how many of a batch's changes.
struct Waiting {
    ops: usize,
    is_new: bool,
    done: Done,
}

impl Batch {
    /// Adds changes. The error is the store's end.
    pub(super) fn add(
        &mut self,
        store: &dyn QueueStore,
        request: Request,
    ) -> Result<(), StoreError> {
        let done = request.done;
        let (ops, is_new) = match request.want {
            Want::Change(ops) | Want::Later(ops) => (ops, false),
            Want::NewMail(ops) => (ops, true),
        };
        let octets: usize = ops.iter().map(Op::weight).sum();
        if is_new && let Err(full) = store.check_room((self.octets + octets) as u64) {
            let failure = Some(full.clone()).filter(StoreError::is_fatal);
            done(Err(full));
            return failure.map_or(Ok(()), Err);
        }
        self.octets += octets;
        self.waiting.push(Waiting {
            ops: ops.len(),
            is_new,
            done,
        });
        self.ops.extend(ops);
        Ok(())
    }

    pub(super) fn ops(&self) -> &[Op] {
        &self.ops
    }

    pub(super) fn len(&self) -> usize {
        self.ops.len()
    }

    /// Nobody waits for anything.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn refuse_new_mail(&mut self, full: &StoreError) {
        let mut ops = std::mem::take(&mut self.ops).into_iter();
        for waiting in std::mem::take(&mut self.waiting) {
            let its = ops.by_ref().take(waiting.ops);
            if waiting.is_new {
                its.for_each(drop);
                (waiting.done)(Err(full.clone()));
            } else {
                self.ops.extend(its);
                self.waiting.push(waiting);
            }
        }
    }

    pub(super) fn refuse(self, failure: &StoreError) {
        for waiting in self.waiting {
            (waiting.done)(Err(failure.clone()));
        }
    }

    pub(super) fn into_dones(self) -> Vec<Done> {
        self.waiting
            .into_iter()
            .map(|waiting| waiting.done)
            .collect()
    }
}
