//! IMAP, as far as it is needed here.

use std::io;
use std::sync::Arc;

use crate::text::{FIELD, id_in};
use crate::wire::{Cutter, Wire};
use crate::world::{PASSWORD, World};

/// How a command ended that the server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Ok(Vec<Line>),
    /// NO or BAD, in the server's words.
    No(String),
}

/// A response with the literals in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) literals: Vec<Vec<u8>>,
}

/// A message as FETCH tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fetched {
    pub(crate) uid: u32,
    /// Of [`FLAGS`].
    pub(crate) flags: u8,
    pub(crate) content: Vec<u8>,
    pub(crate) id: Option<String>,
}

/// The flags that are set here, by their bits.
pub(crate) const FLAGS: [&str; 4] = ["\\Seen", "\\Flagged", "\\Answered", "$Torture"];

/// A session that has logged in.
#[derive(Debug)]
pub(crate) struct Session {
    wire: Wire,
    next: u32,
}

impl Session {
    /// Connects and logs in; a refused login is an error too.
    pub(crate) fn open(world: &World, cutter: &Arc<Cutter>, account: usize) -> io::Result<Self> {
        let address = world.suite.at(world.suite.ports().imap);
        let mut wire = Wire::connect(cutter, address)?;
        let greeting = wire.line()?;
        let mut session = Self { wire, next: 0 };
        if !greeting.starts_with("* OK") {
            return Err(io::Error::other(greeting));
        }
        let login = format!("LOGIN {} {PASSWORD}", world.address(account));
        match session.command(&login)? {
            Answer::Ok(_) => Ok(session),
            Answer::No(words) => {
                // For now it may fail, but the password is right.
                if words.contains("AUTHENTICATIONFAILED") || words.starts_with("BAD") {
                    world.findings.add(format!("IMAP login: {words}"));
                }
                Err(io::Error::other(words))
            }
        }
    }

    /// A command and its answer.
    pub(crate) fn command(&mut self, command: &str) -> io::Result<Answer> {
        self.next += 1;
        let tag = format!("t{}", self.next);
        self.wire.send(format!("{tag} {command}\r\n").as_bytes())?;
        self.answer(&tag)
    }

    /// A command whose refusal is an error.
    pub(crate) fn ok(&mut self, command: &str) -> io::Result<Vec<Line>> {
        match self.command(command)? {
            Answer::Ok(lines) => Ok(lines),
            Answer::No(words) => Err(io::Error::other(words)),
        }
    }

    /// APPEND with a synchronising literal.
    pub(crate) fn append(&mut self, mailbox: &str, flags: u8, text: &str) -> io::Result<Answer> {
        self.next += 1;
        let tag = format!("t{}", self.next);
        let (names, size) = (flag_names(flags), text.len());
        let line = format!("{tag} APPEND {mailbox} ({names}) {{{size}}}\r\n");
        self.wire.send(line.as_bytes())?;
        let line = self.wire.line()?;
        if !line.starts_with('+') {
            // Untagged data may come first; a tagged line ends it.
            if line.starts_with(&tag) {
                return Ok(Answer::No(line));
            }
            return Err(io::Error::other(line));
        }
        self.wire.send(format!("{text}\r\n").as_bytes())?;
        self.answer(&tag)
    }

    /// UID, flags and the field of messages; with `whole` all of their octets.
    pub(crate) fn fetch(&mut self, uids: &str, whole: bool) -> io::Result<Vec<Fetched>> {
        let what = if whole {
            "BODY.PEEK[]".to_owned()
        } else {
            format!("BODY.PEEK[HEADER.FIELDS ({FIELD})]")
        };
        let lines = self.ok(&format!("UID FETCH {uids} (UID FLAGS {what})"))?;
        Ok(lines.iter().filter_map(fetched).collect())
    }

    fn answer(&mut self, tag: &str) -> io::Result<Answer> {
        let mut lines = Vec::new();
        loop {
            let line = self.logical_line()?;
            let Some(rest) = line
                .text
                .strip_prefix(tag)
                .and_then(|l| l.strip_prefix(' '))
            else {
                if line.text.starts_with("* BYE") {
                    return Err(io::Error::other(line.text));
                }
                lines.push(line);
                continue;
            };
            if !rest.starts_with("OK") {
                return Ok(Answer::No(rest.to_owned()));
            }
            lines.push(line);
            return Ok(Answer::Ok(lines));
        }
    }

    fn logical_line(&mut self) -> io::Result<Line> {
        let mut line = Line {
            text: self.wire.line()?,
            literals: Vec::new(),
        };
        while let Some(size) = literal_size(&line.text) {
            line.literals.push(self.wire.octets(size)?);
            let rest = self.wire.line()?;
            line.text.push_str(&rest);
        }
        Ok(line)
    }
}

fn literal_size(line: &str) -> Option<usize> {
    let (_, size) = line.strip_suffix('}')?.rsplit_once('{')?;
    size.parse().ok()
}

fn fetched(line: &Line) -> Option<Fetched> {
    let uid = number_behind(&line.text, "UID ")?;
    let flags = line.text.split_once("FLAGS (")?.1.split_once(')')?.0;
    let has = |name: &&str| flags.split(' ').any(|flag| flag.eq_ignore_ascii_case(name));
    let bits = FLAGS.iter().enumerate().filter(|(_, name)| has(name));
    let content = line.literals.first()?.clone();
    Some(Fetched {
        uid,
        flags: bits.map(|(bit, _)| 1 << bit).sum(),
        id: id_in(&content),
        content,
    })
}

/// The names of flags, by bits.
pub(crate) fn flag_names(flags: u8) -> String {
    let names = FLAGS.iter().enumerate();
    let names = names.filter(|(bit, _)| flags & (1 << bit) != 0);
    names.map(|(_, name)| *name).collect::<Vec<_>>().join(" ")
}

fn number_behind(text: &str, what: &str) -> Option<u32> {
    let rest = text.split_once(what)?.1;
    let end = rest.find(|c: char| !c.is_ascii_digit());
    rest.get(..end.unwrap_or(rest.len()))?.parse().ok()
}

/// The last number of a response code such as `[APPENDUID 1 2]` or `[COPYUID 1 2 3]` (RFC 4315).
pub(crate) fn uid_in(lines: &[Line], code: &str) -> Option<u32> {
    let line = lines.iter().find(|line| line.text.contains(code))?;
    let inner = line.text.split_once(code)?.1.split_once(']')?.0;
    inner.split(' ').next_back()?.parse().ok()
}
