//! One message between its first octet and the queue's answer.

use std::sync::Arc;
use std::time::Duration;

use mail_message::submission::{MissingFields, Supplement};
use mail_message::trace::count_received;
use mail_message::{MailDate, header_len};
use mail_rpc::CHUNK_SIZE;
use mail_rpc::pb::queue::v1::Envelope;
use mail_types::{Domain, EmailAddress, QueueId};
use smtp_proto::Refusal;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::shared::{PAGE, Shared};
use crate::submit::Upload;

/// Octets behind a chunk for which there is room: the last read before it is full goes over it.
const OVER: usize = 8 * 1024;
/// How long a message waits for room in memory before it is refused.
const MEMORY_TIMEOUT: Duration = Duration::from_secs(10);

/// What is done with a message's beginning.
#[derive(Debug)]
pub(crate) struct Rules {
    /// Octets of the trace field in front, which is ours.
    pub(crate) trace_len: usize,
    pub(crate) max_hops: usize,
    /// Set where missing fields are to be supplied.
    pub(crate) supply: Option<Supply>,
}

/// What missing fields are made of.
#[derive(Debug)]
pub(crate) struct Supply {
    pub(crate) now: MailDate,
    pub(crate) from: Option<EmailAddress>,
    pub(crate) host: Domain,
    pub(crate) unique: String,
}

/// A message that is coming in.
#[derive(Debug)]
pub(crate) struct Message {
    shared: Arc<Shared>,
    rules: Rules,
    way: Way,
    memory: Memory,
}

/// How far it is on its way to the queue.
#[derive(Debug)]
enum Way {
    /// All that came is in the session's buffer.
    Here(Box<Envelope>),
    /// Some of it is sent; how much, in octets.
    Uploading(Upload, u64),
    /// It failed; the rest of it is not wanted.
    Broken,
}

impl Message {
    pub(crate) fn new(shared: Arc<Shared>, envelope: Envelope, rules: Rules) -> Self {
        Self {
            memory: Memory::new(shared.memory.clone()),
            shared,
            rules,
            way: Way::Here(Box::new(envelope)),
        }
    }

    /// Looks after content that came in: counts its memory, and sends on what makes whole chunks,
    /// which queued keeps as they come.
    /// `input` is what the connection's buffer takes, in octets.
    pub(crate) async fn forward(
        &mut self,
        content: &mut Vec<u8>,
        input: usize,
    ) -> Result<(), Refusal> {
        self.memory.hold(content.capacity() + input).await?;
        if content.len() < CHUNK_SIZE {
            return Ok(());
        }
        let (mut upload, sent) = self.upload(content).await?;
        let whole = content.len() - content.len() % CHUNK_SIZE;
        // The next chunk will be as large.
        let mut next = Vec::with_capacity(CHUNK_SIZE + OVER);
        next.extend_from_slice(content.get(whole..).unwrap_or_default());
        let mut pieces = std::mem::replace(content, next);
        pieces.truncate(whole);
        upload.send(pieces).await?;
        self.way = Way::Uploading(upload, sent + whole as u64);
        Ok(())
    }

    /// Sends the last piece and waits until the queue has it. Gives its id and octets.
    pub(crate) async fn finish(
        &mut self,
        content: &mut Vec<u8>,
    ) -> Result<(QueueId, u64), Refusal> {
        let (upload, sent) = self.upload(content).await?;
        let size = sent + content.len() as u64;
        let id = upload.finish(std::mem::take(content)).await?;
        Ok((id, size))
    }

    /// The way to the queue, and how much went there; at its beginning the header is looked at, as
    /// far as the first piece has it: that is long enough for any header not made to hurt.
    async fn upload(&mut self, content: &mut Vec<u8>) -> Result<(Upload, u64), Refusal> {
        match std::mem::replace(&mut self.way, Way::Broken) {
            Way::Here(envelope) => {
                self.rules.apply(content)?;
                Ok((self.shared.submitter.begin(envelope).await?, 0))
            }
            Way::Uploading(upload, sent) => Ok((upload, sent)),
            Way::Broken => Err(Refusal::QueueUnavailable),
        }
    }
}

impl Rules {
    fn apply(&self, content: &mut Vec<u8>) -> Result<(), Refusal> {
        let original = content.get(self.trace_len..).unwrap_or_default();
        let header = original.get(..header_len(original)).unwrap_or(original);
        if count_received(header) > self.max_hops {
            return Err(Refusal::RoutingLoop);
        }
        let Some(supply) = &self.supply else {
            return Ok(());
        };
        let missing = MissingFields::of(header);
        if missing.is_empty() {
            return Ok(());
        }
        let fields = missing.render(&Supplement {
            now: supply.now,
            from: supply.from.as_ref(),
            host: &supply.host,
            unique: &supply.unique,
        });
        content.splice(self.trace_len..self.trace_len, fields.bytes());
        Ok(())
    }
}

/// A message's share of the memory budget.
#[derive(Debug)]
struct Memory {
    budget: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

impl Memory {
    fn new(budget: Arc<Semaphore>) -> Self {
        Self { budget, held: None }
    }

    /// Takes more if needed; waits for it, but not for ever.
    async fn hold(&mut self, bytes: usize) -> Result<(), Refusal> {
        // A small message is a session's own affair.
        let held = self
            .held
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits);
        let more = (bytes / PAGE).saturating_sub(held);
        if more == 0 {
            return Ok(());
        }
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let more = self.budget.clone().acquire_many_owned(more);
        let Ok(Ok(more)) = tokio::time::timeout(MEMORY_TIMEOUT, more).await else {
            return Err(Refusal::QueueFull);
        };
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_comes_back() {
        let budget = Arc::new(Semaphore::new(3));
        let mut one = Memory::new(budget.clone());
        let mut two = Memory::new(budget.clone());
        one.hold(PAGE - 1).await.unwrap();
        assert_eq!(budget.available_permits(), 3);
        one.hold(PAGE * 2).await.unwrap();
        one.hold(PAGE).await.unwrap();
        assert_eq!(budget.available_permits(), 1);
        assert_eq!(two.hold(PAGE * 2).await, Err(Refusal::QueueFull));
        drop(one);
        two.hold(PAGE * 2).await.unwrap();
        assert_eq!(budget.available_permits(), 1);
    }

    #[test]
    fn what_is_missing_comes_behind_the_trace() {
        let supply = Supply {
            now: MailDate::utc(0),
            from: Some("root@aula.test".parse().unwrap()),
            host: "mx.aula.test".parse().unwrap(),
            unique: "1".to_owned(),
        };
        let mut rules = Rules {
            trace_len: 13,
            max_hops: 1,
            supply: Some(supply),
        };
        let mut content = b"Received: x\r\nSUBJECT: hi\r\n".to_vec();
        rules.apply(&mut content).unwrap();
        assert_eq!(
            String::from_utf8(content).unwrap(),
            "Received: x\r\nDate: Thu, 1 Jan 1970 00:00:00 +0000\r\nFrom: <root@aula.test>\r\n\
             Message-ID: <1@mx.aula.test>\r\nSUBJECT: hi\r\n"
        );
        rules.supply = None;
        let mut content = b"Received: x\r\nSUBJECT: hi\r\n".to_vec();
        rules.apply(&mut content).unwrap();
        assert_eq!(content, b"Received: x\r\nSUBJECT: hi\r\n");
        let mut content = b"Received: x\r\nReceived: a\r\nReceived: b\r\n\r\n".to_vec();
        assert_eq!(rules.apply(&mut content), Err(Refusal::RoutingLoop));
    }
}
