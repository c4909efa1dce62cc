//! APPEND (RFC 3501 §6.3.11, RFC 3502, RFC 4315 §3): each message goes on to the store as it comes.

use bytes::Bytes;
use imap_proto::{Append, AppendNext, Code, Tag};
use mail_rpc::CHUNK_SIZE;
use mail_rpc::convert::uid_set;
use mail_rpc::pb::mailbox::v1 as pb;
use mail_types::UidValidity;
use pb::append_response::Result as Answer;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::store::names;
use crate::answer::No;
use crate::conversation::Conversation;

/// Pieces that may wait for the store.
const WAITING: usize = 2;

/// A message under way.
pub(crate) struct Appending {
    tag: Tag,
    mailbox: String,
    begin: Option<pb::AppendBegin>,
    pieces: mpsc::Sender<pb::AppendRequest>,
    answer: JoinHandle<Result<Option<pb::AppendResponse>, Status>>,
}

impl Drop for Appending {
    fn drop(&mut self) {
        self.answer.abort();
    }
}

impl Conversation {
    pub(crate) fn append_begin(&mut self, tag: Tag, append: Append) {
        let (pieces, queue) = mpsc::channel(WAITING);
        let mut client = self.shared.store.clone();
        let answer = tokio::spawn(async move {
            client
                .append(ReceiverStream::new(queue))
                .await?
                .into_inner()
                .message()
                .await
        });
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
            pieces,
            answer,
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
        let begin = self.begin_of(mailbox, next);
        let Some(appending) = &mut self.appending else {
            return;
        };
        // An empty message has no piece that took its beginning along.
        if let Some(empty) = appending.begin.replace(begin) {
            let request = pb::AppendRequest {
                begin: Some(empty),
                ..pb::AppendRequest::default()
            };
            let _ = appending.pieces.send(request).await;
        }
    }

    pub(crate) async fn append_data(&mut self, data: Vec<u8>) {
        let Some(appending) = &mut self.appending else {
            return;
        };
        let mut rest = Bytes::from(data);
        while !rest.is_empty() {
            let request = pb::AppendRequest {
                begin: appending.begin.take(),
                data: rest.split_to(rest.len().min(CHUNK_SIZE)),
                ..pb::AppendRequest::default()
            };
            // A store that is gone shows at the end.
            let _ = appending.pieces.send(request).await;
        }
    }

    pub(crate) async fn append_end(&mut self) {
        let Some(mut appending) = self.appending.take() else {
            return;
        };
        let tag = appending.tag.clone();
        let request = pb::AppendRequest {
            begin: appending.begin.take(),
            end: true,
            ..pb::AppendRequest::default()
        };
        let _ = appending.pieces.send(request).await;
        let answer = match (&mut appending.answer).await {
            Ok(Ok(answer)) => answer.and_then(|answer| answer.result),
            Ok(Err(status)) => return No::from(status).push(&mut self.out, &tag),
            Err(_) => None,
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
