//! The POP3 server's session: cuts make no difference, answers are well formed, and only messages
//! that were there and marked are deleted.

use pop3_proto::{
    AuthAnswer, AuthFailure, Event, Limits, MaildropFailure, Message, Session, Settings,
};

use crate::control;
use crate::cuts::cuts;

/// Control: options, cuts.
pub fn run(data: &[u8]) {
    let ([options, seed], input) = control(data);
    let whole = talk(options, &[input]);
    let pieces = talk(options, &cuts(seed.max(1), input));
    assert_eq!(whole.1, pieces.1);
    assert_eq!(
        whole.0.escape_ascii().to_string(),
        pieces.0.escape_ascii().to_string()
    );
    answers(&whole.0);
}

fn session(options: u8) -> Session {
    let settings = Settings {
        encrypted: options & 1 != 0,
        tls_available: options & 2 == 0,
        plain_allowed: options & 4 == 0,
        mechanisms: vec!["PLAIN".to_owned(), "SCRAM-SHA-256".to_owned()],
    };
    let limits = if options & 8 == 0 {
        Limits::default()
    } else {
        Limits {
            line: 40,
            sasl_line: 60,
            errors: 3,
            output: 64,
        }
    };
    Session::new(settings, limits)
}

fn talk(options: u8, pieces: &[&[u8]]) -> (Vec<u8>, Vec<String>) {
    let mut session = session(options);
    let mut log = Vec::new();
    let mut output = session.take_output();
    let mut tls = false;
    for piece in pieces {
        // What is sent in one piece with STLS is dropped, so that cuts matter from there on.
        if tls {
            break;
        }
        session.handle_input(piece);
        loop {
            let mut any = false;
            while let Some(event) = session.poll_event() {
                any = true;
                tls |= matches!(event, Event::StartTls);
                log.push(format!("{event:?}"));
                answer(&mut session, event, options);
            }
            let more = session.take_output();
            if more.is_empty() && !any {
                break;
            }
            output.extend(more);
        }
        assert!(session.wants_input() || session.is_closed(), "{session:?}");
    }
    if options & 16 != 0 {
        session.handle_shutdown();
        output.extend(session.take_output());
    }
    (output, log)
}

const MESSAGES: [(u32, &[u8]); 3] = [
    (4, b"A: b\r\n\r\n.dot\r\n..\r\n\r\nend\r\n"),
    (7, b"A: b\nno end of the line"),
    (9, b""),
];

fn answer(session: &mut Session, event: Event, options: u8) {
    match event {
        Event::Authenticate { initial: None, .. } => {
            session.handle_auth(AuthAnswer::Challenge(b"go on".to_vec()));
        }
        Event::Authenticate {
            initial: Some(message),
            ..
        }
        | Event::AuthResponse(message) => {
            session.handle_auth(match message.expose().as_slice() {
                [b'?', ..] => AuthAnswer::Challenge(b"more".to_vec()),
                [b'!', ..] => AuthAnswer::Success(Some(b"proof".to_vec())),
                [0, 0, ..] | [] => AuthAnswer::Failure(AuthFailure::BadCredentials),
                _ => AuthAnswer::Success(None),
            });
        }
        Event::AuthCancelled => {}
        Event::OpenMaildrop if options & 32 != 0 => {
            session.handle_maildrop(Err(MaildropFailure::InUse));
        }
        Event::OpenMaildrop => {
            let messages = MESSAGES.map(|(uid, content)| {
                let size = content.len() as u64;
                Message { uid, size }
            });
            session.handle_maildrop(Ok((11, messages.to_vec())));
        }
        Event::Retrieve { uid, .. } => {
            for message in session.upcoming().take(4) {
                assert!(MESSAGES.iter().any(|(uid, _)| *uid == message.uid));
            }
            let (_, content) = MESSAGES
                .iter()
                .find(|(at, _)| *at == uid)
                .expect("it is there");
            if options & 64 != 0 {
                session.handle_content_failed();
                return;
            }
            for piece in content.chunks(5) {
                session.handle_content(piece);
            }
            session.handle_content_end();
        }
        Event::Commit(uids) => {
            assert!(!uids.is_empty());
            assert!(
                uids.iter()
                    .all(|uid| MESSAGES.iter().any(|(at, _)| at == uid))
            );
            session.handle_committed(options & 128 == 0);
        }
        Event::StartTls => session.handle_tls(vec!["PLAIN".to_owned()]),
    }
}

/// Lines that are no status belong to an answer of many lines, which ends with a dot (RFC 1939 §3).
fn answers(output: &[u8]) {
    assert!(output.ends_with(b"\r\n"));
    let mut open = false;
    for line in output.split_inclusive(|byte| *byte == b'\n') {
        if line == b".\r\n" {
            open = false;
        } else if !open {
            let status = [&b"+OK"[..], b"-ERR", b"+ "]
                .iter()
                .any(|s| line.starts_with(s));
            open = !status;
        }
    }
    assert!(!open, "{}", output.escape_ascii());
}
