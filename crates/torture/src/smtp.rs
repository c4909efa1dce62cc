//! Those who send.

use std::io;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use crate::text::{Source, new_id, stuffed, text};
use crate::wire::Wire;
use crate::world::{PASSWORD, World};

/// What keeps a session from going on.
#[derive(Debug)]
enum Broken {
    /// The connection.
    Io,
    /// A reply of 421 or one that a new session may not get.
    Refused,
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self::Io
    }
}

/// Sends from an account of its own until the world stops.
pub(crate) fn run(world: &World, client: usize, seed: u64, pause: Duration) {
    let mut sender = Sender {
        world,
        client,
        rng: StdRng::seed_from_u64(seed),
        number: 0,
        pause,
    };
    while !world.is_stopped() {
        // Broken sessions are what this is about.
        let _ = sender.session();
        World::pause(Duration::from_millis(sender.rng.random_range(5..60)));
    }
}

struct Sender<'a> {
    world: &'a World,
    client: usize,
    rng: StdRng,
    number: u64,
    pause: Duration,
}

impl Sender<'_> {
    fn session(&mut self) -> Result<(), Broken> {
        let world = self.world;
        let with_login = self.rng.random_bool(0.3);
        let ports = world.suite.ports();
        let port = if with_login {
            ports.submission
        } else {
            ports.smtp
        };
        let mut wire = Wire::connect(&world.cutter, world.suite.at(port))?;
        self.expect(&mut wire, "the greeting")?;
        self.command(&mut wire, "EHLO torture.example")?;
        if with_login {
            let login = format!("\0{}\0{PASSWORD}", self.from());
            self.command(&mut wire, &format!("AUTH PLAIN {}", BASE64.encode(login)))?;
        }
        let messages = self.rng.random_range(1..30);
        for _ in 0..messages {
            if world.is_stopped() {
                break;
            }
            self.transaction(&mut wire)?;
            World::pause(self.pause.mul_f64(self.rng.random_range(0.0..2.0)));
        }
        wire.send(b"QUIT\r\n")?;
        self.expect(&mut wire, "QUIT")?;
        Ok(())
    }

    fn from(&self) -> String {
        self.world.address(self.client).to_owned()
    }

    fn transaction(&mut self, wire: &mut Wire) -> Result<(), Broken> {
        self.number += 1;
        let size = match self.rng.random_range(0..1000) {
            0..2 => 5_000_000,
            2..12 => 1_200_000,
            12..50 => 150_000,
            _ => self.rng.random_range(300..9000),
        };
        let id = new_id(Source::Smtp, self.client, self.number, size);
        let recipients = self.recipients();
        let from = self.from();
        let text = text(&id, &from);
        let chunked = self.rng.random_bool(0.3);
        let mut lines = vec![format!("MAIL FROM:<{from}>")];
        let to = |account: &usize| format!("RCPT TO:<{}>", self.world.address(*account));
        lines.extend(recipients.iter().map(to));
        if !chunked {
            lines.push("DATA".to_owned());
        }
        self.world.ledger.begins(&id, recipients);
        let replies = self.exchange(wire, &lines)?;
        let is_wanted = |(code, line): &(u16, &String)| match line.as_str() {
            "DATA" => *code == 354,
            _ => *code == 250,
        };
        if !replies
            .iter()
            .copied()
            .zip(&lines)
            .all(|pair| is_wanted(&pair))
        {
            self.world.ledger.refused();
            return self.give_up(wire, replies.last() == Some(&354));
        }
        if chunked {
            wire.send(format!("BDAT {} LAST\r\n", text.len()).as_bytes())?;
            self.world.ledger.ends(&id);
            wire.send(text.as_bytes())?;
        } else {
            wire.send(stuffed(&text).as_bytes())?;
            self.world.ledger.ends(&id);
            wire.send(b".\r\n")?;
        }
        match self.reply(wire, &id)? {
            250 => self.world.ledger.accepted(&id),
            _ => self.world.ledger.refused_at_end(),
        }
        Ok(())
    }

    /// Mostly one account, often some, and now and then all; none twice.
    fn recipients(&mut self) -> Vec<usize> {
        let mut all: Vec<usize> = (0..self.world.accounts.len()).collect();
        all.shuffle(&mut self.rng);
        let count = match self.rng.random_range(0..100) {
            0..70 => 1,
            70..99 => 4,
            _ => all.len(),
        };
        all.truncate(count);
        all
    }

    /// Sends lines, together or each after the last one's reply, and gives the codes.
    fn exchange(&mut self, wire: &mut Wire, lines: &[String]) -> Result<Vec<u16>, Broken> {
        let mut codes = Vec::with_capacity(lines.len());
        if self.rng.random_bool(0.5) {
            let all = lines.join("\r\n") + "\r\n";
            wire.send(all.as_bytes())?;
            for line in lines {
                codes.push(self.reply(wire, line)?);
            }
            return Ok(codes);
        }
        for line in lines {
            wire.send(format!("{line}\r\n").as_bytes())?;
            let code = self.reply(wire, line)?;
            codes.push(code);
            if code >= 400 {
                break;
            }
        }
        Ok(codes)
    }

    /// Nothing of a transaction is to come; behind 354 only a new session is sure of that.
    fn give_up(&mut self, wire: &mut Wire, has_begun: bool) -> Result<(), Broken> {
        if has_begun {
            return Err(Broken::Refused);
        }
        self.command(wire, "RSET")
    }

    fn command(&mut self, wire: &mut Wire, line: &str) -> Result<(), Broken> {
        wire.send(format!("{line}\r\n").as_bytes())?;
        self.expect(wire, line)
    }

    fn expect(&mut self, wire: &mut Wire, what: &str) -> Result<(), Broken> {
        if self.reply(wire, what)? >= 400 {
            self.world.ledger.refused();
            return Err(Broken::Refused);
        }
        Ok(())
    }

    /// A reply's code. Nothing here is wrong for good, so none may say so.
    fn reply(&mut self, wire: &mut Wire, to: &str) -> Result<u16, Broken> {
        loop {
            let line = wire.line()?;
            if line.as_bytes().get(3) == Some(&b'-') {
                continue;
            }
            let code = line
                .get(..3)
                .and_then(|code| code.parse().ok())
                .unwrap_or(0);
            // What is pipelined behind a refused command is out of order, and DATA without a
            // recipient has a reply of its own (RFC 5321 §3.3).
            let is_out_of_order = code == 503 || (code == 554 && to == "DATA");
            if !(200..500).contains(&code) && !is_out_of_order {
                let to = to.get(..60).unwrap_or(to);
                self.world.findings.add(format!("SMTP: {line} (to {to})"));
            }
            return if code == 421 {
                Err(Broken::Refused)
            } else {
                Ok(code)
            };
        }
    }
}
