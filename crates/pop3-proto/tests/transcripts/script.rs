//! The transcripts' format.
//!
//! ```text
//! # a comment
//! set errors 3             a limit: line, sasl-line, errors; or: no-tls, encrypted, no-plain, auth NAMES
//! S: +OK*                  a line of the server's; '*' at the end is any rest
//! C: STAT                  a line of the client's; CRLF is added
//! C~ a\nb                  octets of the client's, with escapes, nothing added
//! C* 100 x                 a text many times
//! ? maildrop -> 4:120 7:80 a question of the machine's, and the answer
//! ! shutdown               the server is told to stop
//! E: closed                the session has ended
//! ```
//!
//! Questions: `auth MECHANISM [INITIAL]`, `response [OCTETS]`, `cancelled`, `maildrop`,
//! `retrieve UID`, `top UID`, `commit UIDS`, `tls`.

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Client(Vec<u8>),
    Server(String),
    Question { asked: String, answer: String },
    Shutdown,
    Closed,
}

#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) settings: Vec<String>,
    pub(crate) steps: Vec<Step>,
}

impl Script {
    pub(crate) fn parse(text: &str) -> Self {
        let mut script = Self {
            settings: Vec::new(),
            steps: Vec::new(),
        };
        for line in text.lines() {
            script.line(line);
        }
        script
    }

    fn line(&mut self, line: &str) {
        if line.trim().is_empty() || line.starts_with('#') {
            return;
        }
        if let Some(setting) = line.strip_prefix("set ") {
            self.settings.push(setting.to_owned());
            return;
        }
        let (kind, rest) = line.split_at(2);
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        let step = match kind {
            "C:" => Step::Client(format!("{rest}\r\n").into_bytes()),
            "C~" => Step::Client(unescape(rest)),
            "C*" => {
                let (count, text) = rest.split_once(' ').unwrap();
                Step::Client(unescape(text).repeat(count.parse().unwrap()))
            }
            "S:" => Step::Server(rest.to_owned()),
            "E:" if rest == "closed" => Step::Closed,
            "! " if rest == "shutdown" => Step::Shutdown,
            "? " => {
                let (asked, answer) = rest.split_once("->").unwrap();
                Step::Question {
                    asked: asked.trim().to_owned(),
                    answer: answer.trim().to_owned(),
                }
            }
            _ => panic!("not a transcript line: {line}"),
        };
        self.steps.push(step);
    }

    /// False where it matters when the client speaks.
    pub(crate) fn can_be_sent_ahead(&self) -> bool {
        !self.steps.iter().any(|step| match step {
            Step::Shutdown => true,
            Step::Question { asked, .. } => asked == "tls",
            _ => false,
        })
    }

    /// The same with all of the client's part in front.
    pub(crate) fn sent_ahead(&self) -> Self {
        let is_client = |step: &Step| matches!(step, Step::Client(_));
        let (client, other): (Vec<_>, Vec<_>) = self.steps.iter().cloned().partition(is_client);
        Self {
            settings: self.settings.clone(),
            steps: client.into_iter().chain(other).collect(),
        }
    }
}

pub(crate) fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'r') => out.push(b'\r'),
            Some(b'n') => out.push(b'\n'),
            Some(b'0') => out.push(0),
            Some(b'\\') => out.push(b'\\'),
            Some(b'x') => {
                let hex = [bytes.next().unwrap(), bytes.next().unwrap()];
                let hex = std::str::from_utf8(&hex).unwrap();
                out.push(u8::from_str_radix(hex, 16).unwrap());
            }
            other => panic!("unknown escape: {other:?}"),
        }
    }
    out
}
