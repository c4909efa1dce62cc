use mail_types::{Domain, EnhancedCode, Outcome};

use super::super::failure::{refused, relayed};
use super::super::{DotStuffer, Envelope, Extensions};
use crate::{Reply, ReplyCode};

/// Commands sent and not yet answered, at most: their replies fit into any receive buffer, so that
/// neither side can wait for ever for the other to read (RFC 2920 §3.1).
const WINDOW: usize = 100;
/// Octets of commands that wait to be sent, at most.
const OUT_BOUND: usize = 16 * 1024;
/// Content up to this size goes along with the envelope by BDAT, before the server has said that
/// it wants it: to send it in vain costs less than a round trip.
const EAGER_SIZE: u64 = 64 * 1024;

/// One message on its way. Two cursors go over the same steps: what is sent, what is answered.
///
/// ```text
///   [RSET] MAIL RCPT… DATA end          [RSET] MAIL RCPT… BDAT
///            ▲           ▲                       ▲          ▲
///            received    sent: never behind `received`, never backwards
/// ```
#[derive(Debug)]
pub(super) struct Transaction {
    envelope: Envelope,
    pace: Pace,
    framing: Framing,
    content: Content,
    sent: usize,
    received: usize,
    mail_refused: Option<Reply>,
    recipients: Vec<Option<Reply>>,
    accepted: usize,
    data_refused: Option<Reply>,
    end: Option<Reply>,
}

/// How commands go out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// A transaction of before may still be open on the server.
    pub(super) reset: bool,
    /// The server takes groups of commands.
    pub(super) pipelining: bool,
}

/// How content goes out.
#[derive(Debug)]
enum Framing {
    Bdat { left: u64, eager: bool },
    Data(DotStuffer),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// Not yet asked for.
    Waiting,
    /// The owner hands it in.
    Open,
    /// All handed in, or never wanted.
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Reset,
    Mail,
    Rcpt(usize),
    Data,
    /// The end of the content, or BDAT with all of it.
    End,
}

/// What a reply did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// It goes on.
    On,
    /// The connection cannot be used any more: the server answered before it had all content.
    Early,
    /// Nothing had been asked.
    Unsolicited,
}

/// The content was not what had been announced.
#[derive(Debug, Clone, Copy)]
pub(super) struct WrongSize;

impl Transaction {
    pub(super) fn new(envelope: Envelope, pace: Pace, chunking: bool) -> Self {
        let framing = if chunking {
            Framing::Bdat {
                left: envelope.size,
                eager: pace.pipelining && envelope.size <= EAGER_SIZE,
            }
        } else {
            Framing::Data(DotStuffer::default())
        };
        Self {
            recipients: vec![None; envelope.recipients.len()],
            envelope,
            pace,
            framing,
            content: Content::Waiting,
            sent: 0,
            received: 0,
            mail_refused: None,
            accepted: 0,
            data_refused: None,
            end: None,
        }
    }

    /// Writes what may be sent now. True if the content is to be handed in from now on.
    pub(super) fn pump(&mut self, offered: &Extensions, out: &mut Vec<u8>) -> bool {
        while let Some(step) = self.step(self.sent) {
            let waiting = self.sent - self.received;
            let room = self.pace.pipelining && waiting < WINDOW && out.len() < OUT_BOUND;
            if waiting > 0 && !room || self.is_hopeless() {
                return false;
            }
            match step {
                Step::Reset => out.extend_from_slice(b"RSET\r\n"),
                Step::Mail => self.envelope.write_mail(offered, out),
                Step::Rcpt(index) => {
                    if let Some(recipient) = self.envelope.recipients.get(index) {
                        recipient.write_rcpt(offered, out);
                    }
                }
                Step::Data => out.extend_from_slice(b"DATA\r\n"),
                Step::End => return self.pump_end(waiting, out),
            }
            self.sent += 1;
        }
        false
    }

    fn pump_end(&mut self, waiting: usize, out: &mut Vec<u8>) -> bool {
        let Framing::Bdat { left, eager } = self.framing else {
            return false;
        };
        if self.content != Content::Waiting || (waiting > 0 && !eager) {
            return false;
        }
        out.extend_from_slice(format!("BDAT {left} LAST\r\n").as_bytes());
        if left == 0 {
            self.content = Content::Done;
            self.sent += 1;
            return false;
        }
        self.content = Content::Open;
        true
    }

    /// Takes content from the owner.
    pub(super) fn push_content(
        &mut self,
        data: &[u8],
        last: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), WrongSize> {
        if self.content != Content::Open {
            return Ok(());
        }
        match &mut self.framing {
            Framing::Bdat { left, .. } => {
                *left = left.checked_sub(data.len() as u64).ok_or(WrongSize)?;
                if last && *left > 0 {
                    return Err(WrongSize);
                }
                out.extend_from_slice(data);
            }
            Framing::Data(stuffer) => {
                stuffer.push(data, out);
                if last {
                    std::mem::take(stuffer).finish(out);
                }
            }
        }
        if last {
            self.content = Content::Done;
            self.sent += 1;
        }
        Ok(())
    }

    /// Takes a reply. [`Self::pump`] behind it sends on. True with [`Progress::On`] if the content
    /// is to be handed in from now on.
    pub(super) fn receive(&mut self, reply: Reply, out: &mut Vec<u8>) -> (Progress, bool) {
        let Some(step) = self.step(self.received) else {
            return (Progress::Unsolicited, false);
        };
        if self.received == self.sent {
            if self.content != Content::Open {
                return (Progress::Unsolicited, false);
            }
            // RFC 5321 §4.2.5: it may have found out in the middle that it cannot take it.
            self.end = Some(reply);
            return (Progress::Early, false);
        }
        self.received += 1;
        let taken = reply.code().class() == mail_types::StatusClass::Success;
        let intermediate = (300..400).contains(&reply.code().get());
        match step {
            Step::Reset => {}
            Step::Mail if taken && !intermediate => {}
            Step::Mail => self.mail_refused = Some(reply),
            Step::Rcpt(index) => {
                let accepted = taken && !intermediate;
                self.accepted += usize::from(accepted);
                if let Some(place) = self.recipients.get_mut(index).filter(|_| !accepted) {
                    *place = Some(reply);
                }
            }
            Step::Data if intermediate => return (Progress::On, self.go_ahead(out)),
            Step::Data => {
                self.data_refused = Some(reply);
                self.content = Content::Done;
            }
            Step::End => self.end = Some(reply),
        }
        (Progress::On, false)
    }

    /// 354 came.
    fn go_ahead(&mut self, out: &mut Vec<u8>) -> bool {
        if self.accepted > 0 && self.mail_refused.is_none() {
            self.content = Content::Open;
            return true;
        }
        // RFC 2920 §3.1: nobody is there to get it, and the server waits for a content all the
        // same; it gets an empty one.
        out.extend_from_slice(b".\r\n");
        self.content = Content::Done;
        self.sent += 1;
        false
    }

    /// True if there is nothing more to send and nothing to wait for.
    pub(super) fn is_finished(&self) -> bool {
        let all_answered = self.received == self.sent && self.content != Content::Open;
        all_answered && (self.step(self.sent).is_none() || self.is_hopeless())
    }

    /// Nobody can get the message any more: MAIL, all RCPT or DATA were refused.
    fn is_hopeless(&self) -> bool {
        let rcpt_answered = self.received >= self.end_position() - usize::from(self.by_data());
        self.mail_refused.is_some()
            || self.data_refused.is_some()
            || (rcpt_answered && self.accepted == 0)
    }

    /// True if the server may think that the transaction is still open: without MAIL there is
    /// none, and taking the message ends it (RFC 5321 §4.1.1.4); behind a refused BDAT it needs
    /// RSET (RFC 3030 §2).
    pub(super) fn leaves_traces(&self) -> bool {
        let taken = self.accepted > 0 && self.end.as_ref().is_some_and(|end| self.is_taken(end));
        !taken && (self.mail_refused.is_none() || self.accepted > 0)
    }

    /// True if the server has said nothing on this message.
    pub(super) fn is_unanswered(&self) -> bool {
        self.received <= usize::from(self.pace.reset)
    }

    pub(super) fn content_is_open(&self) -> bool {
        self.content == Content::Open
    }

    /// The step whose reply is awaited.
    pub(super) fn awaited(&self) -> Option<Step> {
        self.step(self.received)
            .filter(|_| self.received < self.sent)
    }

    /// One outcome for each recipient; `pending` for those on whom the server has not decided.
    pub(super) fn outcomes(&self, peer: &Domain, pending: &Outcome) -> Vec<Outcome> {
        let common = self.mail_refused.as_ref();
        let result = self.data_refused.as_ref().or(self.end.as_ref());
        let outcome = |refusal: &Option<Reply>| {
            if let Some(reply) = common {
                refused(reply, None, peer)
            } else if let Some(reply) = refusal {
                refused(reply, recipient_status(reply), peer)
            } else {
                match result {
                    None => pending.clone(),
                    Some(reply) if self.is_taken(reply) => relayed(reply, peer),
                    Some(reply) => refused(reply, None, peer),
                }
            }
        };
        self.recipients.iter().map(outcome).collect()
    }

    fn is_taken(&self, reply: &Reply) -> bool {
        let complete = self.content == Content::Done && self.data_refused.is_none();
        complete && (200..300).contains(&reply.code().get())
    }

    fn by_data(&self) -> bool {
        matches!(self.framing, Framing::Data(_))
    }

    fn end_position(&self) -> usize {
        let before = usize::from(self.pace.reset) + 1 + self.recipients.len();
        before + usize::from(self.by_data())
    }

    fn step(&self, position: usize) -> Option<Step> {
        let Some(position) = position.checked_sub(usize::from(self.pace.reset)) else {
            return Some(Step::Reset);
        };
        let recipients = self.recipients.len();
        match position {
            0 => Some(Step::Mail),
            _ if position <= recipients => Some(Step::Rcpt(position - 1)),
            _ if position == recipients + 1 && self.by_data() => Some(Step::Data),
            _ if position == recipients + 1 + usize::from(self.by_data()) => Some(Step::End),
            _ => None,
        }
    }
}

/// RFC 5321 §4.5.3.1.10: 452, and with old servers 552, in answer to RCPT means "too many
/// recipients", which is transient; with an enhanced code it means what that says.
fn recipient_status(reply: &Reply) -> Option<EnhancedCode> {
    let full = matches!(reply.code(), ReplyCode::NO_ROOM | ReplyCode::TOO_LARGE);
    (full && reply.enhanced().is_none()).then_some(EnhancedCode::TOO_MANY_RECIPIENTS)
}
