use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::imap::{Imap, mail};
use super::message::Numbers;
use super::{Sample, sessions};

/// Messages of each mailbox when the clock starts.
const MESSAGES: usize = 100;
/// Each session has one of its own, made anew: what other loads have left is not measured.
const MAILBOX: &str = "Mixed";

/// Sessions that read, list, set flags and append, as clients do all day.
#[derive(Debug)]
pub(crate) struct MixedLoad {
    pub(crate) server: SocketAddr,
    /// One login for each session, none twice.
    pub(crate) logins: Vec<String>,
    pub(crate) password: String,
    pub(crate) lasts: Duration,
}

struct Session {
    imap: Imap,
    messages: usize,
    numbers: Numbers,
}

impl MixedLoad {
    /// Runs until the time is over; each command is an operation.
    pub(crate) fn run(&self) -> Result<Sample> {
        let open = |number: usize| {
            let login = self.logins.get(number).map_or("", String::as_str);
            let mut imap = Imap::login(self.server, login, &self.password)?;
            // It may not be there.
            let _ = imap.command(&format!("DELETE {MAILBOX}"));
            imap.command(&format!("CREATE {MAILBOX}"))?;
            imap.fill(MAILBOX, 0, MESSAGES)?;
            imap.command(&format!("SELECT {MAILBOX}"))?;
            let numbers = Numbers::new(u64::try_from(number)? + 77);
            Ok(Session {
                imap,
                messages: MESSAGES,
                numbers,
            })
        };
        sessions(self.logins.len(), open, |_, session| {
            let begun = Instant::now();
            let mut latencies = Vec::new();
            while begun.elapsed() < self.lasts {
                let start = Instant::now();
                session.step()?;
                latencies.push(start.elapsed());
            }
            Ok((u64::try_from(latencies.len())?, latencies))
        })
    }
}

impl Session {
    /// Of twenty commands ten fetch a message, two list, five set flags and three append.
    fn step(&mut self) -> Result<()> {
        let number = 1 + self.numbers.below(self.messages);
        match self.numbers.below(20) {
            0..10 => self
                .imap
                .command(&format!("FETCH {number} (FLAGS BODY.PEEK[])")),
            10 | 11 => self.imap.command("LIST \"\" *"),
            kind @ 12..17 => {
                let sign = if kind % 2 == 0 { '+' } else { '-' };
                self.imap
                    .command(&format!("STORE {number} {sign}FLAGS (\\Flagged)"))
            }
            _ => return self.imap.append(MAILBOX, &[mail(number)], 1),
        }
        .map(|_| ())
    }
}
