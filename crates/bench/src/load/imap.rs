use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::line::Lines;
use super::message::message;

/// Messages of one MULTIAPPEND (RFC 3502).
const MULTI: usize = 500;

/// One IMAP connection.
#[derive(Debug)]
pub(crate) struct Imap<S = TcpStream> {
    lines: Lines<S>,
    next_tag: u32,
}

/// What came before a tagged OK.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Untagged lines, such as those of FETCH.
    pub(crate) untagged: usize,
    /// Octets in literals.
    pub(crate) octets: usize,
    /// The last untagged line, its literals left out.
    pub(crate) last: Vec<u8>,
}

impl Imap {
    /// Connects and logs in.
    pub(crate) fn login(server: SocketAddr, login: &str, password: &str) -> Result<Self> {
        let mut imap = Self::greet(Lines::connect(server)?)?;
        imap.command(&format!("LOGIN {login} {password}"))?;
        Ok(imap)
    }

    /// Reads in larger pieces.
    pub(crate) fn large(self) -> Self {
        let lines = self.lines.large();
        Self { lines, ..self }
    }

    /// Gives the buffer back while nothing goes on.
    pub(crate) fn release(&mut self) {
        self.lines.release();
    }
}

impl<S: Read + Write> Imap<S> {
    fn greet(mut lines: Lines<S>) -> Result<Self> {
        let greeting = lines.line()?;
        if !greeting.starts_with(b"* OK") {
            bail!("the server said: {}", String::from_utf8_lossy(greeting));
        }
        Ok(Self { lines, next_tag: 1 })
    }

    /// Gives a command that needs no literal and waits for its OK.
    pub(crate) fn command(&mut self, command: &str) -> Result<Answer> {
        let tag = self.send(command)?;
        self.finish(tag)
            .with_context(|| command.chars().take(60).collect::<String>())
    }

    /// A command, and how long it took until its OK.
    pub(crate) fn timed(&mut self, command: &str) -> Result<(Answer, Duration)> {
        let begun = Instant::now();
        let answer = self.command(command)?;
        Ok((answer, begun.elapsed()))
    }

    /// Messages in a mailbox, by STATUS.
    pub(crate) fn count(&mut self, mailbox: &str) -> Result<usize> {
        let answer = self.command(&format!("STATUS {mailbox} (MESSAGES)"))?;
        let text = String::from_utf8_lossy(&answer.last).into_owned();
        let number = text
            .split("MESSAGES ")
            .nth(1)
            .map(|rest| rest.trim_end_matches([')', ' ']));
        number
            .context("no MESSAGES in the answer to STATUS")?
            .parse()
            .context(text)
    }

    /// Puts messages into a mailbox, one APPEND for each `group` of them.
    pub(crate) fn append(&mut self, mailbox: &str, mails: &[Vec<u8>], group: usize) -> Result<()> {
        let mut command = Vec::new();
        for mails in mails.chunks(group.max(1)) {
            let tag = self.next_tag;
            self.next_tag += 1;
            command.clear();
            command.extend(format!("a{tag} APPEND {mailbox}").bytes());
            for mail in mails {
                command.extend(format!(" {{{}+}}\r\n", mail.len()).bytes());
                command.extend(mail);
            }
            command.extend(b"\r\n");
            self.lines.send(&command)?;
            self.finish(tag).context("APPEND")?;
        }
        Ok(())
    }

    /// Fills a mailbox with messages from `first` on.
    pub(crate) fn fill(&mut self, mailbox: &str, first: usize, count: usize) -> Result<()> {
        let mut done = 0;
        while done < count {
            let end = (done + MULTI).min(count);
            let mails: Vec<_> = (done..end).map(|number| mail(first + number)).collect();
            self.put(mailbox, &mails)?;
            done = end;
        }
        Ok(())
    }

    /// Puts messages into a mailbox as fast as the server can.
    pub(crate) fn put(&mut self, mailbox: &str, mails: &[Vec<u8>]) -> Result<()> {
        let capabilities = self.command("CAPABILITY")?.last;
        let has_multiappend = memchr::memmem::find(&capabilities, b"MULTIAPPEND").is_some();
        self.append(mailbox, mails, if has_multiappend { MULTI } else { 1 })
    }

    /// Sends a command; gives its tag's number.
    pub(crate) fn send(&mut self, command: &str) -> Result<u32> {
        let tag = self.next_tag;
        self.next_tag += 1;
        self.lines
            .send(format!("a{tag} {command}\r\n").as_bytes())?;
        Ok(tag)
    }

    /// Begins IDLE (RFC 2177).
    pub(crate) fn idle(&mut self) -> Result<u32> {
        let tag = self.send("IDLE")?;
        let refused = format!("a{tag} ").into_bytes();
        loop {
            let line = self.lines.line()?;
            if line.starts_with(b"+") {
                return Ok(tag);
            }
            if line.starts_with(&refused) {
                bail!("the server said: {}", String::from_utf8_lossy(line));
            }
        }
    }

    /// Waits for the next EXISTS in IDLE, and gives its number.
    pub(crate) fn wait_exists(&mut self) -> Result<usize> {
        loop {
            let line = self.lines.line()?;
            let number = line
                .strip_prefix(b"* ")
                .and_then(|rest| rest.strip_suffix(b" EXISTS"));
            if let Some(number) = number {
                return Ok(std::str::from_utf8(number)?.parse()?);
            }
        }
    }

    /// Ends IDLE.
    pub(crate) fn done(&mut self, tag: u32) -> Result<()> {
        self.lines.send(b"DONE\r\n")?;
        self.finish(tag).map(|_| ())
    }

    /// Reads up to a command's tagged answer, which has to be OK.
    pub(crate) fn finish(&mut self, tag: u32) -> Result<Answer> {
        let tag = format!("a{tag} ").into_bytes();
        let mut answer = Answer::default();
        let mut is_continued = false;
        loop {
            let line = self.lines.line()?;
            if !is_continued {
                if let Some(rest) = line.strip_prefix(&*tag) {
                    if !rest.starts_with(b"OK") {
                        bail!("the server said: {}", String::from_utf8_lossy(line));
                    }
                    return Ok(answer);
                }
                answer.untagged += 1;
                answer.last.clear();
            }
            if answer.last.len() < 4096 {
                answer.last.extend(line);
            }
            let literal = literal(line);
            is_continued = literal.is_some();
            if let Some(size) = literal {
                answer.octets += size;
                self.lines.skip(size)?;
            }
        }
    }
}

/// A message of a mailbox that the benchmark fills: some 4.2 KiB, of various sizes.
pub(crate) fn mail(number: usize) -> Vec<u8> {
    let sizes = [1600, 2400, 3000, 3600, 4200, 4800, 5600, 8400];
    let size = sizes.get(number % sizes.len()).copied().unwrap_or(4200);
    message(u64::try_from(number).unwrap_or(0), size)
}

/// The octets that a line announces at its end (RFC 3501 §4.3).
fn literal(line: &[u8]) -> Option<usize> {
    let inside = line.strip_suffix(b"}")?;
    let digits = inside.rsplit(|octet| *octet == b'{').next()?;
    if digits.len() == inside.len() {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::line::tests::Pieces;

    #[test]
    fn answers_in_any_pieces() {
        let said =
            b"* OK hello\r\n* 1 FETCH (BODY[] {6}\r\na1 OK\n UID 7 X {3}\r\n\r\n) FLAGS ())\r\n\
                     * 2 EXISTS\r\na1 OK done\r\na2 NO sorry\r\n";
        for size in [1, 2, 3, 1000] {
            let octets = said.to_vec();
            let mut imap = Imap::greet(Lines::new(Pieces {
                octets,
                at: 0,
                size,
            }))
            .unwrap();
            let answer = imap.command("FETCH 1:2 BODY[]").unwrap();
            assert_eq!((answer.untagged, answer.octets), (2, 9));
            assert_eq!(answer.last, b"* 2 EXISTS");
            let refused = imap.command("NOOP").unwrap_err();
            assert!(format!("{refused:#}").contains("a2 NO sorry"));
        }
    }

    #[test]
    fn literals_at_the_end_only() {
        assert_eq!(literal(b"x {12}"), Some(12));
        assert_eq!(literal(b"x {}"), None);
        assert_eq!(literal(b"12}"), None);
        assert_eq!(literal(b"{12} x"), None);
    }
}
