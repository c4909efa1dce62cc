//! One command each.

use std::time::Instant;

use super::transfer::{Skip, Start};
use super::{Hello, Session, State, Transaction};
use crate::server::command::{self, Command, CommandError};
use crate::server::{BodyType, CloseReason, Event, params};
use crate::{Refusal, Reply};

impl Session {
    pub(super) fn command_line(&mut self, now: Instant, line: &[u8]) {
        let command = match command::parse(line) {
            Ok(command) => command,
            // A web page can make a browser post SMTP commands to a port that only it can reach.
            Err(CommandError::Http) => {
                return self.close(&CommandError::Http.into(), CloseReason::Errors);
            }
            Err(error) => return self.reply(&error.into()),
        };
        if is_idle(&command) {
            self.idle_commands += 1;
            if self.idle_commands > self.settings.limits.idle_commands {
                return self.close(&Reply::too_many_errors(), CloseReason::Errors);
            }
        }
        match command {
            Command::Auth { mechanism, initial } => self.auth(mechanism, initial),
            Command::Bdat { size, last } => self.bdat(now, size, last),
            Command::Data => self.data(),
            Command::Ehlo(name) => self.ehlo(name),
            Command::Helo(name) => self.helo(name),
            Command::Help => self.reply(&Reply::help()),
            Command::Mail(args) => self.mail(args),
            Command::Noop => self.reply(&Reply::ok()),
            Command::Quit => self.close(&Reply::bye(), CloseReason::Quit),
            Command::Rcpt(args) => self.rcpt(args),
            Command::Rset => self.rset(),
            Command::StartTls => self.start_tls(),
            Command::Vrfy => self.reply(&Reply::verify()),
        }
    }

    /// Ends a transaction, if there is one.
    fn reset(&mut self) {
        if matches!(self.state, State::Mail(_) | State::Between(_)) {
            self.content.clear();
            self.events.push_back(Event::Reset);
        }
        self.state = match self.hello {
            Hello::None => State::Greeted,
            _ => State::Ready,
        };
    }

    /// RFC 5321 §4.1.1.5
    fn rset(&mut self) {
        self.reset();
        self.reply(&Reply::ok());
    }

    /// RFC 5321 §4.1.1.1
    fn helo(&mut self, name: Option<&str>) {
        self.hello = Hello::Helo(name.map(Into::into));
        self.reset();
        let reply = Reply::hello(&self.settings.hostname);
        self.reply(&reply);
    }

    /// RFC 5321 §4.1.1.1
    fn ehlo(&mut self, name: &str) {
        self.hello = Hello::Ehlo(name.into());
        self.reset();
        let mut reply = Reply::hello(&self.settings.hostname)
            .with_line("PIPELINING")
            .with_line(format!("SIZE {}", self.settings.limits.message_size));
        if self.offer.starttls && !self.offer.encrypted {
            reply = reply.with_line("STARTTLS");
        }
        if !self.offer.mechanisms.is_empty() {
            reply = reply.with_line(format!("AUTH {}", self.offer.mechanisms.join(" ")));
        }
        for extension in [
            "ENHANCEDSTATUSCODES",
            "8BITMIME",
            "SMTPUTF8",
            "DSN",
            "BINARYMIME",
            "CHUNKING",
        ] {
            reply = reply.with_line(extension);
        }
        self.reply(&reply);
    }

    /// RFC 3207 §4
    fn start_tls(&mut self) {
        let reply = match &self.state {
            _ if self.offer.encrypted => Reply::bad_sequence("TLS is on already"),
            _ if !self.offer.starttls => Reply::not_implemented(),
            State::Mail(_) | State::Between(_) => Reply::bad_sequence("Not within a transaction"),
            _ => {
                Reply::start_tls().write_to(&mut self.out);
                self.state = State::Handshake;
                self.authenticated = false;
                self.events.push_back(Event::StartTls);
                return;
            }
        };
        self.reply(&reply);
    }

    /// RFC 5321 §4.1.1.2
    fn mail(&mut self, args: &str) {
        match self.state {
            State::Ready => {}
            State::Greeted => return self.reply(&Reply::bad_sequence("Send HELO or EHLO first")),
            _ => return self.reply(&Reply::bad_sequence("Nested MAIL command")),
        }
        let mail = match params::parse_mail(args, &self.settings.domain) {
            Ok(mail) => mail,
            Err(error) => return self.reply(&error.into()),
        };
        if mail
            .size
            .is_some_and(|size| size > self.settings.limits.message_size)
        {
            return self.reply(&Reply::from(&Refusal::TooLarge));
        }
        self.state = State::AskSender(Transaction {
            body: mail.body,
            smtputf8: mail.smtputf8,
            recipients: 0,
            refused: 0,
        });
        self.events.push_back(Event::Sender(mail));
    }

    /// RFC 5321 §4.1.1.3
    fn rcpt(&mut self, args: &str) {
        let State::Mail(transaction) = &mut self.state else {
            return self.reply(&Reply::bad_sequence("Send MAIL first"));
        };
        let rcpt = params::parse_rcpt(args, &self.settings.domain, transaction.smtputf8);
        if rcpt.is_err() {
            transaction.refused += 1;
        }
        match rcpt {
            Err(error) => self.reply(&error.into()),
            Ok(_) if transaction.recipients >= self.settings.limits.recipients => {
                self.reply(&Reply::from(&Refusal::TooManyRecipients));
            }
            Ok(rcpt) => {
                self.state = State::AskRecipient(*transaction);
                self.events.push_back(Event::Recipient(rcpt));
            }
        }
    }

    /// RFC 5321 §4.1.1.4
    fn data(&mut self) {
        let transaction = match &self.state {
            State::Mail(transaction) => *transaction,
            State::Between(_) => {
                return self.reply(&Reply::bad_sequence("DATA does not go with BDAT"));
            }
            _ => return self.reply(&Reply::bad_sequence("Send MAIL and RCPT first")),
        };
        if let Some(reply) = without_recipient(transaction) {
            return self.reply(&reply);
        }
        // RFC 3030 §3
        if transaction.body == BodyType::BinaryMime {
            return self.reply(&Reply::bad_sequence("BINARYMIME needs BDAT"));
        }
        self.state = State::AskBegin(transaction, Start::Data);
        self.events.push_back(Event::Begin);
    }

    /// RFC 3030 §2: the octets come whatever the answer, so they are read in each case.
    fn bdat(&mut self, now: Instant, size: u64, last: bool) {
        let ends = now + self.settings.limits.message_timeout;
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Between(incoming) => self.begin_chunk(now, incoming, size, last),
            State::Mail(transaction) => {
                if let Some(reply) = without_recipient(transaction) {
                    self.skip(Skip::new(size, State::Mail(transaction), reply, ends));
                } else {
                    self.state = State::AskBegin(transaction, Start::Chunk { size, last });
                    self.events.push_back(Event::Begin);
                }
            }
            other => {
                let reply = Reply::bad_sequence("Send MAIL and RCPT first");
                self.skip(Skip::new(size, other, reply, ends));
            }
        }
    }
}

/// Commands that move nothing, of which a client has no need of many.
fn is_idle(command: &Command<'_>) -> bool {
    matches!(
        command,
        Command::Ehlo(_)
            | Command::Helo(_)
            | Command::Help
            | Command::Noop
            | Command::Rset
            | Command::Vrfy
    )
}

/// What to say to DATA or BDAT without a recipient (RFC 5321 §4.1.1.4): 503 if none was named,
/// 554 if all were refused, as pipelining clients expect (RFC 2920 §3.1).
fn without_recipient(transaction: Transaction) -> Option<Reply> {
    match transaction {
        Transaction {
            recipients: 1.., ..
        } => None,
        Transaction { refused: 0, .. } => Some(Reply::bad_sequence("Send RCPT first")),
        _ => Some(Reply::no_valid_recipients()),
    }
}
