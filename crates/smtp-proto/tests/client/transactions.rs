use std::time::Duration;

use mail_types::EnhancedCode;
use smtp_proto::client::{Cause, Envelope, Stage};
use smtp_proto::server::BodyType;

use super::dialogue::{Cut, Dialogue, envelope};

const TAKEN: &str = "Relayed 2.0.0 peer: 250 2.0.0 queued as 7";

#[test]
fn one_command_at_a_time_where_nothing_else_is_offered() {
    Dialogue::each(|cut| {
        let mut d = Dialogue::ready("", cut);
        d.begin(envelope(&["b@x.test", "c@x.test"], 8), ".hi\r\nx");
        d.expect("MAIL FROM:<ana@aula.test>\r\n");
        d.serve("250 ok\r\n");
        d.expect("RCPT TO:<b@x.test>\r\n");
        d.serve("550 5.1.1 no such user\r\n");
        d.expect("RCPT TO:<c@x.test>\r\n");
        d.serve("250 ok\r\n");
        d.expect("DATA\r\n");
        d.serve("354 go\r\n");
        d.expect("..hi\r\nx\r\n.\r\n");
        d.serve("250 2.0.0 queued as 7\r\n");
        assert_eq!(
            d.outcome(),
            ["Failed 5.1.1 peer: 550 5.1.1 no such user", TAKEN]
        );
        assert!(d.session.is_idle());
        d.session.quit(d.now);
        d.settle();
        d.expect("QUIT\r\n");
        d.serve("221 bye\r\n");
        assert_eq!(d.closed, Some(None));
    });
}

// Tests RFC 2920 §3.1
#[test]
fn pipelined_data() {
    Dialogue::each(|cut| {
        let mut d = Dialogue::ready("PIPELINING", cut);
        d.begin(envelope(&["b@x.test", "c@x.test"], 4), "hi\r\n");
        d.expect(
            "MAIL FROM:<ana@aula.test>\r\nRCPT TO:<b@x.test>\r\nRCPT TO:<c@x.test>\r\nDATA\r\n",
        );
        d.serve("250 ok\r\n450 4.2.1 later\r\n250 ok\r\n354 go\r\n");
        d.expect("hi\r\n.\r\n");
        d.serve("250 2.0.0 queued as 7\r\n");
        assert_eq!(d.outcome(), ["Delayed 4.2.1 peer: 450 4.2.1 later", TAKEN]);
        // The connection is used again, without RSET.
        d.begin(envelope(&["b@x.test"], 4), "hi\r\n");
        d.expect("MAIL FROM:<ana@aula.test>\r\nRCPT TO:<b@x.test>\r\nDATA\r\n");
    });
}

#[test]
fn a_server_that_wants_content_for_nobody_gets_none() {
    Dialogue::each(|cut| {
        let mut d = Dialogue::ready("PIPELINING", cut);
        d.begin(envelope(&["b@x.test"], 4), "secret\r\n");
        d.sent.clear();
        d.serve("250 ok\r\n550 5.1.1 no\r\n354 go\r\n");
        d.expect(".\r\n");
        assert!(d.outcomes.is_empty());
        d.serve("250 took nothing\r\n");
        assert_eq!(d.outcome(), ["Failed 5.1.1 peer: 550 5.1.1 no"]);
        d.begin(envelope(&["c@x.test"], 4), "hi\r\n");
        d.expect("RSET\r\nMAIL FROM:<ana@aula.test>\r\nRCPT TO:<c@x.test>\r\nDATA\r\n");
        d.serve("250 reset\r\n250 ok\r\n250 ok\r\n354 go\r\n");
        d.expect("hi\r\n.\r\n");
        d.serve("250 2.0.0 queued as 7\r\n");
        assert_eq!(d.outcome(), [TAKEN]);
    });
}

#[test]
fn a_refused_sender_is_every_recipients_outcome() {
    Dialogue::each(|cut| {
        let refused = "Failed 5.7.1 peer: 550 5.7.1 not you";
        let mut d = Dialogue::ready("PIPELINING", cut);
        d.begin(envelope(&["b@x.test", "c@x.test"], 4), "hi\r\n");
        d.sent.clear();
        d.serve("550 5.7.1 not you\r\n503 5.5.1 no\r\n503 5.5.1 no\r\n503 5.5.1 no\r\n");
        assert_eq!(d.outcome(), [refused, refused]);
        d.expect("");
        assert!(d.session.is_idle());
        let mut d = Dialogue::ready("", cut);
        d.begin(envelope(&["b@x.test", "c@x.test"], 4), "hi\r\n");
        d.serve("550 5.7.1 not you\r\n");
        assert_eq!(d.outcome(), [refused, refused]);
        d.expect("MAIL FROM:<ana@aula.test>\r\n");
    });
}

// Tests RFC 3030 §2
#[test]
fn a_small_message_is_one_round_trip_with_chunking() {
    Dialogue::each(|cut| {
        let mut d = Dialogue::ready("PIPELINING CHUNKING SIZE_1000 8BITMIME", cut);
        d.begin(envelope(&["b@x.test"], 5), ".\r\n\r\n");
        d.expect(
            "MAIL FROM:<ana@aula.test> SIZE=5\r\nRCPT TO:<b@x.test>\r\nBDAT 5 LAST\r\n.\r\n\r\n",
        );
        d.serve("250 ok\r\n250 ok\r\n250 2.0.0 queued as 7\r\n");
        assert_eq!(d.outcome(), [TAKEN]);
        d.begin(envelope(&["b@x.test"], 5), ".\r\n\r\n");
        d.sent.clear();
        d.serve("250 ok\r\n550 5.1.1 no\r\n503 5.5.1 nobody\r\n");
        assert_eq!(d.outcome(), ["Failed 5.1.1 peer: 550 5.1.1 no"]);
        d.begin(envelope(&["b@x.test"], 5), ".\r\n\r\n");
        assert!(d.sent.starts_with("RSET\r\nMAIL"));
    });
}

#[test]
fn a_large_message_waits_until_it_is_wanted() {
    Dialogue::each(|cut| {
        let content = "x".repeat(70_000);
        let mut d = Dialogue::ready("PIPELINING CHUNKING", cut);
        d.begin(envelope(&["b@x.test"], 70_000), &content);
        d.expect("MAIL FROM:<ana@aula.test>\r\nRCPT TO:<b@x.test>\r\n");
        d.serve("250 ok\r\n");
        d.expect("");
        d.serve("250 ok\r\n");
        d.expect(&format!("BDAT 70000 LAST\r\n{content}"));
        d.serve("552 5.3.4 too large\r\n");
        assert_eq!(d.outcome(), ["Failed 5.3.4 peer: 552 5.3.4 too large"]);
    });
}

#[test]
fn an_answer_in_the_middle_of_the_content_is_the_outcome() {
    for extensions in ["PIPELINING", "PIPELINING CHUNKING"] {
        Dialogue::each(|cut| {
            let mut d = Dialogue::ready(extensions, cut);
            d.begin(envelope(&["b@x.test"], 100_000), "");
            d.serve("250 ok\r\n250 ok\r\n");
            if extensions == "PIPELINING" {
                d.serve("354 go\r\n");
            }
            assert_eq!(d.notes, ["content"]);
            d.session
                .handle_content(d.now, b"the first of it\r\n", false);
            d.settle();
            d.serve("552 5.2.3 too long for me\r\n");
            assert_eq!(
                d.outcome(),
                ["Failed 5.2.3 peer: 552 5.2.3 too long for me"]
            );
            assert_eq!(d.failure().stage, Stage::Transaction);
        });
    }
    // Thanks for half a message are no success.
    let mut d = Dialogue::ready("PIPELINING", Cut::Whole);
    d.begin(envelope(&["b@x.test"], 100), "");
    d.serve("250 ok\r\n250 ok\r\n354 go\r\n250 2.0.0 thanks\r\n");
    assert_eq!(d.outcome(), ["Delayed 4.0.0 peer: 250 2.0.0 thanks"]);
}

#[test]
fn a_lost_connection_leaves_what_was_decided() {
    let mut d = Dialogue::ready("", Cut::Whole);
    d.begin(envelope(&["b@x.test", "c@x.test"], 4), "hi\r\n");
    d.serve("250 ok\r\n");
    d.serve("550 5.1.1 no\r\n");
    d.eof();
    let outcome = d.outcome();
    assert_eq!(outcome[0], "Failed 5.1.1 peer: 550 5.1.1 no");
    assert_eq!(
        outcome[1],
        "Delayed 4.4.2: the server closed the connection (in the transaction)"
    );
}

#[test]
fn a_server_that_hangs_up_while_idle_has_not_seen_the_message() {
    let mut d = Dialogue::ready("PIPELINING", Cut::Whole);
    d.begin(envelope(&["b@x.test"], 4), "hi\r\n");
    d.serve("250 ok\r\n250 ok\r\n354 go\r\n");
    d.serve("250 2.0.0 queued as 7\r\n");
    d.outcome();
    d.begin(envelope(&["b@x.test"], 4), "hi\r\n");
    d.serve("421 4.4.2 idle too long\r\n");
    assert_eq!(d.notes, ["Unanswered"]);
    assert!(matches!(d.failure().cause, Cause::Refused(_)));
    // On a fresh connection the same is an answer.
    let mut d = Dialogue::ready("PIPELINING", Cut::Whole);
    d.begin(envelope(&["b@x.test"], 4), "hi\r\n");
    d.serve("421 4.3.2 stopping\r\n");
    assert_eq!(d.outcome(), ["Delayed 4.3.2 peer: 421 4.3.2 stopping"]);
}

#[test]
fn what_cannot_be_sent_is_not_tried() {
    let mut d = Dialogue::ready("SIZE_10", Cut::Whole);
    d.begin(envelope(&["b@x.test"], 11), "");
    assert_eq!(
        d.outcome(),
        ["Failed 5.3.4: the message has 11 octets, mx.test takes at most 10"]
    );
    for bad in [
        Envelope {
            smtputf8: true,
            ..envelope(&["b@x.test"], 1)
        },
        envelope(&["josé@x.test"], 1),
    ] {
        d.begin(bad, "");
        assert!(d.outcome()[0].starts_with("Failed 5.6.7: "));
    }
    let binary = Envelope {
        body: BodyType::BinaryMime,
        ..envelope(&["b@x.test"], 1)
    };
    d.begin(binary, "");
    assert!(d.outcome()[0].starts_with("Failed 5.6.0: "));
    d.expect("");
    assert!(d.session.is_idle());
}

// Tests RFC 5321 §4.5.3.2
#[test]
fn each_step_has_its_time() {
    let mut d = Dialogue::ready("", Cut::Whole);
    assert_eq!(d.session.poll_timeout(), None);
    d.begin(envelope(&["b@x.test"], 4), "");
    let left = |d: &Dialogue| d.session.poll_timeout().unwrap() - d.now;
    assert_eq!(left(&d), Duration::from_mins(5));
    let mut d = Dialogue::ready("", Cut::Whole);
    d.begin(envelope(&["b@x.test"], 4), "");
    d.serve("250 ok\r\n");
    d.serve("250 ok\r\n");
    assert_eq!(left(&d), Duration::from_mins(2));
    d.serve("354 go\r\n");
    assert_eq!(left(&d), Duration::from_mins(3));
    d.now += Duration::from_mins(2);
    d.session.handle_content(d.now, b"hi", false);
    assert_eq!(left(&d), Duration::from_mins(3));
    d.session.handle_content(d.now, b"", true);
    assert_eq!(left(&d), Duration::from_mins(10));
    d.pass(Duration::from_mins(10));
    assert_eq!(
        d.outcome(),
        ["Delayed 4.4.2: the server did not answer in time (in the transaction)"]
    );
}

#[test]
fn content_that_is_not_what_was_announced_is_not_ended() {
    let mut d = Dialogue::ready("CHUNKING", Cut::Whole);
    d.begin(envelope(&["b@x.test"], 10), "");
    d.serve("250 ok\r\n");
    d.serve("250 ok\r\n");
    d.sent.clear();
    d.session.handle_content(d.now, b"short", true);
    d.settle();
    d.expect("");
    assert!(d.outcome()[0].starts_with("Delayed 4.3.0: "));
    assert_eq!(d.failure().cause, Cause::Content);
    let mut d = Dialogue::ready("", Cut::Whole);
    d.begin(envelope(&["b@x.test"], 10), "");
    d.serve("250 ok\r\n");
    d.serve("250 ok\r\n");
    d.serve("354 ok\r\n");
    d.sent.clear();
    d.session.handle_content(d.now, b"half", false);
    d.session.abort_content();
    d.settle();
    d.expect("");
    assert!(d.outcome()[0].starts_with("Delayed 4.3.0: "));
}

#[test]
fn a_thousand_recipients_are_sent_in_portions() {
    let names: Vec<String> = (0..1000).map(|n| format!("user{n}@x.test")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut d = Dialogue::ready("PIPELINING", Cut::Whole);
    d.begin(envelope(&names, 4), "hi\r\n");
    let (mut sent, mut answered) = (0, 0);
    while d.session.is_idle() || !d.sent.is_empty() {
        let lines = d.sent.lines().count();
        sent += lines;
        assert!(sent - answered <= 100);
        let data = d.sent.contains("DATA");
        d.sent.clear();
        for _ in 0..lines - usize::from(data) {
            d.serve("250 ok\r\n");
        }
        answered += lines;
        if data {
            break;
        }
    }
    assert_eq!(sent, 1002);
    d.serve("354 go\r\n");
    d.serve("250 2.0.0 queued as 7\r\n");
    assert_eq!(d.outcome().len(), 1000);
}

// Tests RFC 5321 §4.5.3.1.10
#[test]
fn old_servers_say_552_for_too_many_recipients() {
    let mut d = Dialogue::ready("PIPELINING", Cut::Whole);
    d.begin(envelope(&["b@x.test", "c@x.test"], 4), "hi\r\n");
    d.serve("250 ok\r\n552 too many\r\n552 5.2.2 full\r\n554 5.5.1 nobody\r\n");
    assert_eq!(
        d.outcome(),
        [
            "Delayed 4.5.3 peer: 552 too many",
            "Failed 5.2.2 peer: 552 5.2.2 full"
        ]
    );
    assert_eq!(EnhancedCode::TOO_MANY_RECIPIENTS.to_string(), "4.5.3");
}

#[test]
fn diagnostics_are_bounded() {
    let mut d = Dialogue::ready("", Cut::Whole);
    d.begin(envelope(&["b@x.test"], 4), "hi\r\n");
    let line = format!("550-{}\r\n", "é".repeat(900));
    d.serve(&format!("{line}{line}550 end\r\n"));
    assert!(d.outcome()[0].len() < 1100);
}
