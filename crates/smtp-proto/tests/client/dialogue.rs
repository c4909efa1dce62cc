//! A client with a virtual clock, and a server that says what the test tells it to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mail_types::Outcome;
use smtp_proto::client::{
    AuthPrompt, Envelope, Event, Failure, Opening, Recipient, Session, Settings, TlsPolicy,
};
use smtp_proto::server::BodyType;

/// Octets of the server that are handed in at once.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    Whole,
    Bytes,
}

pub(crate) struct Dialogue {
    pub(crate) session: Session,
    pub(crate) now: Instant,
    pub(crate) content: Vec<u8>,
    pub(crate) outcomes: Vec<Vec<String>>,
    pub(crate) notes: Vec<String>,
    pub(crate) closed: Option<Option<Failure>>,
    pub(crate) sent: String,
    cut: Cut,
}

pub(crate) fn opening(tls: TlsPolicy) -> Opening {
    Opening {
        peer: "mx.test".parse().unwrap(),
        tls,
        encrypted: false,
        authenticate: false,
    }
}

pub(crate) fn settings() -> Settings {
    Settings::new("out.test")
}

pub(crate) fn envelope(recipients: &[&str], size: usize) -> Envelope {
    Envelope {
        reverse_path: "<ana@aula.test>".parse().unwrap(),
        recipients: recipients
            .iter()
            .map(|address| Recipient {
                address: address.parse().unwrap(),
                original: None,
                notify: None,
            })
            .collect(),
        size: size as u64,
        body: BodyType::SevenBit,
        smtputf8: false,
        envelope_id: None,
        dsn_return: None,
    }
}

impl Dialogue {
    pub(crate) fn new(settings: Settings, opening: Opening, cut: Cut) -> Self {
        let now = Instant::now();
        Self {
            session: Session::new(Arc::new(settings), opening, now),
            now,
            content: Vec::new(),
            outcomes: Vec::new(),
            notes: Vec::new(),
            closed: None,
            sent: String::new(),
            cut,
        }
    }

    /// Runs a test with the server's octets whole and one by one.
    pub(crate) fn each(mut test: impl FnMut(Cut)) {
        test(Cut::Whole);
        test(Cut::Bytes);
    }

    /// A client that is idle towards a server with these extensions.
    pub(crate) fn ready(extensions: &str, cut: Cut) -> Self {
        let mut dialogue = Self::new(settings(), opening(TlsPolicy::None), cut);
        dialogue.serve("220 mx.test ESMTP\r\n");
        dialogue.expect("EHLO out.test\r\n");
        let mut lines: Vec<&str> = vec!["mx.test"];
        lines.extend(extensions.split_whitespace());
        let last = lines.pop().unwrap();
        let mut reply: String = lines.iter().map(|line| format!("250-{line}\r\n")).collect();
        reply.push_str(&format!("250 {last}\r\n").replace('_', " "));
        dialogue.serve(&reply.replace('_', " "));
        assert!(dialogue.session.is_idle());
        dialogue.notes.clear();
        dialogue
    }

    /// The server says this.
    pub(crate) fn serve(&mut self, text: &str) {
        match self.cut {
            Cut::Whole => self.session.handle_input(self.now, text.as_bytes()),
            Cut::Bytes => {
                for byte in text.as_bytes().chunks(1) {
                    self.session.handle_input(self.now, byte);
                }
            }
        }
        self.settle();
    }

    pub(crate) fn begin(&mut self, envelope: Envelope, content: &str) {
        self.content = content.as_bytes().to_vec();
        self.session.begin(self.now, envelope).unwrap();
        self.settle();
    }

    /// The client has sent exactly this since the last time.
    #[track_caller]
    pub(crate) fn expect(&mut self, text: &str) {
        assert_eq!(std::mem::take(&mut self.sent), text);
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.session.handle_timeout(self.now);
        self.settle();
    }

    pub(crate) fn eof(&mut self) {
        self.session.handle_eof();
        self.settle();
    }

    /// What the last transaction came to.
    #[track_caller]
    pub(crate) fn outcome(&mut self) -> Vec<String> {
        assert_eq!(
            self.outcomes.len(),
            1,
            "one transaction: {:?}",
            self.outcomes
        );
        self.outcomes.remove(0)
    }

    #[track_caller]
    pub(crate) fn failure(&self) -> &Failure {
        self.closed.as_ref().unwrap().as_ref().unwrap()
    }

    pub(crate) fn settle(&mut self) {
        loop {
            if let Some(out) = self.session.take_transmit() {
                self.sent.push_str(std::str::from_utf8(&out).unwrap());
            }
            match self.session.poll_event() {
                None => return,
                Some(Event::Content) if self.content.is_empty() => {
                    self.notes.push("content".into());
                }
                Some(Event::Content) => {
                    let content = std::mem::take(&mut self.content);
                    let (head, tail) = content.split_at(content.len() / 2);
                    self.session.handle_content(self.now, head, false);
                    self.session.handle_content(self.now, tail, true);
                }
                Some(Event::Finished(outcomes)) => {
                    self.outcomes.push(outcomes.iter().map(show).collect());
                }
                Some(Event::Closed(failure)) => self.closed = Some(failure),
                Some(Event::Auth(AuthPrompt::Challenge(challenge))) => self.notes.push(format!(
                    "challenge {}",
                    String::from_utf8(challenge).unwrap()
                )),
                Some(Event::Auth(AuthPrompt::Mechanisms(names))) => {
                    self.notes.push(names.join(" "));
                }
                Some(event) => self.notes.push(format!("{event:?}")),
            }
        }
    }
}

pub(crate) fn show(outcome: &Outcome) -> String {
    let by = outcome
        .remote_mta
        .as_ref()
        .map(|_| " peer")
        .unwrap_or_default();
    format!(
        "{:?} {}{by}: {}",
        outcome.action, outcome.status, outcome.diagnostic
    )
}
