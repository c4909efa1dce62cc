//! The TRANSACTION state (RFC 1939 §5) and the commands of §7.

use std::fmt::Write;

use super::{Event, Maildrop, Message, Session, State};
use crate::command::Command;
use crate::content::ContentWriter;

const NO_SUCH_MESSAGE: &str = "-ERR there is no such message";

impl Maildrop {
    fn message(&self, number: u32) -> Option<(usize, Message)> {
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        let message = self.messages.get(at)?;
        (!self.deleted.contains(&at)).then_some((at, *message))
    }

    fn present(&self) -> impl Iterator<Item = (usize, &Message)> {
        let all = self.messages.iter().enumerate();
        all.filter(|(at, _)| !self.deleted.contains(at))
            .map(|(at, message)| (at + 1, message))
    }

    /// The first message behind a place that is not deleted.
    fn behind(&self, at: usize) -> Option<usize> {
        (at + 1..self.messages.len()).find(|at| !self.deleted.contains(at))
    }

    fn totals(&self) -> (usize, u64) {
        let size = self.present().map(|(_, message)| message.size).sum();
        (self.messages.len() - self.deleted.len(), size)
    }

    fn unique_id(&self, message: &Message) -> String {
        format!("{}.{}", self.uid_validity, message.uid)
    }
}

impl Session {
    pub(super) fn transaction(&mut self, command: &Command) {
        let State::Transaction(maildrop) = &mut self.state else {
            return;
        };
        let mut text = String::new();
        match *command {
            Command::Stat => {
                let (count, size) = maildrop.totals();
                let _ = write!(text, "+OK {count} {size}");
            }
            Command::List(None) => {
                let (count, size) = maildrop.totals();
                let _ = write!(text, "+OK {count} messages ({size} octets)\r\n");
                for (number, message) in maildrop.present() {
                    let _ = write!(text, "{number} {}\r\n", message.size);
                }
                text.push('.');
            }
            Command::Uidl(None) => {
                text.push_str("+OK\r\n");
                for (number, message) in maildrop.present() {
                    let _ = write!(text, "{number} {}\r\n", maildrop.unique_id(message));
                }
                text.push('.');
            }
            Command::List(Some(number)) => match maildrop.message(number) {
                Some((_, message)) => {
                    let _ = write!(text, "+OK {number} {}", message.size);
                }
                None => return self.fail(NO_SUCH_MESSAGE),
            },
            Command::Uidl(Some(number)) => match maildrop.message(number) {
                Some((_, message)) => {
                    let _ = write!(text, "+OK {number} {}", maildrop.unique_id(&message));
                }
                None => return self.fail(NO_SUCH_MESSAGE),
            },
            Command::Dele(number) => match maildrop.message(number) {
                Some((at, _)) => {
                    maildrop.deleted.insert(at);
                    let _ = write!(text, "+OK message {number} deleted");
                }
                None => return self.fail(NO_SUCH_MESSAGE),
            },
            Command::Rset => {
                maildrop.deleted.clear();
                let (count, size) = maildrop.totals();
                let _ = write!(text, "+OK {count} {size}");
            }
            Command::Noop => text.push_str("+OK"),
            Command::Retr(number) => return self.retrieve(number, None),
            Command::Top(number, lines) => return self.retrieve(number, Some(lines)),
            Command::Quit => return self.quit(),
            _ => return self.fail("-ERR you are logged in"),
        }
        self.say(&text);
    }

    fn retrieve(&mut self, number: u32, top: Option<u32>) {
        let State::Transaction(maildrop) = &mut self.state else {
            return;
        };
        let Some((at, message)) = maildrop.message(number) else {
            return self.fail(NO_SUCH_MESSAGE);
        };
        if top.is_none() {
            maildrop.retrieved = (Some(at), maildrop.retrieved.0);
        }
        let maildrop = std::mem::take(maildrop);
        // The answer begins with the first content, so that a failure can still be told.
        self.state = State::Retrieving(maildrop, ContentWriter::new(top), false);
        self.event = Some(Event::Retrieve {
            uid: message.uid,
            size: message.size,
            top: top.is_some(),
        });
    }

    /// The messages behind the one that [`Event::Retrieve`] asks for, in their order, if the client
    /// seems to fetch one after the other: it asked for the one before, or the command for the next one
    /// is here already. So the shell can read ahead.
    pub fn upcoming(&self) -> impl Iterator<Item = Message> {
        let maildrop = match &self.state {
            State::Retrieving(maildrop, writer, _) if !writer.is_top() => Some(maildrop),
            _ => None,
        };
        let run = maildrop.and_then(|maildrop| {
            let (at, before) = (maildrop.retrieved.0?, maildrop.retrieved.1);
            let next = maildrop.behind(at)?;
            let in_order = before.is_some_and(|before| maildrop.behind(before) == Some(at));
            (in_order || self.is_next(next)).then_some((maildrop, next))
        });
        run.into_iter().flat_map(|(maildrop, next)| {
            let all = maildrop.messages.iter().enumerate().skip(next);
            all.filter(|(at, _)| !maildrop.deleted.contains(at))
                .map(|(_, message)| *message)
        })
    }

    /// True if the next line is here and asks for the message at that place.
    fn is_next(&self, at: usize) -> bool {
        let Some(end) = memchr::memchr(b'\n', &self.input) else {
            return false;
        };
        let line = self.input.get(..end).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        matches!(Command::parse(line), Ok(Command::Retr(number)) if number as usize == at + 1)
    }

    /// A piece of the message that [`Event::Retrieve`] asked for. False: no more is wanted.
    pub fn handle_content(&mut self, content: &[u8]) -> bool {
        let State::Retrieving(_, writer, begun) = &mut self.state else {
            return false;
        };
        if !*begun {
            *begun = true;
            self.output.extend_from_slice(b"+OK message follows\r\n");
        }
        writer.write(content, &mut self.output);
        !writer.is_done()
    }

    /// The message is complete.
    pub fn handle_content_end(&mut self) {
        self.handle_content(&[]);
        let before = std::mem::replace(&mut self.state, State::Closed);
        if let State::Retrieving(maildrop, writer, _) = before {
            writer.finish(&mut self.output);
            self.state = State::Transaction(maildrop);
        }
        self.advance();
    }

    /// The message cannot be read. In the middle of one only the end of the connection tells.
    pub fn handle_content_failed(&mut self) {
        self.end_content("-ERR [SYS/TEMP] the message cannot be read at the moment");
    }

    /// The message was deleted elsewhere: to try again does not help, which is what SYS/TEMP would
    /// say (RFC 3206 §4).
    pub fn handle_content_gone(&mut self) {
        self.end_content("-ERR the message is not there any more");
    }

    fn end_content(&mut self, answer: &'static str) {
        let before = std::mem::replace(&mut self.state, State::Closed);
        if let State::Retrieving(maildrop, _, false) = before {
            self.state = State::Transaction(maildrop);
            self.fail(answer);
        }
        self.advance();
    }

    /// RFC 1939 §6: only QUIT deletes.
    fn quit(&mut self) {
        let State::Transaction(maildrop) = &self.state else {
            return;
        };
        let uids: Vec<u32> = maildrop
            .deleted
            .iter()
            .filter_map(|at| maildrop.messages.get(*at))
            .map(|message| message.uid)
            .collect();
        if uids.is_empty() {
            self.say("+OK bye");
            self.state = State::Closed;
        } else {
            self.state = State::Committing;
            self.event = Some(Event::Commit(uids));
        }
    }
}
