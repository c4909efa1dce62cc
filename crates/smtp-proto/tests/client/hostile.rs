//! Whatever a server sends, however it is cut: no panic, no stand-still, one outcome a recipient.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mail_types::{Action, Secret};
use proptest::prelude::*;
use smtp_proto::client::{AuthPrompt, AuthStep, Event, Opening, Session, TlsPolicy};

use super::dialogue::{envelope, opening, settings};

const WORDS: &[&str] = &[
    "220 x\r\n",
    "250 ok\r\n",
    "250 2.1.0 ok\r\n",
    "250-x\r\n",
    "250 PIPELINING\r\n",
    "250-CHUNKING\r\n",
    "250-STARTTLS\r\n",
    "250-AUTH PLAIN\r\n",
    "235 in\r\n",
    "334 eA==\r\n",
    "354 go\r\n",
    "421 no\r\n",
    "450 later\r\n",
    "500 what\r\n",
    "550 5.1.1 no\r\n",
    "250 2.0.0 queued\r\n",
    "\r\n",
    "x",
];

fn script() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let piece = prop_oneof![
        12 => proptest::sample::select(WORDS).prop_map(|word| word.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
        1 => (any::<u8>(), 0usize..3000).prop_map(|(byte, count)| vec![byte; count]),
    ];
    proptest::collection::vec(piece, 0..30)
}

/// Does what the session asks, in the plainest way.
fn obey(session: &mut Session, now: Instant, finished: &mut usize, begun: &mut usize) -> usize {
    let mut sent = 0;
    loop {
        if let Some(out) = session.take_transmit() {
            sent += out.len();
        }
        match session.poll_event() {
            None => return sent,
            Some(Event::StartTls) => session.handle_tls(now),
            Some(Event::Auth(AuthPrompt::Mechanisms(names))) => {
                let step = AuthStep::Start {
                    mechanism: names[0].clone(),
                    initial_response: None,
                };
                session.handle_auth(now, step);
            }
            Some(Event::Auth(AuthPrompt::Challenge(_))) => {
                session.handle_auth(now, AuthStep::Response(Secret::new(vec![1])));
            }
            // It may have been closed again since.
            Some(Event::Ready) if session.is_idle() => {
                session
                    .begin(now, envelope(&["b@x.test", "c@x.test"], 4))
                    .unwrap();
                *begun += 1;
            }
            Some(Event::Content) => session.handle_content(now, b"hi\r\n", true),
            Some(Event::Finished(outcomes)) => {
                assert_eq!(outcomes.len(), 2);
                let fits = |o: &mail_types::Outcome| {
                    (o.action == Action::Relayed)
                        == (o.status.class() == mail_types::StatusClass::Success)
                };
                assert!(outcomes.iter().all(fits), "{outcomes:?}");
                *finished += 1;
                if session.is_idle() {
                    session
                        .begin(now, envelope(&["b@x.test", "c@x.test"], 4))
                        .unwrap();
                    *begun += 1;
                }
            }
            Some(Event::Unanswered) => *finished += 1,
            Some(_) => {}
        }
    }
}

proptest! {
    #[test]
    fn any_server(script in script(), authenticate in any::<bool>(), whole in any::<bool>(), greet in any::<bool>()) {
        let now = Instant::now();
        let opening = Opening { authenticate, ..opening(TlsPolicy::Opportunistic) };
        let mut session = Session::new(Arc::new(settings()), opening, now);
        let (mut finished, mut begun) = (0, 0);
        if greet {
            session.handle_input(now, b"220 x\r\n250-x\r\n250-PIPELINING\r\n250 AUTH PLAIN\r\n");
        }
        let script = if whole { vec![script.concat()] } else { script };
        for piece in script {
            session.handle_input(now, &piece);
            obey(&mut session, now, &mut finished, &mut begun);
        }
        if !session.is_closed() {
            // It waits for the server, so it has a time-out, unless idle.
            if let Some(deadline) = session.poll_timeout() {
                session.handle_timeout(deadline + Duration::from_secs(1));
            } else {
                session.handle_eof();
            }
            obey(&mut session, now, &mut finished, &mut begun);
        }
        prop_assert!(session.is_closed());
        prop_assert_eq!(finished, begun);
    }
}
