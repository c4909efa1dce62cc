use std::time::Duration;

use mail_types::{EnhancedCode, Secret};
use smtp_proto::client::{AuthStep, Cause, Opening, Stage, TlsPolicy};

use super::dialogue::{Cut, Dialogue, envelope, opening, settings};

fn dialogue(tls: TlsPolicy, cut: Cut) -> Dialogue {
    Dialogue::new(settings(), opening(tls), cut)
}

// Tests RFC 5321 §3.1
#[test]
fn a_refused_greeting_is_no_verdict_on_the_message() {
    for (greeting, status, sent) in [
        ("554 5.7.1 go away\r\n", "4.7.1", "QUIT\r\n"),
        ("450-wait\r\n450 a bit\r\n", "4.3.2", "QUIT\r\n"),
        ("421 4.3.2 busy\r\n", "4.3.2", ""),
        // RFC 7504 §2: it never takes mail.
        ("521 5.3.2 no mail here\r\n", "5.3.2", "QUIT\r\n"),
    ] {
        Dialogue::each(|cut| {
            let mut d = dialogue(TlsPolicy::Opportunistic, cut);
            d.serve(greeting);
            d.expect(sent);
            assert_eq!(d.failure().stage, Stage::Greeting);
            let outcome = d.failure().outcome(d.session.peer());
            assert_eq!(outcome.status.to_string(), status);
            assert_eq!(outcome.remote_mta.as_ref(), Some(d.session.peer()));
        });
    }
}

#[test]
fn no_greeting_or_none_that_is_smtp() {
    let mut d = dialogue(TlsPolicy::None, Cut::Whole);
    d.pass(Duration::from_secs(299));
    assert!(d.closed.is_none());
    d.pass(Duration::from_secs(1));
    assert_eq!(d.failure().cause, Cause::Timeout);
    let mut d = dialogue(TlsPolicy::None, Cut::Whole);
    d.eof();
    assert_eq!(d.failure().cause, Cause::Lost);
    assert_eq!(
        d.failure().outcome(d.session.peer()).status,
        EnhancedCode::BAD_CONNECTION
    );
    let mut d = dialogue(TlsPolicy::None, Cut::Bytes);
    d.serve("SSH-2.0-x\r\n");
    assert!(matches!(d.failure().cause, Cause::Protocol(_)));
}

#[test]
fn half_a_reply_does_not_stop_the_clock() {
    let mut d = dialogue(TlsPolicy::None, Cut::Whole);
    for _ in 0..4 {
        d.pass(Duration::from_mins(1));
        d.serve("220-x\r\n");
    }
    d.pass(Duration::from_mins(1));
    assert_eq!(d.failure().cause, Cause::Timeout);
}

// Tests RFC 5321 §3.2
#[test]
fn helo_where_ehlo_is_not_known() {
    Dialogue::each(|cut| {
        let mut d = dialogue(TlsPolicy::Opportunistic, cut);
        d.serve("220 mx.test\r\n");
        d.expect("EHLO out.test\r\n");
        d.serve("502 what\r\n");
        d.expect("HELO out.test\r\n");
        d.serve("250 old.test hello\r\n");
        assert!(d.session.is_idle());
        assert_eq!(d.session.server_name(), "old.test");
        d.begin(envelope(&["b@x.test"], 3), "hi\r\n");
        d.expect("MAIL FROM:<ana@aula.test>\r\n");
    });
    let mut d = dialogue(TlsPolicy::Required, Cut::Whole);
    d.serve("220 mx.test\r\n502 what\r\n250 hello\r\n");
    assert_eq!(d.failure().cause, Cause::TlsNotOffered);
}

// Tests RFC 3207 §4.2 and §6
#[test]
fn nothing_from_before_tls_survives() {
    Dialogue::each(|cut| {
        let mut d = dialogue(TlsPolicy::Opportunistic, cut);
        d.serve("220 mx.test\r\n");
        d.serve("250-mx.test\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n");
        d.expect("EHLO out.test\r\nSTARTTLS\r\n");
        d.serve("220 go\r\n250-evil\r\n250 SIZE 1\r\n");
        assert_eq!(d.notes, ["StartTls"]);
        d.serve("250 evil too\r\n");
        d.expect("");
        assert_eq!(d.session.poll_timeout(), None);
        d.session.handle_tls(d.now);
        d.settle();
        d.expect("EHLO out.test\r\n");
        assert!(d.session.is_encrypted());
        assert!(d.session.extensions().auth.is_empty());
        // A server that offers STARTTLS again is not asked again.
        d.serve("250-mx.test\r\n250 STARTTLS\r\n");
        assert!(d.session.is_idle());
        assert!(d.session.extensions().size.is_none());
    });
}

#[test]
fn starttls_by_policy() {
    let ehlo = "220 mx.test\r\n250-mx.test\r\n250 STARTTLS\r\n";
    let mut d = dialogue(TlsPolicy::None, Cut::Whole);
    d.serve(ehlo);
    assert!(d.session.is_idle());
    let mut d = dialogue(TlsPolicy::Opportunistic, Cut::Whole);
    d.serve(ehlo);
    d.serve("454 4.7.0 no certificate\r\n");
    assert!(d.session.is_idle() && !d.session.is_encrypted());
    let mut d = dialogue(TlsPolicy::Required, Cut::Whole);
    d.serve(ehlo);
    d.serve("454 4.7.0 no certificate\r\n");
    assert_eq!(d.failure().stage, Stage::Tls);
    d.expect("EHLO out.test\r\nSTARTTLS\r\nQUIT\r\n");
    let mut d = dialogue(TlsPolicy::Required, Cut::Whole);
    d.serve("220 mx.test\r\n250 mx.test\r\n");
    assert_eq!(d.failure().cause, Cause::TlsNotOffered);
    assert_eq!(d.failure().outcome(d.session.peer()).remote_mta, None);
}

fn logging_in(cut: Cut) -> Dialogue {
    let opening = Opening {
        authenticate: true,
        encrypted: true,
        ..opening(TlsPolicy::Required)
    };
    let mut d = Dialogue::new(settings(), opening, cut);
    d.serve("220 mx.test\r\n250-mx.test\r\n250 AUTH plain SCRAM-SHA-256\r\n");
    assert_eq!(d.notes, ["PLAIN SCRAM-SHA-256"]);
    d.notes.clear();
    d.expect("EHLO out.test\r\n");
    d
}

fn start(d: &mut Dialogue, mechanism: &str, initial: Option<&[u8]>) {
    let step = AuthStep::Start {
        mechanism: mechanism.into(),
        initial_response: initial.map(|bytes| Secret::new(bytes.to_vec())),
    };
    d.session.handle_auth(d.now, step);
    d.settle();
}

// Tests RFC 4954 §4
#[test]
fn auth_exchanges() {
    Dialogue::each(|cut| {
        let mut d = logging_in(cut);
        start(&mut d, "PLAIN", Some(b"\0ana\0pw"));
        d.expect("AUTH PLAIN AGFuYQBwdw==\r\n");
        d.serve("235 2.7.0 in\r\n");
        assert_eq!(d.notes, ["Auth(Accepted)", "Ready"]);

        let mut d = logging_in(cut);
        start(&mut d, "SCRAM-SHA-256", None);
        d.expect("AUTH SCRAM-SHA-256\r\n");
        d.serve("334 \r\n");
        assert_eq!(d.notes, ["challenge "]);
        d.session
            .handle_auth(d.now, AuthStep::Response(Secret::new(b"n,,".to_vec())));
        d.settle();
        d.expect("biws\r\n");
        d.serve("334 cj14\r\n");
        assert_eq!(d.notes.last().unwrap(), "challenge r=x");
        d.session
            .handle_auth(d.now, AuthStep::Response(Secret::new(Vec::new())));
        d.settle();
        d.expect("\r\n");
        d.serve("535 5.7.8 no\r\n");
        assert_eq!(d.failure().stage, Stage::Auth);
        // A wrong password is the operator's to mend, not the sender's.
        let outcome = d.failure().outcome(d.session.peer());
        assert_eq!(outcome.status.to_string(), "4.7.8");

        let mut d = logging_in(cut);
        start(&mut d, "PLAIN", Some(b""));
        d.expect("AUTH PLAIN =\r\n");
        d.serve("334 not base64!\r\n");
        d.expect("*\r\n");
        d.serve("501 5.7.0 given up\r\n");
        assert_eq!(d.failure().cause, Cause::AuthCancelled);
    });
}

#[test]
fn a_long_initial_response_goes_by_itself() {
    let mut d = logging_in(Cut::Whole);
    start(&mut d, "PLAIN", Some(&[b'x'; 600]));
    d.expect("AUTH PLAIN\r\n");
    d.serve("334 \r\n");
    assert_eq!(d.sent.len(), 802);
    d.serve("235 in\r\n");
    assert!(d.session.is_idle());
}

#[test]
fn auth_that_cannot_be() {
    let mut d = logging_in(Cut::Whole);
    d.session.handle_auth(d.now, AuthStep::Cancel);
    d.settle();
    d.expect("QUIT\r\n");
    assert_eq!(d.failure().cause, Cause::AuthCancelled);
    let opening = Opening {
        authenticate: true,
        ..opening(TlsPolicy::None)
    };
    let mut d = Dialogue::new(settings(), opening, Cut::Whole);
    d.serve("220 mx.test\r\n250 mx.test\r\n");
    assert_eq!(d.failure().cause, Cause::AuthNotOffered);
}
