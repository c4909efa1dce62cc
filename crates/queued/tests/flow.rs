//! Mail on its way through the queue, over real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::agent::{delivered, failed, later, text};
use common::submit::{MESSAGE, envelope};
use common::{Rig, settings};
use mail_rpc::pb::queue::v1 as pb;
use pb::Transport::{Local, Smtp};
use queue_store::MemStore;

async fn rig() -> Rig {
    let rig = Rig::start(settings(), Arc::new(MemStore::new())).await;
    rig.directory.account("lois@aula.test", 7);
    rig.directory.account("ana@aula.test", 8);
    rig
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_goes_from_one_account_to_the_other() {
    let rig = rig().await;
    let mut agent = rig.agent(Local, 10).await;
    let mut submitter = rig.submitter().await;
    let id = submitter
        .accepted(envelope("ana@aula.test", &["Lois@aula.test"]), MESSAGE)
        .await;
    let task = agent.task().await;
    assert_eq!(task.queue_id, id);
    assert_eq!(task.content.as_deref(), Some(MESSAGE));
    assert_eq!(task.size, MESSAGE.len() as u64);
    assert_eq!(task.attempt, 1);
    assert!(task.accepted_at > 0);
    let recipient = &task.recipients[0];
    assert_eq!((recipient.index, recipient.account_id), (0, 7));
    assert_eq!(recipient.quota_bytes, 7000);
    assert_eq!(rig.count().await.active, 1);
    agent.report(&task, &delivered()).await;
    rig.empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_message_is_read_in_pieces() {
    let rig = rig().await;
    let mut agent = rig.agent(Local, 10).await;
    let mut submitter = rig.submitter().await;
    for size in [64 * 1024, 64 * 1024 + 1, 300_000] {
        let content: Vec<u8> = (0..size).map(|n: u32| b'a' + (n % 23) as u8).collect();
        let id = submitter
            .accepted(envelope("ana@aula.test", &["lois@aula.test"]), &content)
            .await;
        let task = agent.task().await;
        assert_eq!(task.size, content.len() as u64);
        assert_eq!(task.content.is_some(), content.len() <= 64 * 1024);
        assert_eq!(agent.read_content(id).await, content);
        agent.report(&task, &delivered()).await;
    }
    rig.empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_message_is_a_message() {
    let rig = rig().await;
    let mut agent = rig.agent(Local, 10).await;
    let mut submitter = rig.submitter().await;
    submitter
        .accepted(envelope("ana@aula.test", &["lois@aula.test"]), b"")
        .await;
    let task = agent.task().await;
    assert_eq!(task.content.as_deref(), Some(&b""[..]));
    agent.report(&task, &delivered()).await;
    rig.empty().await;
}

// RFC 3464, RFC 5321 §6.1
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_user_is_told_to_the_sender() {
    let rig = rig().await;
    let mut agent = rig.agent(Local, 10).await;
    let mut submitter = rig.submitter().await;
    submitter
        .accepted(envelope("ana@aula.test", &["nobody@aula.test"]), MESSAGE)
        .await;
    let report = agent.task().await;
    assert_eq!(report.reverse_path.as_ref().unwrap().address, None);
    assert_eq!(report.recipients[0].account_id, 8);
    let text = text(&report);
    for part in [
        "To: <ana@aula.test>",
        "Final-Recipient: rfc822; nobody@aula.test",
        "Action: failed",
        "Status: 5.1.1",
        "Hello Lois",
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    agent.report(&report, &delivered()).await;
    rig.empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_report_tells_of_all_that_failed_in_a_round() {
    let rig = rig().await;
    let mut local = rig.agent(Local, 10).await;
    let mut smtp = rig.agent(Smtp, 10).await;
    let mut submitter = rig.submitter().await;
    let to = [
        "x@remote.test",
        "y@remote.test",
        "nobody@aula.test",
        "lois@aula.test",
    ];
    submitter
        .accepted(envelope("ana@aula.test", &to), MESSAGE)
        .await;
    let mine = local.task().await;
    local.report(&mine, &delivered()).await;
    let task = smtp.task().await;
    assert_eq!(task.recipients.len(), 2, "one destination, one task");
    let refuse_y = |index| if index == 1 { failed() } else { delivered() };
    smtp.report_each(&task, refuse_y, false).await;
    let report = local.task().await;
    let text = text(&report);
    assert!(text.contains("rfc822; y@remote.test") && text.contains("rfc822; nobody@aula.test"));
    assert!(text.contains("Remote-MTA: dns; mx.remote.test"));
    assert!(!text.contains("rfc822; x@remote.test") && !text.contains("rfc822; lois@aula.test"));
    local.report(&report, &delivered()).await;
    rig.empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_about_mail_from_nobody() {
    let rig = rig().await;
    let mut agent = rig.agent(Local, 10).await;
    let mut submitter = rig.submitter().await;
    submitter
        .accepted(envelope("", &["nobody@aula.test"]), MESSAGE)
        .await;
    rig.empty().await;
    assert!(agent.is_idle(Duration::from_millis(200)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_postmaster_hears_of_it_if_he_wants_to() {
    let mut settings = settings();
    settings.postmaster = Some("lois@aula.test".parse().unwrap());
    let rig = Rig::start(settings, Arc::new(MemStore::new())).await;
    rig.directory.account("lois@aula.test", 7);
    let mut agent = rig.agent(Local, 10).await;
    let mut submitter = rig.submitter().await;
    submitter
        .accepted(envelope("", &["nobody@aula.test"]), MESSAGE)
        .await;
    let report = agent.task().await;
    assert_eq!(report.recipients[0].address, "lois@aula.test");
    // It cannot be delivered either: that is the end of it.
    agent.report(&report, &failed()).await;
    rig.empty().await;
    assert!(agent.is_idle(Duration::from_millis(200)).await);
}

// RFC 3461 §4.1
#[tokio::test(flavor = "multi_thread")]
async fn senders_are_told_what_they_asked_for() {
    let rig = rig().await;
    let mut local = rig.agent(Local, 10).await;
    let mut smtp = rig.agent(Smtp, 10).await;
    let mut submitter = rig.submitter().await;
    let mut never = envelope("ana@aula.test", &["x@remote.test"]);
    never.recipients[0].notify = Some(pb::Notify {
        never: true,
        ..pb::Notify::default()
    });
    submitter.accepted(never, MESSAGE).await;
    let task = smtp.task().await;
    assert!(task.recipients[0].notify.as_ref().unwrap().never);
    smtp.report(&task, &failed()).await;
    rig.empty().await;

    let mut success = envelope("ana@aula.test", &["lois@aula.test"]);
    success.envelope_id = Some("QQ314159".into());
    success.recipients[0].original = Some("rfc822;Lois@aula.test".into());
    success.recipients[0].notify = Some(pb::Notify {
        success: true,
        ..pb::Notify::default()
    });
    submitter.accepted(success, MESSAGE).await;
    let task = local.task().await;
    local.report(&task, &delivered()).await;
    let report = local.task().await;
    let text = text(&report);
    for part in [
        "Action: delivered",
        "Original-Envelope-Id: QQ314159",
        "Original-Recipient: rfc822; Lois@aula.test",
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert!(
        !text.contains("Hello Lois"),
        "only failures return the text"
    );
    local.report(&report, &delivered()).await;
    rig.empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aliases_are_expanded_and_nobody_gets_it_twice() {
    let rig = rig().await;
    rig.directory.account("leo@aula.test", 9);
    rig.directory.alias(
        "team@aula.test",
        &["lois@aula.test", "all@aula.test", "x@remote.test"],
    );
    rig.directory
        .alias("all@aula.test", &["leo@aula.test", "LOIS@aula.test"]);
    let mut local = rig.agent(Local, 10).await;
    let mut smtp = rig.agent(Smtp, 10).await;
    let mut submitter = rig.submitter().await;
    let to = ["team@aula.test", "lois@aula.test"];
    submitter
        .accepted(envelope("ana@aula.test", &to), MESSAGE)
        .await;
    let task = local.task().await;
    let mut accounts: Vec<_> = task.recipients.iter().map(|r| r.account_id).collect();
    accounts.sort_unstable();
    assert_eq!(accounts, [7, 9]);
    local.report(&task, &delivered()).await;
    let task = smtp.task().await;
    assert_eq!(task.recipients[0].address, "x@remote.test");
    assert_eq!(
        task.recipients[0].original.as_deref(),
        Some("rfc822;team@aula.test")
    );
    let target = task.destination.as_ref().unwrap().target.as_ref().unwrap();
    assert_eq!(
        *target,
        pb::smtp_destination::Target::Domain("remote.test".into())
    );
    smtp.report(&task, &delivered()).await;
    rig.empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circle_of_aliases_is_told_to_the_sender() {
    let rig = rig().await;
    rig.directory.alias("a@aula.test", &["b@aula.test"]);
    rig.directory
        .alias("b@aula.test", &["a@aula.test", "lois@aula.test"]);
    let mut local = rig.agent(Local, 10).await;
    let mut submitter = rig.submitter().await;
    submitter
        .accepted(envelope("ana@aula.test", &["a@aula.test"]), MESSAGE)
        .await;
    let task = local.task().await;
    assert_eq!(task.recipients.len(), 1);
    assert_eq!(task.recipients[0].account_id, 7);
    local.report(&task, &delivered()).await;
    let report = local.task().await;
    assert!(text(&report).contains("Status: 5.4.6"), "{}", text(&report));
    local.report(&report, &delivered()).await;
    rig.empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_for_now_is_tried_again() {
    let rig = rig().await;
    let mut smtp = rig.agent(Smtp, 10).await;
    let mut submitter = rig.submitter().await;
    let id = submitter
        .accepted(envelope("ana@aula.test", &["x@remote.test"]), MESSAGE)
        .await;
    for attempt in 1..=3 {
        let task = smtp.task().await;
        assert_eq!((task.queue_id, task.attempt), (id, attempt));
        assert_eq!(task.content.as_deref(), Some(MESSAGE));
        smtp.report(&task, &later()).await;
    }
    let task = smtp.task().await;
    smtp.report(&task, &delivered()).await;
    rig.empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_old_goes_back() {
    let mut settings = settings();
    settings.lifetime = Duration::from_millis(500);
    settings.delay_warning = Duration::from_millis(60);
    settings.min_attempts = 3;
    let rig = Rig::start(settings, Arc::new(MemStore::new())).await;
    rig.directory.account("ana@aula.test", 8);
    let mut smtp = rig.agent(Smtp, 10).await;
    let mut local = rig.agent(Local, 10).await;
    let mut submitter = rig.submitter().await;
    submitter
        .accepted(envelope("ana@aula.test", &["x@remote.test"]), MESSAGE)
        .await;
    let fail = async {
        loop {
            let task = smtp.task().await;
            smtp.report(&task, &later()).await;
        }
    };
    let hear = async {
        let warning = local.task().await;
        let said = text(&warning);
        assert!(
            said.contains("Action: delayed") && said.contains("Status: 4.4.1"),
            "{said}"
        );
        local.report(&warning, &delivered()).await;
        let report = local.task().await;
        let said = text(&report);
        assert!(
            said.contains("Action: failed") && said.contains("Status: 5.4.7"),
            "{said}"
        );
        local.report(&report, &delivered()).await;
        rig.empty().await;
    };
    tokio::select! {
        () = fail => {}
        () = hear => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_goes_away_gives_its_tasks_back() {
    let rig = rig().await;
    let mut submitter = rig.submitter().await;
    let mut first = rig.agent(Local, 10).await;
    let id = submitter
        .accepted(envelope("ana@aula.test", &["lois@aula.test"]), MESSAGE)
        .await;
    let task = first.task().await;
    drop(first);
    let mut second = rig.agent(Local, 10).await;
    let again = second.task().await;
    assert_eq!((again.queue_id, again.attempt), (id, 1));
    assert_eq!(again.recipients, task.recipients);
    second.report(&again, &delivered()).await;
    rig.empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_get_no_more_than_they_asked_for() {
    let rig = rig().await;
    let mut submitter = rig.submitter().await;
    let mut one = rig.agent(Local, 2).await;
    for _ in 0..5 {
        submitter
            .accepted(envelope("ana@aula.test", &["lois@aula.test"]), MESSAGE)
            .await;
    }
    let first = [one.task().await, one.task().await];
    assert!(one.is_idle(Duration::from_millis(150)).await);
    let mut two = rig.agent(Local, 2).await;
    let second = [two.task().await, two.task().await];
    one.report(&first[0], &delivered()).await;
    let last = one.task().await;
    for task in [&first[1], &last] {
        one.report(task, &delivered()).await;
    }
    for task in &second {
        two.report(task, &delivered()).await;
    }
    rig.empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn senders_take_turns() {
    let rig = rig().await;
    let mut submitter = rig.submitter().await;
    for _ in 0..30 {
        submitter
            .accepted(envelope("bulk@else.test", &["lois@aula.test"]), MESSAGE)
            .await;
    }
    submitter
        .accepted(envelope("ana@aula.test", &["lois@aula.test"]), MESSAGE)
        .await;
    let mut agent = rig.agent(Local, 1).await;
    let mut turn = 0;
    for n in 1..=31 {
        let task = agent.task().await;
        if task.reverse_path.as_ref().unwrap().address.as_deref() == Some("ana@aula.test") {
            turn = n;
        }
        agent.report(&task, &delivered()).await;
    }
    assert!((1..=2).contains(&turn), "the turn was {turn}");
    rig.empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_is_down_is_asked_once_at_a_time() {
    let mut settings = settings();
    settings.retry_min = Duration::from_millis(300);
    let rig = Rig::start(settings, Arc::new(MemStore::new())).await;
    let mut submitter = rig.submitter().await;
    for n in 0..5 {
        let to = format!("x{n}@remote.test");
        submitter
            .accepted(envelope("ana@aula.test", &[&to]), MESSAGE)
            .await;
    }
    submitter
        .accepted(envelope("ana@aula.test", &["x@other.test"]), MESSAGE)
        .await;
    let mut agent = rig.agent(Smtp, 1).await;
    let mut down = None;
    let mut other = false;
    for _ in 0..2 {
        let task = agent.task().await;
        if task.recipients[0].address == "x@other.test" {
            other = true;
            agent.report(&task, &delivered()).await;
        } else {
            down = Some(task.queue_id);
            agent.report_each(&task, |_| later(), true).await;
        }
    }
    assert!(
        other && down.is_some(),
        "one that is down does not stop the other"
    );
    assert!(agent.is_idle(Duration::from_millis(150)).await);
    for _ in 0..5 {
        let task = agent.task().await;
        agent.report(&task, &delivered()).await;
    }
    rig.empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_is_accepted_while_the_directory_is_away() {
    let rig = rig().await;
    rig.directory.set_unavailable(true);
    let mut submitter = rig.submitter().await;
    submitter
        .accepted(envelope("ana@aula.test", &["lois@aula.test"]), MESSAGE)
        .await;
    let mut agent = rig.agent(Local, 10).await;
    assert!(agent.is_idle(Duration::from_millis(150)).await);
    rig.directory.set_unavailable(false);
    let mut admin = rig.admin().await;
    let flush = pb::ChangeRequest {
        verb: pb::change_request::Verb::Flush.into(),
        selector: None,
    };
    assert_eq!(admin.change(flush).await.unwrap().into_inner().changed, 1);
    let task = agent.task().await;
    agent.report(&task, &delivered()).await;
    rig.empty().await;
}
