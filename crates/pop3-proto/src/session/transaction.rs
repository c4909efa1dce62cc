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
        let Some((_, message)) = maildrop.message(number) else {
            return self.fail(NO_SUCH_MESSAGE);
        };
        let maildrop = std::mem::take(maildrop);
        // The answer begins with the first content, so that a failure can still be told.
        self.state = State::Retrieving(maildrop, ContentWriter::new(top), false);
        self.event = Some(Event::Retrieve {
            uid: message.uid,
            size: message.size,
            top: top.is_some(),
        });
    }

    /// The messages that pipelined RETRs behind this one ask for, as far as they have come, so that
    /// the shell can read ahead.
    pub fn upcoming(&self, most: usize) -> Vec<Message> {
        let State::Retrieving(maildrop, ..) = &self.state else {
            return Vec::new();
        };
        let lines = self.input.split_inclusive(|byte| *byte == b'\n');
        lines
            .take(most)
            .map_while(|line| {
                let line = line.strip_suffix(b"\n")?;
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                match Command::parse(line) {
                    Ok(Command::Retr(number)) => maildrop.message(number),
                    _ => None,
                }
            })
            .map(|(_, message)| message)
            .collect()
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
