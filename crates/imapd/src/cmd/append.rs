//! APPEND (RFC 3501 §6.3.11, RFC 3502, RFC 4315 §3): each message goes on to the store as it comes.

use bytes::Bytes;
use imap_proto::{Append, AppendNext, Code, Tag};
use mail_rpc::CHUNK_SIZE;
use mail_rpc::convert::uid_set;
use mail_rpc::pb::mailbox::v1 as pb;
use mail_types::UidValidity;
use pb::append_response::Result as Answer;
use pb::mailbox_service_client::MailboxServiceClient;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

use super::store::names;
use crate::answer::{NOT_KNOWN, No};
use crate::appender::Lost;
use crate::conversation::Conversation;

/// Pieces that may wait for the store.
const WAITING: usize = 2;

/// A message under way.
pub(crate) struct Appending {
    tag: Tag,
    mailbox: String,
    begin: Option<pb::AppendBegin>,
    way: Way,
    /// One message has no octets: nothing is to be stored (RFC 3502 §6.3.11).
    is_cancelled: bool,
}

/// How a message gets to the store.
enum Way {
    /// It is small and the only one so far: it goes when it is complete.
    Whole(Vec<u8>),
    /// A stream of its own, as it comes.
    Pieces(Pieces),
}

struct Pieces {
    sender: mpsc::Sender<pb::AppendRequest>,
    answer: JoinHandle<Result<Option<pb::AppendResponse>, Status>>,
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.answer.abort();
    }
}

impl Pieces {
    fn start(mut client: MailboxServiceClient<Channel>) -> Self {
        let (sender, queue) = mpsc::channel(WAITING);
        let answer = tokio::spawn(async move {
            client
                .append(ReceiverStream::new(queue))
                .await?
                .into_inner()
                .message()
                .await
        });
        Self { sender, answer }
    }

    async fn send(&self, begin: &mut Option<pb::AppendBegin>, data: Vec<u8>) {
        let mut rest = Bytes::from(data);
        while !rest.is_empty() {
            let request = pb::AppendRequest {
                begin: begin.take(),
                data: rest.split_to(rest.len().min(CHUNK_SIZE)),
                ..pb::AppendRequest::default()
            };
            // A store that is gone shows at the end.
            let _ = self.sender.send(request).await;
        }
    }

    async fn end(mut self, begin: Option<pb::AppendBegin>) -> Result<Option<Answer>, Status> {
        let request = pb::AppendRequest {
            begin,
            end: true,
            ..pb::AppendRequest::default()
        };
        let _ = self.sender.send(request).await;
        match (&mut self.answer).await {
            Ok(answer) => Ok(answer?.and_then(|answer| answer.result)),
            Err(_) => Ok(None),
        }
    }
}

impl Conversation {
    pub(crate) fn append_begin(&mut self, tag: Tag, append: Append) {
        let way = if append.size <= CHUNK_SIZE as u64 {
            Way::Whole(Vec::new())
        } else {
            Way::Pieces(Pieces::start(self.shared.store.clone()))
        };
        let is_cancelled = append.size == 0;
        let mailbox = append.mailbox.into_string();
        let first = AppendNext {
            flags: append.flags,
            date: append.date,
            size: append.size,
        };
        let begin = self.begin_of(mailbox.clone(), first);
        self.appending = Some(Appending {
            tag,
            mailbox,
            begin: Some(begin),
            way,
            is_cancelled,
        });
    }

    fn begin_of(&self, mailbox: String, message: AppendNext) -> pb::AppendBegin {
        pb::AppendBegin {
            account_id: self.account(),
            mailbox,
            flags: Some(names(message.flags)),
            internal_date: message.date.map(|date| date.seconds),
            internal_date_offset: message.date.map_or(0, |date| date.offset),
            quota_bytes: self.quota(),
        }
    }

    pub(crate) async fn append_next(&mut self, next: AppendNext) {
        let Some(mailbox) = self.appending.as_ref().map(|it| it.mailbox.clone()) else {
            return;
        };
        let is_empty = next.size == 0;
        let begin = self.begin_of(mailbox, next);
        let Some(appending) = &mut self.appending else {
            return;
        };
        appending.is_cancelled |= is_empty;
        if let Way::Whole(data) = &mut appending.way {
            // All of one command are stored together (RFC 3502).
            let data = std::mem::take(data);
            let pieces = Pieces::start(self.shared.store.clone());
            pieces.send(&mut appending.begin, data).await;
            appending.way = Way::Pieces(pieces);
        }
        let before = appending.begin.replace(begin);
        // An empty message has no piece that took its beginning along.
        if let (Some(empty), Way::Pieces(pieces)) = (before, &appending.way) {
            let request = pb::AppendRequest {
                begin: Some(empty),
                ..pb::AppendRequest::default()
            };
            let _ = pieces.sender.send(request).await;
        }
    }

    pub(crate) async fn append_data(&mut self, data: Vec<u8>) {
        let Some(appending) = &mut self.appending else {
            return;
        };
        match &mut appending.way {
            Way::Whole(whole) if whole.is_empty() => *whole = data,
            Way::Whole(whole) => whole.extend_from_slice(&data),
            Way::Pieces(pieces) => pieces.send(&mut appending.begin, data).await,
        }
    }

    pub(crate) async fn append_end(&mut self) {
        let Some(appending) = self.appending.take() else {
            return;
        };
        let Appending {
            tag,
            begin,
            way,
            is_cancelled,
            ..
        } = appending;
        if is_cancelled {
            // What the store has of the others it forgets with their stream.
            let no = No::new(
                Some(Code::Cannot),
                "a message without octets cancels APPEND",
            );
            return no.push(&mut self.out, &tag);
        }
        let answered = match way {
            Way::Pieces(pieces) => pieces.end(begin).await.map_err(Lost::from),
            Way::Whole(data) => {
                let message = pb::AppendRequest {
                    begin,
                    data: data.into(),
                    end: true,
                    ..pb::AppendRequest::default()
                };
                self.shared.appender.append(message).await.map(Some)
            }
        };
        let answer = match answered {
            Ok(answer) => answer,
            Err(Lost::Refused(status)) => return No::from(status).push(&mut self.out, &tag),
            Err(Lost::Unknown) => return self.end(NOT_KNOWN),
        };
        match answer {
            Some(Answer::Appended(appended)) => self.appended(&tag, &appended).await,
            Some(Answer::Failure(failure)) => {
                let mut no = No::from(failure);
                if no.code == Some(Code::NonExistent) {
                    no.code = Some(Code::TryCreate);
                }
                no.push(&mut self.out, &tag);
            }
            None => No::from(Status::internal("no answer came")).push(&mut self.out, &tag),
        }
    }

    async fn appended(&mut self, tag: &Tag, appended: &pb::Appended) {
        if let Some(view) = &mut self.view
            && view.mailbox_id() == appended.mailbox_id
        {
            view.reach(appended.modseq).await;
        }
        self.update(true).await;
        let uids = uid_set(appended.uids.as_ref()).ok();
        let place = UidValidity::new(appended.uid_validity).zip(uids);
        let code = place.map(|(validity, uids)| Code::AppendUid(validity, uids));
        self.ok(tag, code.as_ref(), "APPEND done");
    }
}
