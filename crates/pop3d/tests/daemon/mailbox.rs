//! The fake mailbox as a service.

use mail_rpc::CHUNK_SIZE;
use mail_rpc::packed::{Packer, Value};
use mail_rpc::pb::mailbox::v1 as pb;
use pb::fetch_response::Item;
use pb::mailbox_service_server::MailboxService;
use pb::watch_event::Event;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::world::Mailbox;

impl Mailbox {
    fn snapshot(&self) -> Vec<Event> {
        let mut state = self.state();
        if state.locked {
            return vec![Event::Failure(pb::Failure {
                kind: pb::failure::Kind::Locked.into(),
                detail: "locked".to_owned(),
            })];
        }
        state.locked = true;
        // Two frames, as a large mailbox has them.
        let (first, second) = state.messages.split_at(state.messages.len() / 2);
        let frame = |messages: &[(u32, Vec<u8>)]| pb::Snapshot {
            uids: messages.iter().map(|(uid, _)| *uid).collect(),
            sizes: messages.iter().map(|(_, mail)| mail.len() as u64).collect(),
            ..pb::Snapshot::default()
        };
        let facts = pb::Snapshot {
            mailbox_id: 3,
            name: "INBOX".to_owned(),
            uid_validity: state.uid_validity,
            ..frame(first)
        };
        vec![
            Event::Snapshot(facts),
            Event::Snapshot(frame(second)),
            Event::SnapshotEnd(pb::SnapshotEnd {}),
        ]
    }

    fn items(&self, request: &pb::FetchRequest) -> Vec<Item> {
        if !request.pieces.is_empty() {
            return self.packed(request);
        }
        let mut state = self.state();
        let [uid, high] = request.uids.as_ref().unwrap().bounds[..] else {
            panic!("one message at a time");
        };
        assert_eq!((uid, request.account_id, request.mailbox_id), (high, 7, 3));
        let range = request.content.unwrap();
        state.fetched.push((uid, range.offset, range.length));
        let set = |uid| {
            Some(pb::UidSet {
                bounds: vec![uid, uid],
            })
        };
        if uid == state.damaged {
            let damaged = set(uid);
            return vec![Item::Done(pb::FetchDone {
                damaged,
                ..pb::FetchDone::default()
            })];
        }
        let Some((_, mail)) = state.messages.iter().find(|message| message.0 == uid) else {
            let missing = set(uid);
            return vec![Item::Done(pb::FetchDone {
                missing,
                ..pb::FetchDone::default()
            })];
        };
        let start = usize::try_from(range.offset).unwrap().min(mail.len());
        let end = match usize::try_from(range.length).unwrap() {
            0 => mail.len(),
            length => (start + length).min(mail.len()),
        };
        let pieces: Vec<_> = mail[start..end].chunks(CHUNK_SIZE).collect();
        let content = pieces.iter().enumerate().map(|(at, piece)| {
            Item::Content(pb::Content {
                uid,
                data: piece.to_vec().into(),
                last: at + 1 == pieces.len(),
            })
        });
        content
            .chain([Item::Done(pb::FetchDone::default())])
            .collect()
    }
}

impl Mailbox {
    /// Whole messages, in two answers.
    fn packed(&self, request: &pb::FetchRequest) -> Vec<Item> {
        let mut state = self.state();
        assert_eq!((request.account_id, request.mailbox_id), (7, 3));
        assert_eq!(request.pieces.len(), 1);
        assert_eq!(request.pieces[0].kind(), pb::piece::Kind::Section);
        let bounds = &request.uids.as_ref().unwrap().bounds;
        let asked = |uid| {
            let mut ranges = bounds.chunks(2);
            ranges.any(|range| (range[0]..=range[1]).contains(&uid))
        };
        let damaged = state.damaged;
        let messages = state.messages.iter();
        let there: Vec<_> = messages
            .filter(|(uid, _)| asked(*uid) && *uid != damaged)
            .collect();
        let answers = there
            .chunks(there.len().div_ceil(2).max(1))
            .map(|messages| {
                let mut packer = Packer::default();
                for (uid, mail) in messages {
                    packer.begin(*uid);
                    packer.push(Value::Octets(mail));
                }
                let data = packer.take();
                Item::Packed(pb::Packed { data })
            });
        let done = Item::Done(pb::FetchDone::default());
        let answers = answers.chain([done]).collect();
        state.packed.push(bounds.clone());
        answers
    }
}

type Stream<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl MailboxService for Mailbox {
    type WatchStream = Stream<pb::WatchEvent>;
    type FetchStream = Stream<pb::FetchResponse>;
    type AppendStream = Stream<pb::AppendResponse>;

    async fn watch(
        &self,
        request: Request<pb::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        assert_eq!((request.account_id, request.name.as_str()), (7, "INBOX"));
        assert!(request.pop3_lock);
        let (events, stream) = mpsc::channel(16);
        let mailbox = self.clone();
        tokio::spawn(async move {
            let snapshot = mailbox.snapshot();
            let is_locked = matches!(snapshot[0], Event::Failure(_));
            for event in snapshot {
                let _ = events.send(Ok(pb::WatchEvent { event: Some(event) })).await;
            }
            if !is_locked {
                tokio::select! {
                    () = events.closed() => {}
                    () = mailbox.restart.notified() => {}
                }
                mailbox.state().locked = false;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn fetch(
        &self,
        request: Request<Streaming<pb::FetchRequest>>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        let mut requests = request.into_inner();
        let (responses, stream) = mpsc::channel(16);
        let mailbox = self.clone();
        tokio::spawn(async move {
            while let Some(Ok(request)) = requests.next().await {
                for item in mailbox.items(&request) {
                    let (id, item) = (request.id, Some(item));
                    if responses
                        .send(Ok(pb::FetchResponse { id, item }))
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn expunge(
        &self,
        request: Request<pb::ExpungeRequest>,
    ) -> Result<Response<pb::ExpungeResponse>, Status> {
        let request = request.into_inner();
        assert!(!request.only_deleted && (request.account_id, request.mailbox_id) == (7, 3));
        let bounds = request.uids.unwrap().bounds;
        assert!(!bounds.is_empty(), "that would be all");
        let mut state = self.state();
        if state.expunge_fails {
            let failure = Some(pb::Failure {
                kind: pb::failure::Kind::Temporary.into(),
                detail: "faked".to_owned(),
            });
            return Ok(Response::new(pb::ExpungeResponse {
                failure,
                ..pb::ExpungeResponse::default()
            }));
        }
        let goes = |uid| {
            bounds
                .chunks(2)
                .any(|range| (range[0]..=range[1]).contains(&uid))
        };
        state.messages.retain(|(uid, _)| !goes(*uid));
        Ok(Response::new(pb::ExpungeResponse::default()))
    }

    async fn append(
        &self,
        _: Request<Streaming<pb::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        Err(Status::unimplemented("pop3d has no use for it"))
    }

    async fn store(
        &self,
        _: Request<pb::StoreRequest>,
    ) -> Result<Response<pb::StoreResponse>, Status> {
        Err(Status::unimplemented("pop3d has no use for it"))
    }

    async fn copy(
        &self,
        _: Request<pb::CopyRequest>,
    ) -> Result<Response<pb::CopyResponse>, Status> {
        Err(Status::unimplemented("pop3d has no use for it"))
    }

    async fn search(
        &self,
        _: Request<pb::SearchRequest>,
    ) -> Result<Response<pb::SearchResponse>, Status> {
        Err(Status::unimplemented("pop3d has no use for it"))
    }

    async fn list_mailboxes(
        &self,
        _: Request<pb::ListMailboxesRequest>,
    ) -> Result<Response<pb::ListMailboxesResponse>, Status> {
        Err(Status::unimplemented("pop3d has no use for it"))
    }

    async fn get_status(
        &self,
        _: Request<pb::GetStatusRequest>,
    ) -> Result<Response<pb::GetStatusResponse>, Status> {
        Err(Status::unimplemented("pop3d has no use for it"))
    }

    async fn create_mailbox(
        &self,
        _: Request<pb::CreateMailboxRequest>,
    ) -> Result<Response<pb::MailboxResponse>, Status> {
        Err(Status::unimplemented("pop3d has no use for it"))
    }

    async fn delete_mailbox(
        &self,
        _: Request<pb::DeleteMailboxRequest>,
    ) -> Result<Response<pb::MailboxResponse>, Status> {
        Err(Status::unimplemented("pop3d has no use for it"))
    }

    async fn rename_mailbox(
        &self,
        _: Request<pb::RenameMailboxRequest>,
    ) -> Result<Response<pb::MailboxResponse>, Status> {
        Err(Status::unimplemented("pop3d has no use for it"))
    }

    async fn subscribe(
        &self,
        _: Request<pb::SubscribeRequest>,
    ) -> Result<Response<pb::MailboxResponse>, Status> {
        Err(Status::unimplemented("pop3d has no use for it"))
    }
}
