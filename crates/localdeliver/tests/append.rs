//! APPEND where memory is short.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{Rig, eventually};
use mail_rpc::pb::mailbox::v1 as pb;
use pb::append_response::Result as Answer;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

const PIECE: usize = 64 * 1024;

fn piece(token: u64, octets: usize, begins: bool, end: bool) -> pb::AppendRequest {
    let begin = pb::AppendBegin {
        account_id: 5,
        mailbox: "INBOX".to_owned(),
        ..pb::AppendBegin::default()
    };
    pb::AppendRequest {
        token,
        begin: begins.then_some(begin),
        data: Bytes::from(vec![b'x'; octets]),
        end,
        ..pb::AppendRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_one_stream_wait_for_memory_each_by_itself() {
    let config = "[localdeliver]\nmax_memory = \"2MiB\"\nmax_message_size = \"1MiB\"\n\
                  [imapd]\nmax_message_size = \"1MiB\"\n";
    let rig = Rig::with(config).await;
    let mut daemon = rig.daemon();
    let mut client = rig.client().await;
    // A client that stops in the middle of its message holds nearly all memory: 15 times 65 KiB.
    let (stalled, outgoing) = mpsc::channel(16);
    for n in 0..15 {
        stalled.send(piece(1, PIECE, n == 0, false)).await.unwrap();
    }
    let _stalled_answers = client.append(ReceiverStream::new(outgoing)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;

    let (messages, outgoing) = mpsc::channel(16);
    for token in 1..6 {
        messages
            .send(piece(token, PIECE - 1024, true, true))
            .await
            .unwrap();
    }
    // Behind those that wait one that needs no memory.
    messages.send(piece(6, 0, true, true)).await.unwrap();
    let answers = client.append(ReceiverStream::new(outgoing)).await.unwrap();
    let mut answers = answers.into_inner();
    let first = tokio::time::timeout(Duration::from_secs(10), answers.message());
    let first = first.await.unwrap();
    assert_eq!(first.unwrap().unwrap().token, 6);
    let early = tokio::time::timeout(Duration::from_millis(300), answers.message());
    assert!(early.await.is_err(), "there was memory after all");

    // The client goes: all of them are stored.
    drop(stalled);
    let mut tokens = Vec::new();
    for _ in 0..5 {
        let answer = answers.message().await.unwrap().unwrap();
        assert!(matches!(answer.result, Some(Answer::Appended(_))));
        tokens.push(answer.token);
    }
    tokens.sort_unstable();
    assert_eq!(tokens, [1, 2, 3, 4, 5]);
    let request = pb::GetStatusRequest {
        account_id: 5,
        names: vec!["INBOX".to_owned()],
    };
    eventually("all six are there", async || {
        let answer = client.get_status(request.clone()).await.unwrap();
        answer.into_inner().statuses[0].messages == 6
    })
    .await;
    daemon.kill().await.unwrap();
}
