use std::net::SocketAddr;

use anyhow::{Result, bail};

use super::line::Lines;
use super::{Sample, sessions};

/// Sessions that each fetch all mail of an account of their own.
#[derive(Debug)]
pub(crate) struct RetrLoad {
    pub(crate) server: SocketAddr,
    /// Logins; as many sessions.
    pub(crate) logins: Vec<String>,
    pub(crate) password: String,
    /// Commands under way at once.
    pub(crate) depth: usize,
    /// Messages of each account that are fetched.
    pub(crate) messages: usize,
}

impl RetrLoad {
    /// Fetches all; each message is an operation.
    pub(crate) fn run(&self) -> Result<Sample> {
        let open = |number: usize| {
            let login = self.logins.get(number).map_or("", String::as_str);
            let mut lines = Lines::connect(self.server)?.large();
            ok(&mut lines)?;
            for command in [
                format!("USER {login}\r\n"),
                format!("PASS {}\r\n", self.password),
            ] {
                lines.send(command.as_bytes())?;
                ok(&mut lines)?;
            }
            Ok(lines)
        };
        sessions(self.logins.len(), open, |_, lines| {
            let mut commands = Vec::new();
            let mut next = 1;
            while next <= self.messages {
                commands.clear();
                let end = (next + self.depth).min(self.messages + 1);
                for number in next..end {
                    commands.extend(format!("RETR {number}\r\n").bytes());
                }
                lines.send(&commands)?;
                for _ in next..end {
                    ok(lines)?;
                    while lines.line()? != b"." {}
                }
                next = end;
            }
            Ok((u64::try_from(self.messages)?, Vec::new()))
        })
    }
}

fn ok(lines: &mut Lines) -> Result<()> {
    let line = lines.line()?;
    if !line.starts_with(b"+OK") {
        bail!("the server said: {}", String::from_utf8_lossy(line));
    }
    Ok(())
}
